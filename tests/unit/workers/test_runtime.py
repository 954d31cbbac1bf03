"""The runtime: the same answer for a text, to the last bit, whatever it travels with."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError, Options, Result
from lmaas.workers.model_version import ModelVersion, read_version
from lmaas.workers.plan import Plan
from lmaas.workers.preprocess import Encoded
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime
from tests.unit.workers import networks

SPEECH = (
    "this film was a truly great and moving story with brilliant acting but the plot is dull "
    "boring awful wasted two hours of my life do not watch it again loved every minute café 電影 🎬"
)
_source = random.Random(7)
#: From one word to a thousand, as reviews have them.
TEXTS = (
    *(
        " ".join(_source.choices(SPEECH.split(), k=size))
        for size in (1, 2, 3, 8, 15, 16, 17, 31, 33, 60, 61, 120, 240, 480, 900, 1_100, 1_500)
    ),
    "...",
    "good",
    "<br /><br />",
    "\u0301",
    "x" * 5_000,
)


def items_of(texts: list[str] | tuple[str, ...]) -> list[Item]:
    return [Item(id=str(place), text=text) for place, text in enumerate(texts)]


def answer(
    runtime: Runtime,
    items: Sequence[Item],
    faults: Mapping[int, ItemError] | None = None,
    *,
    top_k: int = 0,
    min_score: float | None = None,
) -> list[Result]:
    plan = Plan(runtime, items, faults or {})
    while plan.left:
        plan.step()
    return plan.results(Options(top_k=top_k, min_score=min_score))


def test_below_the_least_score_the_label_is_unsure(tmp_path: Path) -> None:
    """The model's own least score, or the one that is asked for; the scores stay."""
    version = read_version(networks.save(tmp_path / "tiny" / "1"))
    version = dataclasses.replace(
        version, manifest=msgspec.structs.replace(version.manifest, min_score=0.75)
    )
    runtime = Runtime(version)
    three = items_of(["good", "strange", "unknown"])  # 0.9, 0.75 and 0.5 for their best labels

    def labels(min_score: float | None) -> list[str | None]:
        return [result.label for result in answer(runtime, three, min_score=min_score)]

    assert labels(None) == ["label 1", "label 1", "unsure"]
    assert labels(0.8) == ["label 1", "unsure", "unsure"]
    assert labels(0.0) == ["label 1", "label 1", "label 0"]
    (_, _, result) = answer(runtime, three, top_k=2)
    assert (result.score, result.scores) == (0.5, {"label 0": 0.5, "label 1": 0.5})


def test_an_item_has_all_labels_that_reach_the_threshold(tmp_path: Path) -> None:
    """Of a model of independent labels; possibly none, and never `unsure`."""
    version = read_version(networks.save_multi_label(tmp_path / "moods" / "1"))
    runtime = Runtime(version)
    three = items_of(["good", "strange", "unknown"])

    def told(runtime: Runtime, min_score: float | None = None) -> list[Any]:
        found = answer(runtime, three, min_score=min_score)
        return [(result.labels, result.label, result.score) for result in found]

    assert told(runtime) == [
        (["kind", "calm"], "kind", 0.9),
        ([], None, 0.4),
        ([], None, 0.03),
    ]
    # A label that is exactly at the threshold has reached it.
    assert told(runtime, 0.3)[1] == (["calm", "kind"], "calm", 0.4)
    assert told(runtime, 0.9)[0] == (["kind"], "kind", 0.9)
    assert [labels for labels, _, _ in told(runtime, 0)][2] == ["loud", "kind", "calm"]
    stricter = msgspec.structs.replace(version.manifest, min_score=0.8)
    runtime = Runtime(dataclasses.replace(version, manifest=stricter))
    assert told(runtime)[0] == (["kind"], "kind", 0.9)
    assert told(runtime, 0.5)[0] == (["kind", "calm"], "kind", 0.9)
    (first, *_) = answer(runtime, three, top_k=2)
    assert first.scores == {"kind": 0.9, "calm": 0.7}


@pytest.fixture(scope="module")
def alone(runtime: Runtime) -> dict[str, bytes]:
    """The scores of each text by itself, bit by bit."""
    return {text: runtime.scores(items_of([text]))[0].tobytes() for text in TEXTS}


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_scores_are_the_same_bits_whatever_the_neighbours_and_the_order(
    runtime: Runtime, alone: dict[str, bytes], pack: list[str]
) -> None:
    assert [row.tobytes() for row in runtime.scores(items_of(pack))] == [
        alone[text] for text in pack
    ]


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=20), st.randoms())
@settings(deadline=None, max_examples=40)
def test_any_text_at_all_has_its_answer_in_any_pack(
    runtime: Runtime, texts: list[str], source: random.Random
) -> None:
    expected = {text: runtime.scores(items_of([text]))[0].tobytes() for text in texts}
    source.shuffle(texts)
    assert [row.tobytes() for row in runtime.scores(items_of(texts))] == [
        expected[text] for text in texts
    ]


@pytest.mark.parametrize("batch_units", [1, 300, 16_384, 1_000_000])
def test_the_size_of_batches_changes_no_bit(alone: dict[str, bytes], batch_units: int) -> None:
    models = Path(__file__).parents[3] / "models"
    other = Runtime(Repository(models).find("sentiment"), batch_units=batch_units)
    assert [row.tobytes() for row in other.scores(items_of(TEXTS))] == list(alone.values())


def test_scores_are_probabilities(runtime: Runtime) -> None:
    scores = runtime.scores(items_of(TEXTS))
    assert scores.shape == (len(TEXTS), len(runtime.labels))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_label_is_the_best_and_has_its_score(runtime: Runtime) -> None:
    (good, bad) = answer(
        runtime, items_of(["a wonderful, moving film", "an awful, boring waste of time"])
    )
    assert (good.label, bad.label) == ("positive", "negative")
    assert good.score is not None
    assert 0.5 < good.score <= 1
    assert good.score == round(good.score, 6)
    assert good.scores is None


def test_top_k_ranks_the_labels_best_first(runtime: Runtime) -> None:
    (result,) = answer(runtime, items_of(["a wonderful film"]), top_k=2)
    assert result.scores is not None
    ranked = list(result.scores.items())
    assert ranked[0] == (result.label, result.score)
    assert ranked[0][1] >= ranked[1][1]
    assert sum(result.scores.values()) == pytest.approx(1, abs=2e-6)


def test_top_k_gives_no_more_labels_than_asked_or_than_there_are(runtime: Runtime) -> None:
    items = items_of(["a wonderful film"])
    (one,) = answer(runtime, items, top_k=1)
    (many,) = answer(runtime, items, top_k=10**9)
    assert (len(one.scores or {}), len(many.scores or {})) == (1, len(runtime.labels))


def test_faults_keep_their_positions_among_the_answers(runtime: Runtime) -> None:
    fault = ItemError(code=Code.EMPTY_TEXT, message="the text is empty")
    items = [Item(id="a", text="a fine film"), Item(id="b", text=""), Item(id="c", text="dull")]
    first, failed, last = answer(runtime, items, {1: fault})
    assert failed == Result(id="b", error=fault)
    assert (first, last) == tuple(answer(runtime, [items[0], items[2]]))


def test_an_item_without_text_is_told_and_its_neighbours_go_on(runtime: Runtime) -> None:
    items = [Item(id="picture", data=b"png", media_type="image/png"), Item(id="t", text="fine")]
    picture, text = answer(runtime, items)
    assert picture.error is not None
    assert picture.error.code == Code.NOT_TEXT
    assert text.label is not None


def test_what_cannot_be_encoded_is_found_by_bisection_and_logged_without_the_steps(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode = Runtime.encode

    def failing(self: Runtime, items: Sequence[Item]) -> Encoded:
        if any(item.text == "bad" for item in items):
            raise ValueError("a bug that only this text meets")
        return encode(self, items)

    monkeypatch.setattr(Runtime, "encode", failing)
    texts = ["fine"] * 40
    texts[13] = texts[31] = "bad"
    results = answer(runtime, items_of(texts))
    assert [place for place, result in enumerate(results) if result.error] == [13, 31]
    assert [record.exc_info and record.exc_info[1].__context__ for record in caplog.records] == [
        None,
        None,
    ]


def test_a_pack_of_faults_alone_needs_no_model(runtime: Runtime) -> None:
    fault = ItemError(code=Code.EMPTY_TEXT, message="the text is empty")
    assert answer(runtime, [Item(id="a", text="")], {0: fault}) == [Result(id="a", error=fault)]
    assert answer(runtime, []) == []


def test_a_file_that_is_no_model_is_named(repository: Path) -> None:
    found = Repository(repository).find("sentiment")
    found = with_content(found, "model.onnx", b"not a model")
    with pytest.raises(ModelDamaged, match=r"model\.onnx: ONNX Runtime cannot load it"):
        Runtime(found)


def test_a_vocabulary_that_is_no_text_is_named(repository: Path) -> None:
    found = Repository(repository).find("sentiment")
    found = with_content(found, "vocabulary.txt", b"\xff\xfe\n")
    with pytest.raises(ModelDamaged, match=r"vocabulary\.txt"):
        Runtime(found)


def spoiled(found: ModelVersion, **changes: object) -> ModelVersion:
    return dataclasses.replace(found, manifest=msgspec.structs.replace(found.manifest, **changes))


def with_content(found: ModelVersion, name: str, content: bytes) -> ModelVersion:
    return dataclasses.replace(found, contents={**found.contents, name: content})


def test_labels_that_do_not_fit_the_model_are_told_at_the_start(repository: Path) -> None:
    found = Repository(repository).find("sentiment")
    with pytest.raises(ModelDamaged, match="3 labels"):
        Runtime(spoiled(found, labels=["a", "b", "c"]))


def test_preprocessing_that_this_code_does_not_know_is_told(repository: Path) -> None:
    found = Repository(repository).find("sentiment")
    other = found.manifest.preprocessing | {"kind": "pixels"}
    with pytest.raises(ModelDamaged, match="pixels"):
        Runtime(spoiled(found, preprocessing=other))


# ------------------------------------------------------------------- models that lie


def served(folder: Path, rows: Sequence[Sequence[float]], **how: Any) -> Runtime:
    networks.save(folder / "tiny" / "1", rows, **how)
    return Runtime(Repository(folder).find("tiny"))


EMPTY = ItemError(code=Code.EMPTY_TEXT, message="the text is empty")
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "row",
    [(NAN, NAN), (NAN, 1), (INFINITY, 0), (-INFINITY, INFINITY), (17.18, -3), (0.9, 0.9), (0, 0)],
)
@pytest.mark.parametrize("top_k", [0, 2])
def test_scores_that_are_no_probabilities_are_an_error_of_their_item(
    tmp_path: Path, row: tuple[float, float], top_k: int
) -> None:
    runtime = served(tmp_path, [*networks.PROBABILITIES[:4], row])
    results = answer(runtime, items_of(["good", "strange", "", "bad"]), {2: EMPTY}, top_k=top_k)
    labels = [result.label for result in results]
    assert labels == ["label 1", None, None, "label 0"]
    assert [result.id for result in results] == ["0", "1", "2", "3"]
    assert results[1].score is results[1].scores is None
    assert results[1].error is not None
    assert results[1].error.code == Code.INTERNAL
    assert re.search("a probability is declared", results[1].error.message)
    assert results[2].error == EMPTY
    json.loads(msgspec.json.encode(results), parse_constant=pytest.fail)


@pytest.mark.parametrize("rows", [((17.18, -3.0),) * 5, ((NAN, NAN),) * 5, ((0.2, 0.2),) * 5])
def test_a_model_without_probabilities_is_refused_at_the_start(
    tmp_path: Path, rows: Sequence[Sequence[float]]
) -> None:
    with pytest.raises(ModelDamaged, match=r"the model gives .* where a probability is declared"):
        served(tmp_path, rows)


def test_what_rounding_leaves_is_still_a_probability(tmp_path: Path) -> None:
    row = (float(np.nextafter(np.float32(1), np.float32(2))), -1e-8)
    runtime = served(tmp_path, [*networks.PROBABILITIES[:4], row])
    (result,) = answer(runtime, items_of(["strange"]))
    assert (result.label, result.score) == ("label 0", 1.0)


@pytest.mark.parametrize(
    "first", [["", "[UNK]"], ["[PAD]", "[UNK]"], ["<unk>"], ["", "good"], ["good", "[UNK]"]]
)
def test_a_vocabulary_that_begins_with_what_is_no_word_is_refused(
    tmp_path: Path, first: list[str]
) -> None:
    with pytest.raises(ModelDamaged, match=r"begins with .*get_vocabulary\(\)\[2:\]"):
        served(tmp_path, networks.PROBABILITIES, words=[*first, *networks.WORDS])
