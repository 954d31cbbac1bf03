"""The supervisor: processes that die are started again, those that cannot start are told."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from lmaas.broker_config.errors import LmaasError
from lmaas.service import supervisor
from lmaas.service.supervisor import Ending, Restarts, Supervisor

LIMIT = 30


Ready = Callable[[], None]


def wait_for_the_end(folder: str, index: int, ready: Ready) -> None:
    """A worker that is ready, says so, and drains when it is asked to."""

    def drained(*_: object) -> None:
        Path(folder, f"{os.getpid()}.drained").touch()
        sys.exit(0)

    signal.signal(signal.SIGTERM, drained)
    ready()
    new = Path(folder, f"{os.getpid()}.new")
    new.write_text(str(index))
    new.rename(new.with_suffix(".up"))  # whoever sees it finds the number in it
    while True:
        signal.pause()


def ignore_everything(folder: str, index: int, ready: Ready) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, f"{os.getpid()}.up").touch()
    while True:
        signal.pause()


def fail(folder: str, index: int, ready: Ready) -> None:
    Path(folder, f"{os.getpid()}.up").touch()
    os._exit(7)


def fail_with_a_reason(folder: str, index: int, tell: Callable[..., None]) -> None:
    number = len(list(Path(folder).glob("*.up")))
    Path(folder, f"{os.getpid()}.up").touch()
    tell("no broker" if number < 2 else "no model")
    os._exit(7)


def fail_when_ready(folder: str, index: int, ready: Ready) -> None:
    """Five lives that end at once; the sixth one waits."""
    number = len(list(Path(folder).glob("*.up")))
    if number == 5:
        wait_for_the_end(folder, index, ready)
    ready()
    Path(folder, f"{os.getpid()}.up").touch()
    os._exit(7)


def fail_for_good(folder: str, index: int, ready: Ready) -> None:
    Path(folder, f"{os.getpid()}.up").touch()
    os._exit(supervisor.PERMANENT)


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
    target: Callable[[str, int, Ready], None], folder: Path, count: int
) -> AsyncIterator[Supervisor]:
    keeper = Supervisor(target, (str(folder),), count)
    task = asyncio.create_task(keeper.run())
    try:
        await until(lambda: len(up(folder)) >= count)
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


async def test_a_signal_to_the_group_that_the_workers_hear_first_starts_none_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "SAME_SIGNAL", LIMIT)
    async with running(wait_for_the_end, tmp_path, 2) as keeper:
        for pid in up(tmp_path):
            os.kill(pid, signal.SIGTERM)
        await until(lambda: not any(psutil.pid_exists(pid) for pid in up(tmp_path)))
        keeper.stop()
    assert drained(tmp_path) == up(tmp_path)
    assert len(up(tmp_path)) == 2
    assert not [r for r in caplog.records if getattr(r, "action", "") == "worker_ended"]


async def test_a_process_that_was_killed_is_started_again(tmp_path: Path) -> None:
    async with running(wait_for_the_end, tmp_path, 2) as keeper:
        first = up(tmp_path)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(up(tmp_path)) == 3)
        (third,) = up(tmp_path) - first
        keeper.stop()
    assert drained(tmp_path) == first - {victim} | {third}


async def test_processes_have_numbers_and_the_next_one_has_that_of_the_last(
    tmp_path: Path,
) -> None:
    async with running(wait_for_the_end, tmp_path, 2) as keeper:
        numbers = {pid: (tmp_path / f"{pid}.up").read_text() for pid in up(tmp_path)}
        assert sorted(numbers.values()) == ["0", "1"]
        victim = min(numbers)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(up(tmp_path)) == 3)
        assert (tmp_path / f"{youngest(tmp_path)}.up").read_text() == numbers[victim]
        keeper.stop()


async def test_bad_starts_in_a_row_end_everything_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        LmaasError, match="ended 3 times before it was ready, last with exit code 7"
    ):
        async with asyncio.timeout(LIMIT):
            await Supervisor(fail, (str(tmp_path),), 1).run()
    assert len(up(tmp_path)) == 3


async def test_a_reason_is_told_once_and_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LmaasError, match="3 times"):
        async with asyncio.timeout(LIMIT):
            await Supervisor(fail_with_a_reason, (str(tmp_path),), 1).run()
    told = [r.getMessage() for r in caplog.records if getattr(r, "action", "") == "worker_ended"]
    start = "worker process 0 ended with exit code 7, never ready"
    assert told == [
        f"{start}: no broker", f"{start}, for a reason that was told", f"{start}: no model"
    ]  # fmt: skip


async def test_a_process_that_was_ready_is_started_again_however_often_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lmaas.workers")
    async with running(fail_when_ready, tmp_path, 1) as keeper:
        await until(lambda: len(up(tmp_path)) == 6)
        keeper.stop()
    assert len(drained(tmp_path)) == 1
    told = [r.getMessage() for r in caplog.records if getattr(r, "action", "") == "worker_ended"]
    assert len(told) == 5
    assert all("worker process 0 ended with exit code 7, ready for 0" in line for line in told)


def ended(code: int, ready: float | None = None) -> Ending:
    return Ending(code, ready)


@pytest.mark.parametrize(
    ("endings", "pauses"),
    [
        ([ended(-9, 60.0)] * 3, [0, 0, 0]),
        ([ended(1, 1.0)] * 8, [0, 0.5, 1, 2, 4, 8, 10, 10]),
        ([ended(1, 1.0), ended(1, 1.0), ended(-9, 60.0), ended(1, 1.0)], [0, 0.5, 0, 0.5]),
        ([ended(1), ended(1)], [0.5, 1]),
        ([ended(1), ended(1), ended(-9, 60.0), ended(1), ended(1)], [0.5, 1, 0, 0.5, 1]),
    ],
)
def test_pauses_grow_while_lives_are_short(
    monkeypatch: pytest.MonkeyPatch, endings: list[Ending], pauses: list[float]
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.5)
    restarts = Restarts()
    assert [restarts.pause(ending) for ending in endings] == pauses


@pytest.mark.parametrize("code", [1, supervisor.PERMANENT])
def test_what_cannot_start_any_more_does_not_end_the_others_that_are_ready(code: int) -> None:
    restarts = Restarts()
    restarts.pause(ended(-9, 60.0), others=True)
    pauses = [restarts.pause(ended(code), others=True) for _ in range(9)]
    assert pauses[supervisor.BAD_STARTS :] == [supervisor.LAST_PAUSE] * 6
    with pytest.raises(LmaasError):
        restarts.pause(ended(code))


def test_what_could_never_start_ends_the_others_as_well() -> None:
    with pytest.raises(LmaasError, match="cannot start"):
        Restarts().pause(ended(supervisor.PERMANENT), others=True)


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "signal SIGKILL"), (-40, "signal 40"), (7, "exit code 7")]
)
def test_how_it_ended_is_told_by_name(code: int, words: str) -> None:
    assert str(ended(code)) == words


async def test_what_starting_again_would_not_mend_ends_everything_at_once(tmp_path: Path) -> None:
    async with asyncio.timeout(LIMIT):
        with pytest.raises(LmaasError, match="cannot start"):
            await Supervisor(fail_for_good, (str(tmp_path),), 1).run()
    assert len(up(tmp_path)) == 1


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
