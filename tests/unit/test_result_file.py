"""The file of a job's results: chunks are there whole, once, and in the order of the job."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest

from lmaas.broker_config.errors import SealError
from lmaas.broker_config.messages import ItemError, Reply, Result
from lmaas.broker_config.sealing import line_of_new_key
from lmaas.broker_config.settings import Settings
from lmaas.producer.answers import Chunk
from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.jobs.result_file import Held, ResultFile, remove
from lmaas.producer.gateway.jobs.result_format import index_path, lines_path
from lmaas.producer.gateway.jobs.result_reader import ResultReader, end_of, in_order
from tests.payload_keys import new_keys

ERROR = ItemError(code="internal", message="boom")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_keys(tmp_path_factory.mktemp("keys") / "payload.keys")


@pytest.fixture(params=["plain", "sealed"])
def at_rest(request: pytest.FixtureRequest, keys: Path) -> AtRest:
    return AtRest(Settings(payload_keys=str(keys) if request.param == "sealed" else None))


def everything(folder: Path, at_rest: AtRest) -> bytes:
    """As somebody reads it who asks for a few bytes at a time."""
    found = b""
    with ResultReader(folder, "j", at_rest) as reader:
        while len(found) < end_of(folder, "j"):
            found += reader.read(len(found), 7)
    return found


def chunk(number: int, *results: Result, amends: bool = False) -> Chunk:
    return Chunk(number, Reply(model="m", results=list(results)), amends)


def good(name: str) -> Result:
    return Result(id=name, label="positive", score=0.5)


def bad(name: str) -> Result:
    return Result(id=name, error=ERROR)


FIRST, SECOND = chunk(1, good("c"), bad("d")), chunk(0, good("a"), good("b"))


def test_chunks_are_there_once_and_can_be_read_in_order(tmp_path: Path, at_rest: AtRest) -> None:
    assert end_of(tmp_path, "j") == 0
    with ResultFile(tmp_path, "j", at_rest) as file:
        for one in (FIRST, SECOND, FIRST):
            file.append(one)
        file.finish()
        assert (file.counts.done, file.counts.failed) == (4, 1)
        assert [one.id for one in file.counts.errors] == ["d"]
    lines = b"".join(
        msgspec.json.encode(one) + b"\n" for one in [good("c"), bad("d"), good("a"), good("b")]
    )
    assert everything(tmp_path, at_rest) == lines
    assert at_rest.is_sealed == (b"positive" not in lines_path(tmp_path, "j").read_bytes())
    assert [[one.id for one in part] for part in in_order(tmp_path, "j", at_rest)] == [
        ["a", "b"],
        ["c", "d"],
    ]


def test_replays_take_the_places_of_failures_once(tmp_path: Path, at_rest: AtRest) -> None:
    replay = chunk(1, good("d"), amends=True)
    with ResultFile(tmp_path, "j", at_rest) as file:
        for one in (FIRST, replay, replay):
            file.append(one)
        file.finish()
        assert (file.counts.done, file.counts.failed, file.counts.errors) == (2, 0, [])
    with ResultFile(tmp_path, "j", at_rest) as file:
        file.append(replay)
        assert file.counts.failed == 0
        file.finish()
    assert list(in_order(tmp_path, "j", at_rest)) == [[good("c"), good("d")]]


@pytest.mark.parametrize("cut", range(1, 25))
def test_what_is_half_written_is_cut_off(tmp_path: Path, at_rest: AtRest, cut: int) -> None:
    """At any byte of the last chunk's lines, or of its record."""
    with ResultFile(tmp_path, "j", at_rest) as file:
        file.append(FIRST)
        whole = end_of(tmp_path, "j")
        half = lines_path(tmp_path, "j").stat().st_size
        file.append(SECOND)
    index, lines = index_path(tmp_path, "j"), lines_path(tmp_path, "j")
    index.write_bytes(index.read_bytes()[:-cut])
    assert end_of(tmp_path, "j") == whole
    with ResultFile(tmp_path, "j", at_rest) as file:
        assert lines.stat().st_size == half
        assert (file.counts.done, file.counts.failed) == (2, 1)
        assert [one.id for one in file.counts.errors] == ["d"]
        file.append(FIRST)
        file.append(SECOND)
        assert file.counts.done == 4
    lines.write_bytes(lines.read_bytes()[:-cut])
    with ResultFile(tmp_path, "j", at_rest) as file:
        assert file.counts.done == 2
        assert (end_of(tmp_path, "j"), lines.stat().st_size) == (whole, half)


def test_one_writes_at_a_time(tmp_path: Path, at_rest: AtRest) -> None:
    with ResultFile(tmp_path, "j", at_rest), pytest.raises(Held):
        ResultFile(tmp_path, "j", at_rest)
    with ResultFile(tmp_path, "j", at_rest) as file:
        file.append(FIRST)
    remove(tmp_path, ["j"])
    assert list(tmp_path.iterdir()) == []


def test_a_sealed_file_that_was_cut_or_changed_is_not_read(tmp_path: Path, keys: Path) -> None:
    at_rest = AtRest(Settings(payload_keys=str(keys)))
    with ResultFile(tmp_path, "j", at_rest) as file:
        file.append(FIRST)
        file.append(SECOND)
        file.finish()
    index, lines = index_path(tmp_path, "j"), lines_path(tmp_path, "j")
    records, content = index.read_bytes(), lines.read_bytes()
    size = len(records) // 3
    for changed in (
        records[:-size],  # the end is missing
        records[size:],  # the begin is
        records[size : 2 * size] + records[:size] + records[2 * size :],
    ):
        index.write_bytes(changed)
        with pytest.raises(SealError):
            list(in_order(tmp_path, "j", at_rest))
    index.write_bytes(records)
    lines.write_bytes(content[:-1] + b"?")
    with pytest.raises(SealError):
        list(in_order(tmp_path, "j", at_rest))
    for other in ("k", "j"):  # what is in the file of another job is not this one's
        lines_path(tmp_path, other).write_bytes(content)
        index_path(tmp_path, other).write_bytes(records)
    assert len(list(in_order(tmp_path, "j", at_rest))) == 2
    with pytest.raises(SealError, match=r"results/k\.ndjson"):
        list(in_order(tmp_path, "k", at_rest))


def test_a_file_that_cannot_be_opened_stays_as_it_is(tmp_path: Path, keys: Path) -> None:
    """No results are lost because a key is not there, or because it is another one."""
    at_rest = AtRest(Settings(payload_keys=str(keys)))
    with ResultFile(tmp_path, "j", at_rest) as file:
        file.append(FIRST)
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    for name, code in (("a", "seal_broken"), ("b", "key_unknown"), (None, "key_missing")):
        with tempfile.NamedTemporaryFile("w") as wrong:
            wrong.write(line_of_new_key(name or "c"))
            wrong.flush()
            others = AtRest(Settings(payload_keys=wrong.name if name else None))
            with pytest.raises(SealError) as told:
                ResultFile(tmp_path, "j", others)
            assert told.value.code == code
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_results_from_before_there_were_keys_are_sealed_when_more_come(
    tmp_path: Path, keys: Path
) -> None:
    with ResultFile(tmp_path, "j", AtRest()) as file:
        file.append(FIRST)
    seen = everything(tmp_path, AtRest())
    with pytest.raises(SealError) as told:
        ResultFile(tmp_path, "j", AtRest(Settings(payload_keys=str(keys))))
    assert told.value.code == "not_sealed"
    at_rest = AtRest(Settings(payload_keys=str(keys), accept_unsealed=True))
    assert everything(tmp_path, at_rest) == seen
    with ResultFile(tmp_path, "j", at_rest) as file:
        assert (file.counts.done, file.counts.failed) == (2, 1)
        file.append(FIRST)
        file.append(SECOND)
        file.finish()
    assert everything(tmp_path, at_rest).startswith(seen)
    assert not any(b"positive" in path.read_bytes() for path in tmp_path.iterdir())
    assert len(list(in_order(tmp_path, "j", at_rest))) == 2


def test_sealing_results_from_before_survives_a_kill(tmp_path: Path, keys: Path) -> None:
    """Between the two files that take the places of others."""
    at_rest = AtRest(Settings(payload_keys=str(keys), accept_unsealed=True))
    with ResultFile(tmp_path, "j", AtRest()) as file:
        file.append(FIRST)
    old = index_path(tmp_path, "j").read_bytes()
    with ResultFile(tmp_path, "j", at_rest) as file:
        pass
    index = index_path(tmp_path, "j")
    index.rename(index.with_name("j.index.new"))
    index.write_bytes(old)
    with ResultFile(tmp_path, "j", at_rest) as file:
        assert file.counts.done == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j.index", "j.ndjson"]
