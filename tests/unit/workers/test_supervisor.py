"""The supervisor: processes that die are started again, those that cannot start are told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from broker_config.errors import LmaasError
from workers import supervisor
from workers.supervisor import Supervisor

LIMIT = 30


def wait_for_the_end(folder: str) -> None:
    """A worker that says that it is there, and drains when it is asked to."""

    def drained(*_: object) -> None:
        Path(folder, f"{os.getpid()}.drained").touch()
        sys.exit(0)

    signal.signal(signal.SIGTERM, drained)
    Path(folder, f"{os.getpid()}.up").touch()
    while True:
        signal.pause()


def ignore_everything(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, f"{os.getpid()}.up").touch()
    while True:
        signal.pause()


def fail(folder: str) -> None:
    Path(folder, f"{os.getpid()}.up").touch()
    os._exit(7)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)


def up(folder: Path) -> set[int]:
    """Processes that were there."""
    return {int(path.stem) for path in folder.glob("*.up")}


def drained(folder: Path) -> set[int]:
    return {int(path.stem) for path in folder.glob("*.drained")}


def youngest(folder: Path) -> int:
    return max(up(folder), key=lambda pid: (folder / f"{pid}.up").stat().st_mtime_ns)


async def until(condition: Callable[[], bool]) -> None:
    """Processes tell through files: there is no event to await."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    target: Callable[[str], None], folder: Path, count: int
) -> AsyncIterator[Supervisor]:
    keeper = Supervisor(target, (str(folder),), count)
    task = asyncio.create_task(keeper.run())
    try:
        await until(lambda: len(up(folder)) == count)
        yield keeper
        async with asyncio.timeout(LIMIT):
            await task
    finally:
        keeper.force()
        task.cancel()
        await asyncio.wait([task])


async def test_stop_lets_every_process_drain(tmp_path: Path) -> None:
    async with running(wait_for_the_end, tmp_path, 2) as keeper:
        keeper.stop()
    assert drained(tmp_path) == up(tmp_path)
    assert not any(psutil.pid_exists(pid) for pid in up(tmp_path))


async def test_a_process_that_was_killed_is_started_again(tmp_path: Path) -> None:
    async with running(wait_for_the_end, tmp_path, 2) as keeper:
        first = up(tmp_path)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(up(tmp_path)) == 3)
        (third,) = up(tmp_path) - first
        keeper.stop()
    assert drained(tmp_path) == first - {victim} | {third}


async def test_a_life_that_was_long_enough_is_no_bad_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "WELL_STARTED", 0.0)
    monkeypatch.setattr(supervisor, "BAD_STARTS", 2)
    async with running(wait_for_the_end, tmp_path, 1) as keeper:
        for count in (2, 3):
            os.kill(
                max(up(tmp_path), key=lambda pid: (tmp_path / f"{pid}.up").stat().st_mtime_ns), 9
            )
            await until(lambda count=count: len(up(tmp_path)) == count)
        keeper.stop()


async def test_bad_starts_in_a_row_end_everything_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        LmaasError, match="ended 3 times soon after its start, last with exit code 7"
    ):
        async with asyncio.timeout(LIMIT):
            await Supervisor(fail, (str(tmp_path),), 1).run()
    assert len(up(tmp_path)) == 3


async def test_force_ends_what_does_not_drain(tmp_path: Path) -> None:
    async with running(ignore_everything, tmp_path, 2) as keeper:
        keeper.stop()
        keeper.force()
    assert not any(psutil.pid_exists(pid) for pid in up(tmp_path))


async def test_a_cancelled_supervisor_leaves_no_process(tmp_path: Path) -> None:
    task = asyncio.create_task(Supervisor(ignore_everything, (str(tmp_path),), 2).run())
    await until(lambda: len(up(tmp_path)) == 2)
    processes = [psutil.Process(pid) for pid in up(tmp_path)]
    task.cancel()
    await asyncio.wait([task])
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, LIMIT)
    assert alive == []
