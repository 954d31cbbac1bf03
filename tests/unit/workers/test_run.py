"""Packs that run together, batch by batch: left alone, dropped, and failed over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import MSGPACK, Item, Options, Request, Result, encode
from lmaas.broker_config.settings import Settings
from lmaas.workers.answering import Answerer
from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.pack import Pack, read
from lmaas.workers.preprocess import Encoded
from lmaas.workers.run import Run
from lmaas.workers.runtime import Runtime

TEXTS = [f"{word} " * size for size in range(1, 13) for word in ("wonderful", "dull")]


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    """Of the shipped model, eight texts a batch."""
    models = Path(__file__).parents[3] / "models"
    return Answerer(Settings(models=str(models), batch_units=1), "here")


def pack(texts: Sequence[str], top_k: int = 0) -> Pack:
    items = [Item(id=str(place), text=text) for place, text in enumerate(texts)]
    request = Request(model="sentiment", items=items, options=Options(top_k=top_k))
    return read(encode(request), MSGPACK, Settings())


def results(run: Run) -> list[list[Result]]:
    return [reply.results for reply in run.replies()]


def test_what_is_left_alone_after_each_batch_has_the_same_answers(answerer: Answerer) -> None:
    packs = [pack(TEXTS), pack(TEXTS[:5], top_k=2), pack(["", "fine"])]
    expected = [reply.results for reply in answerer.answer(packs)]
    run, left, ended = answerer.begin(packs), [], False
    while not ended:
        left.append(run.left)
        ended = run.advance(lambda: True)
    assert left[0] == 1
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == len(left) > 3
    assert results(run) == expected


def test_a_run_without_anything_to_run_has_ended(answerer: Answerer) -> None:
    for packs in ([], [pack([""])], [read(b"{", MSGPACK, Settings())]):
        run = answerer.begin(packs)
        assert run.left == 0
        assert run.advance(lambda: pytest.fail("asked between two batches of none"))
        assert len(run.replies()) == len(packs)


class Steps:
    """A plan of batches of so many units."""

    def __init__(self, *batches: int) -> None:
        self.units = self.left = sum(batches)
        self._batches = [*batches]

    def step(self) -> None:
        self.left -= self._batches.pop(0)


def test_a_small_first_batch_makes_the_rest_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would else be passed by what came long after it."""
    times = iter([0.01, 0.01, 0.02, 0.02, 0.11])
    monkeypatch.setattr("lmaas.workers.run.time.monotonic", lambda: next(times))
    run = Run("here", [], [SimpleNamespace(plan=Steps(1, 49, 50))], {}, 0.0)  # type: ignore[list-item]
    assert not run.advance(lambda: True)
    assert run.remaining(0.14) == pytest.approx(0.14, rel=0.15)
    # Half of it took 0.11 s, and not 0.07.
    assert not run.advance(lambda: True)
    assert run.remaining(0.14) == pytest.approx(0.09)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each batch that was run."""
    rows: list[int] = []
    run = Runtime.run

    def noted(runtime: Runtime, encoded: Encoded, batch: Batch) -> Scores:
        rows.append(len(batch.positions))
        return run(runtime, encoded, batch)

    monkeypatch.setattr(Runtime, "run", noted)
    return rows


def test_what_is_dropped_is_not_run_and_its_neighbours_are(
    answerer: Answerer, ran: list[int]
) -> None:
    packs = [pack(TEXTS), pack(TEXTS[:3])]
    (expected,) = answerer.answer(packs[1:])
    run = answerer.begin(packs)
    run.advance(lambda: True)
    ran.clear()
    run.drop(0)
    assert run.advance()
    assert sum(ran) <= 3
    assert run.replies()[1].results == expected.results


@pytest.mark.parametrize("guilty", [[0], [23], [3, 4, 17], list(range(24))])
@pytest.mark.parametrize("place", ["encode", "run"])
def test_a_failure_is_found_by_bisection_and_costs_its_neighbours_nothing(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch, guilty: list[int], place: str
) -> None:
    one = pack(TEXTS)
    (expected,) = answerer.answer([one])
    bad = {TEXTS[at] for at in guilty}
    encode, run = Runtime.encode, Runtime.run

    class Cursed:
        def __init__(self, encoded: Encoded, items: Sequence[Item]) -> None:
            self.lengths, self.arrays = encoded.lengths, encoded.arrays
            self.texts = [item.text for item in items]

    def encoded(runtime: Runtime, items: Sequence[Item]) -> Encoded:
        if place == "encode" and bad & {item.text for item in items}:
            raise RuntimeError("cursed")
        return Cursed(encode(runtime, items), items)

    def scores(runtime: Runtime, encoded: Encoded, batch: Batch) -> Scores:
        assert isinstance(encoded, Cursed)
        if place == "run" and bad & {encoded.texts[position] for position in batch.positions}:
            raise MemoryError
        return run(runtime, encoded, batch)

    monkeypatch.setattr(Runtime, "encode", encoded)
    monkeypatch.setattr(Runtime, "run", scores)
    (reply,) = answerer.answer([one])
    code = Code.INTERNAL if place == "encode" else Code.OUT_OF_MEMORY
    for at, (result, good) in enumerate(zip(reply.results, expected.results, strict=True)):
        if at in guilty:
            assert result.error is not None
            assert (result.id, result.error.code) == (good.id, code)
        else:
            assert result == good
