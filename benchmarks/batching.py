"""Batches: what they pad, what the model makes of them, and what joining packs of one text gains.

A worker sorts what it has at hand, at most 256 items, by length and cuts by padded tokens. Beside
it: batches of so many rows as the texts come, and of so many rows sorted. The model runs on ids
that were made before, so that a way is judged by its batches alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec
import numpy as np

from benchmarks import rig
from benchmarks.load import closed
from benchmarks.report import Figure, Grid, Plot, Report, bars, lines
from lmaas.broker_config.messages import Item, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.workers.answering import Answerer
from lmaas.workers.batcher import Batch, batches
from lmaas.workers.manifest import WORD_BATCHING
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.pack import Pack
from lmaas.workers.preprocess.text import Ids, WordTokenizer
from lmaas.workers.preprocess.words import Words
from lmaas.workers.ready_queue import JOIN_ITEMS
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

#: The largest number of items that a worker joins, unless one pack has more.
GROUP = JOIN_ITEMS
#: Texts that the model runs in one round.
TEXTS = 8 * GROUP
#: The best of so many runs each, in turn: other work on the machine only ever slows down.
ROUNDS = 5
ROWS = (1, 8, 16, 32, 64, 128, 256)
TOKENS = (2_048, 4_096, 8_192, 16_384, 32_768, 65_536)
DEFAULT_TOKENS = WORD_BATCHING.most

#: Words of a text that travels alone, and packs that are in hand together.
WORDS = 60
IN_HAND = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CALLERS = (1, 8, 64, 512)
#: Seconds of one measurement through the queue.
SECONDS = 3.0

UNSORTED = "row batches, as they come"
SORTED = "row batches, sorted"
OURS = "token batches, sorted (ours)"

#: A kind of batches and its size, in rows or padded tokens.
Way = tuple[str, int]


async def measure() -> Report:
    texts = rig.reviews()
    version = Repository(rig.MODELS).find(rig.MODEL)
    how = msgspec.convert(version.manifest.preprocessing, Words)
    ids = WordTokenizer.load(version.file(how.file), how.max_tokens)(texts)
    padding = _padding([len(row) for row in ids])
    model = _model(version, ids[:TEXTS])
    short = [" ".join(text.split()[:WORDS]) for text in texts[:TEXTS]]
    joined = _joined(short)
    calls = await _calls(short)
    return Report(
        benchmark="batching",
        setting=f"IMDB reviews, or single texts of {WORDS} words where packs are joined or called; "
        f"one thread, one worker process; best of {ROUNDS}",
        figures=[*_padding_figures(padding), *_model_figures(model),
                 *_joined_figures(joined), *_call_figures(calls)],
        tables=[_model_grid(model)],
        plots=[*_plots(padding, model, joined), _calls_plot(calls)],
    )  # fmt: skip


# ------------------------------------------------------------------------- ways


def _ways() -> Iterator[Way]:
    yield from ((UNSORTED, rows) for rows in ROWS)
    yield from ((SORTED, rows) for rows in ROWS if 1 < rows < GROUP)
    yield from ((OURS, tokens) for tokens in TOKENS)


def _cut(lengths: Sequence[int], way: Way) -> list[Batch]:
    """The batches of all texts, which come in groups of GROUP."""
    found = []
    for start in range(0, len(lengths), GROUP):
        group = lengths[start : start + GROUP]
        for batch in _cut_group(group, way):
            places = [start + place for place in batch.positions]
            found.append(Batch(places, batch.rows, batch.length))
    return found


def _cut_group(lengths: Sequence[int], way: Way) -> list[Batch]:
    kind, size = way
    if kind == OURS:
        return batches(lengths, msgspec.structs.replace(WORD_BATCHING, most=size))
    order = list(range(len(lengths)))
    if kind == SORTED:
        order.sort(key=lengths.__getitem__)
    parts = (order[start : start + size] for start in range(0, len(order), size))
    return [Batch(part, len(part), max(lengths[place] for place in part)) for part in parts]


# ---------------------------------------------------------------------- padding


def _padding(lengths: Sequence[int]) -> dict[Way, float]:
    """Padded tokens / tokens."""
    ways = [(OURS, DEFAULT_TOKENS), *((UNSORTED, rows) for rows in (32, 64, 256))]
    real = sum(lengths)
    return {way: sum(batch.size for batch in _cut(lengths, way)) / real for way in ways}


def _padding_figures(padding: Mapping[Way, float]) -> list[Figure]:
    return [
        Figure(name=f"padded / real tokens: {_name(way)}", value=value, unit="",
               at_most=1.15 if way[0] == OURS else None)
        for way, value in padding.items()
    ]  # fmt: skip


def _name(way: Way) -> str:
    return f"{way[1]:,}-{way[0]}"


# ------------------------------------------------------------------------ model


class _Model(Runtime):
    """A runtime whose batches are made elsewhere."""

    def run_all(self, ids: Sequence[Ids], cut: Sequence[Batch]) -> None:
        """As `scores` does, without tokenizing and cutting."""
        for batch in cut:
            matrix = np.zeros((batch.rows, batch.length), np.int32)
            for row, place in enumerate(batch.positions):
                matrix[row, : len(ids[place])] = ids[place]
            matrix[len(batch.positions) :] = matrix[0]
            self._session.run(None, {"ids": matrix})


def _model(version: ModelVersion, ids: Sequence[Ids]) -> dict[Way, float]:
    """Reviews a second of each way."""
    model = _Model(version)
    lengths = [len(row) for row in ids]
    cuts = {way: _cut(lengths, way) for way in _ways()}
    best = dict.fromkeys(cuts, 0.0)
    for _, (way, cut) in itertools.product(range(ROUNDS), cuts.items()):
        best[way] = max(best[way], len(ids) / _seconds(partial(model.run_all, ids, cut)))
    return best


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _model_figures(model: Mapping[Way, float]) -> list[Figure]:
    ours = OURS, DEFAULT_TOKENS
    kinds = ([way for way in model if way[0] == kind] for kind in (UNSORTED, SORTED))
    others = [(UNSORTED, 1), *(max(ways, key=model.__getitem__) for ways in kinds)]
    best = max(model, key=model.__getitem__)
    return [
        *(
            Figure(name=f"model: {_name(way)}", value=model[way], unit="reviews/s")
            for way in (ours, *others)
        ),
        *(
            Figure(name=f"model: ours / {_name(way)}", value=model[ours] / model[way], unit="")
            for way in others
        ),
        Figure(
            name=f"model: ours / the best of all, {_name(best)}",
            value=model[ours] / model[best],
            unit="",
        ),
    ]


def _model_grid(model: Mapping[Way, float]) -> Grid:
    return Grid(
        title="Reviews a second of the model alone",
        columns=["batches", "reviews/s", "ours / it"],
        rows=[
            [_name(way), value, model[OURS, DEFAULT_TOKENS] / value] for way, value in model.items()
        ],
    )


# ----------------------------------------------------------------------- joined


def _joined(texts: Sequence[str]) -> dict[int, float]:
    """Items a second by the packs of one text that are answered together."""
    answerer = Answerer(Settings(models=str(rig.MODELS)), "benchmark")
    packs = [Pack(Request(model=rig.MODEL, items=[Item(id="0", text=text)])) for text in texts]
    best = dict.fromkeys(IN_HAND, 0.0)

    def answer(size: int) -> None:
        for start in range(0, len(packs), size):
            answerer.answer(packs[start : start + size])

    for _, size in itertools.product(range(ROUNDS), IN_HAND):
        best[size] = max(best[size], len(packs) / _seconds(partial(answer, size)))
    return best


def _joined_figures(joined: Mapping[int, float]) -> list[Figure]:
    figures = [
        Figure(name=f"packs of one text together: {size}", value=joined[size], unit="items/s")
        for size in (1, 16, 256)
    ]
    gain = joined[256] / joined[1]
    return [*figures, Figure(name="packs of one text, 256 together / one", value=gain, unit="")]


# ------------------------------------------------------------------------ calls


async def _calls(texts: Sequence[str]) -> dict[int, tuple[float, float]]:
    """Calls a second, and their median seconds, by callers; a message has one text."""
    found = {}
    async with rig.broker() as settings, rig.workers(settings, 1):
        alone = msgspec.structs.replace(settings, linger=0.0, pack_items=1)
        async with Client(alone) as client:
            for callers in CALLERS:
                found[callers] = await _called(client, texts, callers)
    return found


async def _called(client: Client, texts: Sequence[str], callers: int) -> tuple[float, float]:
    async def call(text: str) -> object:
        return await client.classify(rig.MODEL, text)

    found = await closed(call, texts, callers, SECONDS)
    return found.rate, found.percentile(50)


def _call_figures(calls: Mapping[int, tuple[float, float]]) -> list[Figure]:
    rates = [
        Figure(name=f"one text a message, callers: {callers}", value=speed, unit="calls/s")
        for callers, (speed, _) in calls.items()
    ]
    medians = [
        Figure(name=f"one text a message, callers: {callers}, p50", value=1e3 * p50, unit="ms")
        for callers, (_, p50) in calls.items()
    ]
    return [*rates, *medians]


# ------------------------------------------------------------------------ plots


def _plots(
    padding: Mapping[Way, float], model: Mapping[Way, float], joined: Mapping[int, float]
) -> list[Plot]:
    return [
        bars(
            "Padding of IMDB reviews",
            "padded / real tokens",
            {_name(way): value for way, value in padding.items()},
            ours=[_name(way) for way in padding if way[0] == OURS],
            name="padding",
        ),
        bars(
            "The model alone, by how its batches are cut",
            "reviews/s",
            {_name(way): value for way, value in model.items()},
            ours=[_name(way) for way in model if way[0] == OURS],
            name="model",
        ),
        lines(
            f"Packs of one text of {WORDS} words that a worker has in hand together",
            "packs together",
            "items/s",
            {"": joined.items()},
            ours=[""],
            name="joined",
            x_scale="log",
        ),
    ]


def _calls_plot(calls: Mapping[int, tuple[float, float]]) -> Plot:
    return lines(
        "One text a message through one worker",
        "callers",
        "calls/s",
        {"": [(callers, speed) for callers, (speed, _) in calls.items()]},
        ours=[""],
        name="calls",
        x_scale="log",
    )
