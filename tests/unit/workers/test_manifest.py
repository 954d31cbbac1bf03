"""Manifests: schema 1 means what it always meant, a newer one is told, contradictions are named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lmaas.broker_config import scheduling
from lmaas.workers.manifest import (
    PROBABILITIES,
    WORD_BATCHING,
    WORD_INPUTS,
    Cost,
    Manifest,
    decoded,
)

#: As LMaaS 0.1 wrote it.
SCHEMA_1: dict[str, Any] = {
    "name": "sentiment",
    "version": "3",
    "labels": ["negative", "positive"],
    "preprocessing": {"kind": "words", "file": "vocabulary.txt", "max_tokens": 1024},
    "architecture": "ngram",
    "dataset": {"name": "imdb"},
    "metrics": {"accuracy": 0.9},
    "calibration": {"fixed_seconds": 0.0001, "seconds_per_byte": 3e-8},
    "code_version": "0.1.0",
    "created": "2026-11-23T19:28:22+00:00",
    "files": {"model.onnx": "0" * 64, "vocabulary.txt": "1" * 64},
    "training": {"epochs": 3},
}


#: What schema 2 says besides.
_SCHEMA_2 = msgspec.to_builtins(
    {"inputs": WORD_INPUTS, "head": PROBABILITIES, "batching": WORD_BATCHING}
)


def written(changes: dict[str, Any], *without: str) -> bytes:
    kept = {name: value for name, value in SCHEMA_1.items() if name not in without}
    return msgspec.json.encode(kept | changes)


def test_schema_1_says_what_was_fixed_then() -> None:
    found = decoded(written({}))
    assert found.schema == 2
    assert (found.inputs, found.head, found.batching) == (
        WORD_INPUTS,
        PROBABILITIES,
        WORD_BATCHING,
    )
    assert found.cost == Cost(fixed_seconds=0.0001, seconds_per_unit=3e-8)
    assert found.cost.calibration == scheduling.Cost(fixed=0.0001, per_byte=3e-8)
    assert (found.labels, found.training) == (SCHEMA_1["labels"], SCHEMA_1["training"])


def test_what_is_written_is_read() -> None:
    found = decoded(written({"schema": 1}))
    again = decoded(msgspec.json.encode(found))
    assert isinstance(again, Manifest)
    assert again == found


def test_the_cost_of_an_item_is_optional_and_so_is_the_whole_cost() -> None:
    found = msgspec.to_builtins(decoded(written({})))
    whole = {"fixed_seconds": 0.001, "seconds_per_item": 0.02, "seconds_per_unit": 1e-7}
    for cost, calibration in (
        (whole, scheduling.Cost(fixed=0.001, per_item=0.02, per_byte=1e-7)),
        ({"seconds_per_item": 0.02}, scheduling.Cost(per_item=0.02)),
        ({}, scheduling.UNKNOWN),
    ):
        again = decoded(msgspec.json.encode(found | {"cost": cost}))
        assert again.cost.calibration == calibration


@pytest.mark.parametrize("schema", [0, 3, "2", None, [2]])
def test_another_schema_is_told_and_what_to_do(schema: object) -> None:
    with pytest.raises(ValueError, match="knows 1 and 2: upgrade LMaaS"):
        decoded(written({"schema": schema}))


@pytest.mark.parametrize(
    ("changes", "without", "words"),
    [
        ({}, "calibration", "Expected `object`, got `null`"),
        ({"schema": 2}, "calibration", "missing required field `inputs`"),
        ({"schema": 2}, "", "unknown field `calibration`"),
        (
            {"schema": 2, "cost": {"seconds_per_item": -1}, **_SCHEMA_2},
            "calibration",
            r">= 0.0 - at `\$\.cost\.seconds_per_item`",
        ),
        ({"labels": []}, "", r"length >= 1 - at `\$\.labels`"),
        ({"labels": ["a", "a"]}, "", "two labels are the same"),
        ({"files": {"vocabulary.txt": ""}}, "", "does not list model.onnx"),
        ({"files": {"model.onnx": "", "../x": ""}}, "", "no plain name"),
        ({"files": {"model.onnx": "", "/etc/passwd": ""}}, "", "no plain name"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], without: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decoded(written(changes, without))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_manifest_at_all_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match="export or copy the version again"):
        decoded(content)


def test_unsure_is_no_label_beside_a_least_score() -> None:
    changes: dict[str, Any] = {"labels": ["unsure", "sure"]}
    assert decoded(written(changes)).min_score == 0
    changes |= {"schema": 2, "min_score": 0.5, **_SCHEMA_2}
    with pytest.raises(ValueError, match="a min_score, and a label 'unsure'"):
        decoded(written(changes, "calibration"))
    # Where an item may have several labels there is no such answer.
    changes["head"] = {**changes["head"], "meaning": "independent"}
    assert decoded(written(changes, "calibration")).multi_label
