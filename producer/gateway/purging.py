"""Removes from the gateway's state what is older than a moment, before its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import sqlalchemy as sa

from lmaas.producer.gateway.jobs import result_file
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state.batches import batches, in_use
from lmaas.producer.gateway.state.deliveries import deliveries
from lmaas.producer.gateway.state.files import files
from lmaas.producer.gateway.state.idempotency import KEPT, requests
from lmaas.producer.gateway.state.jobs import jobs
from lmaas.producer.gateway.state.received import received
from lmaas.producer.purging import Purged

#: Seconds for which webhooks are known whose hook the settings do not have any more.
_FORMER: Final = 30 * 86_400.0
#: Rows of one statement.
_MOST: Final = 500


class _Old(NamedTuple):
    """Rows that are older than a moment, and over."""

    what: str
    table: sa.Table
    condition: sa.ColumnElement[bool]
    #: Deletes what lies beside the database for the rows with these ids.
    remove: Callable[[State, Sequence[str]], None] | None = None


async def older(settings: GatewaySettings, before: float, *, dry: bool = False) -> Purged:
    """Remove jobs, batches, files, callbacks and remembered answers from before a moment.

    That is when a job, batch or callback ended, and when the others were made. What has not ended
    stays, and so do the files of batches that have not. `before` is in Unix seconds. `dry`: nothing
    is changed. Raises SettingsError when the state cannot be used, SQLAlchemyError and OSError.
    """
    purged = Purged()
    async with State(settings) as state:
        place = f"gateway {settings.state_folder}"
        old = _old(settings, before)
        async with state.reading() as connection:
            for one in old:
                query = sa.select(sa.func.count()).select_from(one.table).where(one.condition)
                purged.note(place, one.what, await connection.scalar(query) or 0)
        if not dry:
            for one in old:
                await _remove(state, one)
            if not await state.empty_log():
                purged.remains.append(
                    f"{place}: the log of its database is in use, and may have what was removed; "
                    "run this again"
                )
    return purged


async def remaining(settings: GatewaySettings) -> list[str]:
    """What is said of ids, which are not searched for here: what there is, and until when.

    Raises as `older`.
    """
    kept = [
        ("jobs with results", jobs, jobs.c.expires),
        ("files", files, files.c.expires),
        ("callbacks", deliveries, deliveries.c.ended + settings.callbacks.keep),
        ("answers with an Idempotency-Key", requests, requests.c.created + KEPT),
        ("webhooks that came in", received, received.c.expires),
    ]
    told = []
    async with State(settings) as state, state.reading() as connection:
        for what, table, ends in kept:
            query = sa.select(sa.func.count(), sa.func.max(ends)).select_from(table)
            count, end = (await connection.execute(query)).one()
            if count:
                until = f", until {datetime.fromtimestamp(end).astimezone():%F %R}" if end else ""
                told.append(f"{count:,} {what}{until}")
    if not told:
        return []
    place = f"gateway {settings.state_folder}"
    return [f"{place}: not searched for ids: {'; '.join(told)}; --older-than removes what is over"]


async def _remove(state: State, old: _Old) -> None:
    """What lies beside the database first: who is interrupted finds the rows again."""
    names: list[str] = []
    if old.remove:
        async with state.reading() as connection:
            query = sa.select(old.table.c.id).where(old.condition)
            names = list(await connection.scalars(query))
        await asyncio.to_thread(old.remove, state, names)
    async with state.writing() as connection:
        delete = sa.delete(old.table).where(old.condition)
        if old.remove is None:
            await connection.execute(delete)
        for start in range(0, len(names), _MOST):
            some = old.table.c.id.in_(names[start : start + _MOST])
            await connection.execute(delete.where(some))


def _remove_results(state: State, names: Sequence[str]) -> None:
    result_file.remove(state.results, names)


def _remove_files(state: State, names: Sequence[str]) -> None:
    for name in names:
        (state.files / name).unlink(missing_ok=True)


def _old(settings: GatewaySettings, before: float) -> list[_Old]:
    columns = received.c
    known = [
        (columns.hook == name) & (columns.expires < before + hook.remember)
        for name, hook in settings.hooks.items()
    ]
    former = columns.hook.not_in(list(settings.hooks)) & (columns.expires < before + _FORMER)
    return [
        _Old(
            "jobs with results",
            jobs,
            (jobs.c.ended < before) & sa.not_(jobs.c.on_broker),
            _remove_results,
        ),
        _Old("batches", batches, batches.c.ended < before),
        _Old(
            "files",
            files,
            (files.c.created < before) & files.c.id.not_in(in_use()),
            _remove_files,
        ),
        _Old("callbacks", deliveries, deliveries.c.ended < before),
        _Old(
            "answers with an Idempotency-Key",
            requests,
            (requests.c.created < before) & requests.c.holder.is_(None),
        ),
        _Old(
            "webhooks that came in",
            received,
            sa.or_(former, *known) & columns.status.is_not(None),
        ),
    ]
