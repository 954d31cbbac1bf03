"""The one database: SQLite in a file, or PostgreSQL that several gateways share."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from lmaas.broker_config import extras
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.at_rest.values import Values
from lmaas.producer.gateway.settings import STATE_FILE, GatewaySettings
from lmaas.producer.gateway.state.migrations import upgrade

#: Every table of the gateway. Constraints have names, so that migrations can name them.
METADATA: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: The SQLite file in the state folder, and what the one holds who migrates it.
FILE: Final = STATE_FILE
_LOCK: Final = "state.lock"
#: The same for PostgreSQL: any number that nobody else takes for an advisory lock.
_LOCK_NUMBER: Final = 0x6C6D6161
#: Seconds that a writer waits for another process to end its transaction.
_PATIENCE: Final = 30.0
#: Seconds that PostgreSQL may take to accept a connection.
_CONNECT_TIMEOUT: Final = 10.0
#: Execution option of transactions that only read; SQLite lets those run beside a writer.
_READS: Final = "lmaas_reads"
#: Execution option of all connections: how values are kept.
_VALUES: Final = "lmaas_values"


class State:
    """The database and the folder beside it.

    >>> async with State(settings) as state:
    ...     async with state.writing() as connection:
    ...         await connection.execute(...)
    """

    def __init__(self, settings: GatewaySettings, engine: Settings | None = None) -> None:
        """`engine` says whether what is kept is sealed.

        Raises SettingsError when there is no folder, `database` is no URL of one, or the payload
        keys cannot be used.
        """
        self.at_rest = AtRest(engine)
        self.folder = settings.state_folder
        self._url = _url(settings.database, self.folder)
        self._engine: AsyncEngine | None = None

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def results(self) -> Path:
        """The folder of what jobs have answered."""
        return self.folder / "results"

    @property
    def files(self) -> Path:
        """The folder of files that were sent up for batches, and of what came of them."""
        return self.folder / "files"

    @property
    def uploads(self) -> Path:
        """The folder of what is sent up, while it is read."""
        return self.folder / "uploads"

    async def __aenter__(self) -> Self:
        """Makes the folder and the tables. Raises SettingsError when one of them cannot be made."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{self.folder}: {error.strerror}; state cannot be kept there (gateway.folder)"
            ) from error
        engine = _engine(self._url)
        sa.event.listen(engine.sync_engine, "handle_error", _in_short)
        try:
            await self._migrate(engine)
        except BaseException as error:
            await engine.dispose()
            if isinstance(error, DBAPIError | OSError):
                raise SettingsError(self._unusable(error)) from error
            raise
        if self.is_sqlite:
            look = _there(self.folder.absolute() / FILE)
            sa.event.listen(engine.sync_engine, "do_connect", look)
            sa.event.listen(engine.sync_engine, "checkout", look)
        self._engine = engine.execution_options(**{_VALUES: self.at_rest.values})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def empty_log(self) -> bool:
        """What was deleted leaves SQLite's log, too. False: others were at work all the time."""
        if not self.is_sqlite:
            return True
        async with self._open.connect() as connection:
            rows = await _pragma(connection, "wal_checkpoint(TRUNCATE)")
        return bool(rows[0][0] == 0)

    async def _migrate(self, engine: AsyncEngine) -> None:
        if not self.is_sqlite:
            async with engine.begin() as connection:
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_NUMBER)))
                await connection.run_sync(upgrade, METADATA)
            return
        with await asyncio.to_thread(_locked, self.folder / _LOCK):
            (self.folder / FILE).touch(mode=0o600)
            # It stays with the file.
            async with engine.connect() as connection:
                await _pragma(connection, "journal_mode = WAL")
            async with engine.begin() as connection:
                await connection.run_sync(upgrade, METADATA)

    def _unusable(self, error: DBAPIError | OSError) -> str:
        why = error.orig if isinstance(error, DBAPIError) else error
        if self.is_sqlite:
            return (
                f"{self.folder / FILE}: {why}; the gateway's state cannot be kept there (setting "
                "gateway.folder): put back a copy of that file, or move it away to begin anew"
            )
        url = self._url.set(drivername="postgresql").render_as_string(hide_password=True)
        return f"gateway.database {url}: {why}; does it run, and is this URL right?"

    @property
    def _open(self) -> AsyncEngine:
        if self._engine is None:
            raise RuntimeError("the state is not open")
        return self._engine

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction. It is committed at the end, and rolled back by an exception.

        On SQLite there is one at a time, of all processes: nothing slow should be done in it.
        """
        async with self._open.begin() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction that only reads. It sees one state, and waits for no writer."""
        async with self._open.execution_options(**{_READS: True}).begin() as connection:
            yield connection


async def _pragma(connection: AsyncConnection, pragma: str) -> list[Any]:
    """The rows of one that SQLite takes outside of a transaction alone."""
    raw = await connection.get_raw_connection()
    cursor: Any = await raw.driver_connection.execute(f"PRAGMA {pragma}")  # type: ignore[union-attr]
    rows = await cursor.fetchall()
    await cursor.close()
    return list(rows)


def values_of(connection: AsyncConnection) -> Values:
    """How what this connection of a State writes and reads is kept."""
    values: Values = connection.sync_connection.get_execution_options()[_VALUES]  # type: ignore[union-attr]
    return values


def _url(database: str | None, folder: Path) -> sa.URL:
    if database is None:
        return sa.URL.create("sqlite+aiosqlite", database=str(folder.absolute() / FILE))
    try:
        url = sa.make_url(database)
    except ArgumentError as error:
        raise SettingsError("gateway.database is no URL of a database") from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise SettingsError(
            f"gateway.database names {url.drivername!r}; it must be postgresql://..., or be left "
            "out for SQLite in the state folder"
        )
    if problem := extras.lacking("asyncpg"):
        raise SettingsError(problem)
    return url.set(drivername="postgresql+asyncpg")


def _engine(url: sa.URL) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        connect = {"async_creator_fn": _connected, "timeout": _CONNECT_TIMEOUT}
        return create_async_engine(
            url, pool_pre_ping=True, hide_parameters=True, connect_args=connect
        )
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": _PATIENCE})
    sa.event.listen(engine.sync_engine, "connect", _prepare)
    sa.event.listen(engine.sync_engine, "begin", _begin)
    return engine


async def _connected(*arguments: Any, **named: Any) -> Any:
    """A connection to PostgreSQL. Every failure is an error of the driver, as SQLAlchemy expects.

    A server that cannot be reached is an OSError to asyncpg.
    """
    import asyncpg

    try:
        return await asyncpg.connect(*arguments, **named)
    except OSError as error:  # TimeoutError is one, without words
        why = str(error) or f"no answer for {_CONNECT_TIMEOUT:g} s"
        raise asyncpg.InterfaceError(f"PostgreSQL cannot be reached: {why}") from error


def _prepare(connection: Any, _record: object) -> None:
    driver = connection.driver_connection
    driver._execute = _to_its_end(driver._execute)
    driver.close = _rolled_back(driver)
    # The sqlite3 module begins no transactions of its own: it would begin them too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")  # what was committed survives a lost power supply
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")  # what was deleted is not left on free pages
    cursor.close()


def _there(path: Path) -> Callable[..., None]:
    """Looks, before each transaction, whether the file of the database is the one that it was.

    SQLite goes on in a file that was deleted, and what it is told then is lost at its end; a new
    connection would make an empty one.
    """
    known = _identity(path)

    def look(*_: object) -> None:
        if _identity(path) != known:
            gone = FileNotFoundError(f"{path} was deleted or replaced; start the gateway again")
            raise OperationalError(None, None, gone) from gone

    return look


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _in_short(context: sa.engine.ExceptionContext) -> None:
    """Errors are for our users: without a link to SQLAlchemy's documentation."""
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.code = None


def _to_its_end(step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A step of aiosqlite that has ended when a task is cancelled over it.

    A step goes on in its thread whoever waits for it. A caller that leaves in the middle, as one
    whose request is cancelled, does not know whether a transaction has begun, and SQLAlchemy then
    leaves some open, which keep the database locked.
    """

    async def whole(*arguments: Any, **named: Any) -> Any:
        task = asyncio.ensure_future(step(*arguments, **named))
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            task.exception()  # nobody wants to hear of it
            raise cancelled
        return task.result()

    return whole


def _rolled_back(driver: Any) -> Callable[[], Awaitable[None]]:
    """Closes a connection of aiosqlite after its transaction.

    SQLite keeps a connection that is closed while something refers to one of its cursors, as the
    traceback of an error does, and with it the transaction and its lock.
    """
    close = driver.close

    async def rolled_back() -> None:
        with contextlib.suppress(Exception):
            await driver.rollback()
        await close()

    return rolled_back


def _begin(connection: sa.Connection) -> None:
    # Who will write says so at once: a reader that becomes a writer may be refused at any time.
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _locked(path: Path) -> contextlib.AbstractContextManager[None]:
    """Returns when no other process holds the file; it is held until the context is left."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise

    @contextlib.contextmanager
    def held() -> Iterator[None]:
        with file:
            yield

    return held()
