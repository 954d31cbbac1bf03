"""Batches by length: complete, bounded, in steps, and with little padding."""

from __future__ import annotations

import itertools
import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from lmaas.workers.batcher import Batch
from lmaas.workers.batcher import batches as cut
from lmaas.workers.manifest import WORD_BATCHING, Batching

LENGTH_STEP, ROW_STEP = WORD_BATCHING.length_step, WORD_BATCHING.row_step
OVERHEAD = WORD_BATCHING.overhead
LENGTHS = st.lists(st.integers(1, 1_024), max_size=300)
BOUNDS = st.integers(1, 40_000)


def batches(lengths: list[int], most: int) -> list[Batch]:
    return cut(lengths, msgspec.structs.replace(WORD_BATCHING, most=most))


@given(LENGTHS, BOUNDS)
def test_every_position_is_in_one_batch_and_the_shortest_come_first(
    lengths: list[int], bound: int
) -> None:
    order = [position for batch in batches(lengths, bound) for position in batch.positions]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[position] for position in order] == sorted(lengths)


@given(LENGTHS, BOUNDS)
def test_only_the_least_batch_may_pass_the_bound(lengths: list[int], bound: int) -> None:
    for batch in batches(lengths, bound):
        assert batch.size <= bound or len(batch.positions) <= ROW_STEP


@given(LENGTHS, BOUNDS)
def test_shapes_are_multiples_with_room_for_every_position_and_no_more(
    lengths: list[int], bound: int
) -> None:
    for batch in batches(lengths, bound):
        longest = max(lengths[position] for position in batch.positions)
        assert batch.rows % ROW_STEP == batch.length % LENGTH_STEP == 0
        assert 0 <= batch.rows - len(batch.positions) < ROW_STEP
        assert 0 <= batch.length - longest < LENGTH_STEP


def test_texts_of_equal_length_fill_a_batch_to_its_bound() -> None:
    found = batches([64] * 100, 64 * 32)
    assert [len(batch.positions) for batch in found] == [32, 32, 32, 4]


def test_no_lengths_need_no_batch() -> None:
    assert batches([], 100) == []


def test_reviews_are_padded_by_less_than_a_tenth() -> None:
    source = random.Random(1)
    # IMDB reviews: about 170 words in the middle, log-normal, cut at 1,024.
    lengths = [min(1_024, int(source.lognormvariate(5.2, 0.6)) + 1) for _ in range(2_048)]
    padded = sum(batch.size for batch in batches(lengths, 16_384))
    assert padded < 1.1 * sum(lengths)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(100, 20_000))
def test_no_other_cuts_cost_less(lengths: list[int], bound: int) -> None:
    steps = [
        sorted(lengths)[start : start + ROW_STEP] for start in range(0, len(lengths), ROW_STEP)
    ]

    def cost(cuts: tuple[bool, ...]) -> float:
        total, rows = 0, 0
        for step, ends in zip(steps, (*cuts, True), strict=True):
            rows += ROW_STEP
            if ends:
                tokens = rows * -(-step[-1] // LENGTH_STEP) * LENGTH_STEP
                if tokens > bound and rows > ROW_STEP:
                    return float("inf")
                total, rows = total + tokens + OVERHEAD, 0
        return total

    found = batches(lengths, bound)
    least = min(cost(cuts) for cuts in itertools.product((False, True), repeat=len(steps) - 1))
    assert sum(batch.size + OVERHEAD for batch in found) == least


# ------------------------------------------------------------------- other kinds of models


@given(LENGTHS, st.integers(1, 9))
def test_a_graph_of_a_fixed_number_of_rows_gets_that_number(lengths: list[int], rows: int) -> None:
    found = cut(lengths, Batching(unit="tokens", most=1, rows=rows))
    assert [batch.rows for batch in found] == [rows] * -(-len(lengths) // rows)
    assert sorted(place for batch in found for place in batch.positions) == [*range(len(lengths))]


def test_without_steps_one_text_costs_one_row_of_its_own_length() -> None:
    (found,) = cut([37], Batching(unit="tokens", most=1_024))
    assert (found.rows, found.length, found.size) == (1, 37, 37)


def test_long_texts_of_a_heavy_model_are_alone_and_short_ones_together() -> None:
    found = cut([500, 15, 510, 16, 14], Batching(unit="tokens", most=512, overhead=16))
    assert [sorted(batch.positions) for batch in found] == [[1, 3, 4], [0], [2]]


def test_items_that_are_all_alike_are_counted() -> None:
    found = cut([1] * 10, Batching(unit="items", most=4))
    assert sorted(batch.rows for batch in found) == [2, 4, 4]
