"""Heads: logits, probabilities and maps become scores, and what is none is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lmaas.broker_config.errors import ModelDamaged
from lmaas.workers.heads import Head, head
from lmaas.workers.model_version import ModelVersion, read_version
from tests.unit.workers import networks


@pytest.fixture
def version(tmp_path: Path) -> ModelVersion:
    return read_version(networks.save(tmp_path / "tiny" / "1"))


def made(version: ModelVersion, **how: Any) -> Head:
    manifest = msgspec.structs.replace(version.manifest, labels=["a", "b", "c"], head=how)
    return head(dataclasses.replace(version, manifest=manifest))


LOGITS = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0], [0.0, 0.0, 0.0]], np.float32)


def test_softmax_of_logits_of_any_size(version: ModelVersion) -> None:
    found = made(version, kind="scores", activation="softmax")
    scores = found.scores([LOGITS], 3)
    powers = np.exp(LOGITS[0].astype(np.float64))
    assert scores.dtype == np.float32
    assert scores[0] == pytest.approx(powers / powers.sum(), abs=1e-6)
    assert scores[1].tolist() == [1, 0, 0]
    assert found.good(scores).all()


def test_sigmoid_for_labels_that_do_not_exclude_each_other(version: ModelVersion) -> None:
    how = {"kind": "scores", "activation": "sigmoid", "meaning": "independent"}
    found = made(version, **how)
    scores = found.scores([LOGITS], 3)
    assert scores[0] == pytest.approx(1 / (1 + np.exp(-LOGITS[0])), abs=1e-6)
    assert scores[1].tolist() == [1, 0.5, 0]
    assert found.good(scores).all()  # together they are more than 1


def test_values_may_be_any_numbers(version: ModelVersion) -> None:
    found = made(version, kind="scores", activation="none", meaning="values")
    scores = np.array([[7, -3, 0], [np.nan, 0, 0], [np.inf, 0, 0]], np.float32)
    assert found.good(scores).tolist() == [True, False, False]
    assert found.problem(scores[0]) is None
    assert "nan, which is no number" in str(found.problem(scores[1]))


def test_probabilities_are_from_0_to_1(version: ModelVersion) -> None:
    found = made(version, kind="scores", activation="none", meaning="independent")
    assert "end it with a sigmoid" in str(found.problem(np.array([2, 0, 0], np.float32)))
    found = made(version, kind="scores", activation="none")
    assert "3 in all" in str(found.problem(np.array([2, 1, 0], np.float32)))


def test_a_temperature_divides_the_logits(version: ModelVersion) -> None:
    """Also where the graph ends in a softmax, and has none to give."""
    logits = np.array([[1, 2, 3], [9, 0, -9], [0, 0, 0]], np.float32)
    plain = made(version, kind="scores", activation="softmax")
    expected = plain.scores([logits / 2.5], 3)
    ends = plain.scores([logits], 3)
    for activation, output in {"softmax": logits, "none": ends}.items():
        found = made(version, kind="scores", activation=activation, temperature=2.5)
        scores = found.scores([output], 3)
        assert scores.dtype == np.float32
        assert scores == pytest.approx(expected, abs=1e-6)
        assert found.good(scores).all()
    maps = [dict(zip("abc", row, strict=True)) for row in ends.tolist()]
    found = made(version, kind="label_map", output="p", temperature=2.5)
    assert found.scores([maps], 3) == pytest.approx(expected, abs=1e-6)


def test_a_temperature_of_independent_labels_is_one_of_sigmoids(version: ModelVersion) -> None:
    how = {"kind": "scores", "activation": "sigmoid", "meaning": "independent"}
    logits = np.array([[-4, 0.5, 3]], np.float32)
    expected = made(version, **how).scores([logits * 2], 1)
    found = made(version, **how, temperature=0.5)
    assert found.scores([logits], 1) == pytest.approx(expected, abs=1e-6)


def test_without_a_temperature_the_scores_are_the_outputs_bytes(version: ModelVersion) -> None:
    found = made(version, kind="scores", activation="none", temperature=1)
    output = np.array([[0.1, 0.2, 0.7]], np.float32)
    assert found.scores([output], 1) is output


@pytest.mark.parametrize("meaning", ["exclusive", "independent"])
def test_a_temperature_does_not_make_probabilities_of_others(
    version: ModelVersion, meaning: str
) -> None:
    how = {"kind": "scores", "activation": "none", "meaning": meaning, "temperature": 2.0}
    found = made(version, **how)
    output = np.array([[17, 3, 1], [-0.5, 1, 0.5], [np.nan, 0.5, 0.5], [0.7, 0.2, 0.1]], np.float32)
    assert found.good(found.scores([output], 4)).tolist() == [False, False, False, True]


def test_scores_of_an_item_are_the_same_bits_in_any_batch(version: ModelVersion) -> None:
    found = made(version, kind="scores", activation="softmax", temperature=1.7)
    logits = np.random.default_rng(5).normal(size=(67, 3)).astype(np.float32)
    together = found.scores([logits], 67)
    for size in (1, 2, 5, 33):
        alone = [
            found.scores([part], len(part)) for part in np.split(logits, range(size, 67, size))
        ]
        assert np.concatenate(alone).tobytes() == together.tobytes()


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (3,), (3, 3, 1)])
def test_an_output_of_another_shape_is_told(version: ModelVersion, shape: tuple[int, ...]) -> None:
    found = made(version, kind="scores", activation="none")
    with pytest.raises(ValueError, match="for 3 labels"):
        found.scores([np.zeros(shape, np.float32)], 3)


@pytest.mark.parametrize(
    ("how", "value", "expected"),
    [
        ({"activation": "none"}, 0.25, [0.75, 0.25]),
        ({"activation": "sigmoid"}, 0.0, [0.5, 0.5]),
        ({"activation": "none", "meaning": "values"}, -1.5, [1.5, -1.5]),
    ],
)
def test_the_score_of_the_second_label_gives_that_of_the_first(
    version: ModelVersion, how: dict[str, Any], value: float, expected: list[float]
) -> None:
    manifest = msgspec.structs.replace(
        version.manifest, head={"kind": "scores", "second_only": True} | how
    )
    found = head(dataclasses.replace(version, manifest=manifest))
    for output in (np.array([[value]]), np.array([value])):
        scores = found.scores([output], 1)
        assert scores.dtype == np.float32
        assert scores.tolist() == [expected]
        assert found.good(scores).all()
    with pytest.raises(ValueError, match="for the second of two labels"):
        found.scores([np.zeros((1, 2))], 1)


def test_one_score_is_not_enough_for_three_labels(version: ModelVersion) -> None:
    with pytest.raises(ModelDamaged, match="second_only goes with two labels, not with 3"):
        made(version, kind="scores", activation="none", second_only=True)


def test_maps_are_read_by_their_labels(version: ModelVersion) -> None:
    found = made(version, kind="label_map", output="output_probability")
    assert found.outputs == ["output_probability"]
    scores = found.scores([[{"c": 0.5, "a": 0.2, "b": 0.3}, {"a": 1.0, "b": 0.0, "c": 0.0}]], 2)
    assert scores == pytest.approx(np.array([[0.2, 0.3, 0.5], [1, 0, 0]]))
    with pytest.raises(ValueError, match="1 maps for 2 rows"):
        found.scores([[{}]], 2)
    with pytest.raises(ValueError, match="no label 'b'"):
        found.scores([[{"a": 1.0}]], 1)


def test_numbers_as_labels_of_a_map_are_found(version: ModelVersion) -> None:
    manifest = msgspec.structs.replace(
        version.manifest, labels=["0", "1"], head={"kind": "label_map", "output": "p"}
    )
    found = head(dataclasses.replace(version, manifest=manifest))
    assert found.scores([[{0: 0.25, 1: 0.75}]], 1).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"kind": "magic"}, "no head 'magic' here; upgrade LMaaS"),
        ({}, "no head 'None' here"),
        ({"kind": "scores"}, r"manifest\.json: head: .*activation"),
        ({"kind": "scores", "activation": "tanh"}, r"head: Invalid enum value 'tanh'"),
        ({"kind": "label_map", "output": "p", "more": 1}, "unknown field `more`"),
        ({"kind": "label_map", "output": "p", "temperature": 0}, "temperature"),
        (
            {"kind": "scores", "activation": "none", "meaning": "values", "temperature": 2.0},
            "is for probabilities, and not for values",
        ),
    ],
)
def test_a_head_that_is_none_is_named(
    version: ModelVersion, how: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelDamaged, match=words):
        made(version, **how)
