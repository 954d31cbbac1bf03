"""Input files and output files of batches, without a gateway."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from lmaas.broker_config.messages import Item, ItemError, Result
from lmaas.producer.gateway.openai_batches.answers import classification, moderation
from lmaas.producer.gateway.openai_batches.lines import (
    SHOWN,
    Checked,
    calls,
    check,
    items_of,
    lines,
)
from lmaas.producer.gateway.openai_batches.outputs import Batched, Unanswered, joined, write

ENDPOINT = "/v1/classifications"


def line(name: str, given: object = "x", model: str = "m") -> bytes:
    body = {"model": model, "input": given}
    told = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(told).encode() + b"\n"


def checked(path: Path, content: bytes, limit: int = 1_000, most: int = 10_000) -> Checked:
    path.write_bytes(content)
    return check(lambda: path.open("rb"), ENDPOINT, limit=limit, most=most, stop=threading.Event())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


def test_each_line_that_is_wrong_is_told_up_to_a_number(path: Path) -> None:
    found = checked(path, line("a") + b"{\n" * (2 * SHOWN))
    assert [problem.line for problem in found.problems] == list(range(2, SHOWN + 2))


def test_ids_that_are_there_again_are_told_with_the_line_before(path: Path) -> None:
    names = [*map(str, range(5_000)), "7", "4999", "7"]
    found = checked(path, b"".join(map(line, names)))
    assert {problem.code for problem in found.problems} == {"duplicate_custom_id"}
    assert [problem.line for problem in found.problems] == [5_001, 5_002, 5_003]
    assert "of line 8" in found.problems[2].message


def test_a_line_without_an_end_takes_no_memory(path: Path) -> None:
    found = checked(path, line("a") + b"x" * 1_001 + b"\n" + line("b"))
    assert [(problem.code, problem.line) for problem in found.problems] == [
        ("invalid_json_line", 2)
    ]
    # As long as the limit is not too long, with and without an end.
    long = b"x" * 1_000
    path.write_bytes(long + b"\n" + long)
    assert [len(raw) for _, raw in lines(lambda: path.open("rb"), 1_001)] == [1_001, 1_000]


def test_too_many_lines(path: Path) -> None:
    found = checked(path, b"".join(map(line, "abcd")), most=3)
    assert [(problem.code, problem.line) for problem in found.problems] == [("too_many_tasks", 4)]
    assert not checked(path, b"".join(map(line, "abc")), most=3).problems


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('"a"', ["a"]),
        ('["a", {"text": "b"}, {"type": "text", "text": "c"}]', ["a", "b", "c"]),
        ('["a", 5, {"texts": "b"}]', ["a", None, None]),
        ("5", [None]),
        ("[]", [None]),
        ("", [None]),
        ('"\\ud800"', [None]),
    ],
)
def test_an_input_is_one_or_several_items(given: str, expected: list[str | None]) -> None:
    items = items_of("name", given.encode())
    assert [item.text for item in items] == expected
    assert [item.error is None for item in items] == [text is not None for text in expected]
    assert {item.id for item in items} == {"name"}


def _results(*names: str) -> Iterator[Result]:
    return (Result(id=name, label="l", score=1.0) for name in names)


def test_results_are_joined_with_their_lines_whatever_is_lacking() -> None:
    wanted = [[Item(id=name)] * count for name, count in (("a", 1), ("b", 3), ("c", 1), ("d", 2))]
    for names, whole in (
        ("abbbcdd", "abcd"), ("", ""), ("d", ""), ("bbcdd", "cd"), ("abbb", "ab"), ("dd", "d"),
    ):  # fmt: skip
        found = dict(joined(wanted, _results(*names)))
        assert list(found) == list("abcd")
        assert "".join(name for name in found if found[name]) == whole


def test_files_without_lines_are_left_out(path: Path, tmp_path: Path) -> None:
    path.write_bytes(line("a") + line("b"))
    output, errors = tmp_path / "o", tmp_path / "e"
    batch = Batched("t", "m", classification, (), Unanswered("batch_expired", "late"))

    def create(made: Path) -> BinaryIO:
        return made.open("wb")

    def written(*results: Result) -> tuple[int, int, bool, bool]:
        source = calls(lambda: path.open("rb"), 1_000)
        results_of = iter(results)
        found = write(output, errors, create, source, results_of, batch, threading.Event())
        assert (found.output > 0, found.errors > 0) == (output.exists(), errors.exists())
        return found.done, found.failed, output.exists(), errors.exists()

    good = [Result(id=name, label="l", score=1.0) for name in "ab"]
    bad = [Result(id=name, error=ItemError(code="too_large", message="")) for name in "ab"]
    assert written(*good) == (2, 0, True, False)
    assert written(*bad) == (0, 2, False, True)
    assert json.loads(errors.read_bytes().splitlines()[1])["response"]["status_code"] == 413
    assert written(good[0]) == (1, 0, True, True)
    assert json.loads(errors.read_bytes())["error"]["code"] == "batch_expired"


def test_what_is_unsure_is_not_flagged() -> None:
    """But where a model has such a label itself."""
    scores = {"harm": 0.5, "fine": 0.3, "unsure": 0.2}
    own = Result(id="0", label="unsure", score=0.5, scores=scores)
    unsure = Result(id="1", label="unsure", score=0.5, scores={"harm": 0.5, "fine": 0.5})
    harm = Result(id="2", label="harm", score=0.5, scores=scores)
    found = moderation("x", "m", [own, unsure, harm], {"fine"}).results
    assert [one.flagged for one in found] == [True, False, True]
    assert [any(one.categories.values()) for one in found] == [True, False, True]
