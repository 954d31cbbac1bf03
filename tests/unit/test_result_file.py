"""The file of a job's results: chunks are there whole, once, and in the order of the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaas.broker_config.messages import ItemError, Reply, Result
from lmaas.producer.answers import Chunk
from lmaas.producer.gateway.jobs.result_file import (
    Held,
    ResultFile,
    end_of,
    in_order,
    index_path,
    lines_path,
    remove,
)

ERROR = ItemError(code="internal", message="boom")


def chunk(number: int, *results: Result, amends: bool = False) -> Chunk:
    return Chunk(number, Reply(model="m", results=list(results)), amends)


def good(name: str) -> Result:
    return Result(id=name, label="positive", score=0.5)


def bad(name: str) -> Result:
    return Result(id=name, error=ERROR)


FIRST, SECOND = chunk(1, good("c"), bad("d")), chunk(0, good("a"), good("b"))


def test_chunks_are_there_once_and_can_be_read_in_order(tmp_path: Path) -> None:
    assert end_of(tmp_path, "j") == 0
    with ResultFile(tmp_path, "j") as file:
        for one in (FIRST, SECOND, FIRST):
            file.append(one)
        file.sync()
        assert (file.counts.done, file.counts.failed) == (4, 1)
        assert [one.id for one in file.counts.errors] == ["d"]
    assert end_of(tmp_path, "j") == lines_path(tmp_path, "j").stat().st_size
    assert [[one.id for one in part] for part in in_order(tmp_path, "j")] == [
        ["a", "b"],
        ["c", "d"],
    ]


def test_replays_take_the_places_of_failures_once(tmp_path: Path) -> None:
    replay = chunk(1, good("d"), amends=True)
    with ResultFile(tmp_path, "j") as file:
        for one in (FIRST, replay, replay):
            file.append(one)
        assert (file.counts.done, file.counts.failed, file.counts.errors) == (2, 0, [])
    with ResultFile(tmp_path, "j") as file:
        file.append(replay)
        assert file.counts.failed == 0
    assert list(in_order(tmp_path, "j")) == [[good("c"), good("d")]]


@pytest.mark.parametrize("cut", range(1, 25))
def test_what_is_half_written_is_cut_off(tmp_path: Path, cut: int) -> None:
    """At any byte of the last chunk's lines, or of its record."""
    with ResultFile(tmp_path, "j") as file:
        file.append(FIRST)
        whole = end_of(tmp_path, "j")
        file.append(SECOND)
    index, lines = index_path(tmp_path, "j"), lines_path(tmp_path, "j")
    index.write_bytes(index.read_bytes()[:-cut])
    assert end_of(tmp_path, "j") == whole
    with ResultFile(tmp_path, "j") as file:
        assert lines.stat().st_size == whole
        assert (file.counts.done, file.counts.failed) == (2, 1)
        assert [one.id for one in file.counts.errors] == ["d"]
        file.append(FIRST)
        file.append(SECOND)
        assert file.counts.done == 4
    lines.write_bytes(lines.read_bytes()[:-cut])
    with ResultFile(tmp_path, "j") as file:
        assert file.counts.done == 2
        assert end_of(tmp_path, "j") == lines.stat().st_size == whole


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    with ResultFile(tmp_path, "j"), pytest.raises(Held):
        ResultFile(tmp_path, "j")
    with ResultFile(tmp_path, "j") as file:
        file.append(FIRST)
    remove(tmp_path, ["j"])
    assert list(tmp_path.iterdir()) == []
