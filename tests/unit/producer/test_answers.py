"""The answers of a job end the same in whatever order, and however often, they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ItemError, Reply, Result
from lmaas.producer.answers import Answers, Chunk, for_each, merged


def answer(*results: str) -> Reply:
    """Of `id` or `id!`, which has failed; what follows tells one answer from another."""
    return Reply(model="m", results=[result(one) for one in results])


def result(text: str) -> Result:
    item, failed, words = text.partition("!")
    if failed:
        return Result(id=item, error=ItemError(code=Code.POISON, message=words or "x"))
    item, _, label = text.partition("=")
    return Result(id=item, label=label or "good")


def told(chunks: list[Chunk]) -> list[tuple[int, bool, list[str]]]:
    return [(chunk.number, chunk.amends, words(chunk.reply.results)) for chunk in chunks]


def words(results: list[Result]) -> list[str]:
    return [
        f"{one.id}!{one.error.message}" if one.error else f"{one.id}={one.label}" for one in results
    ]


def test_the_first_answer_of_a_chunk_stands() -> None:
    answers = Answers()
    assert told(answers.add(0, 0, answer("a=1"))) == [(0, False, ["a=1"])]
    assert answers.knows(0, 0)
    assert answers.add(0, 0, answer("a=2")) == []


def test_the_answer_of_a_replay_takes_the_place_of_an_error_only() -> None:
    answers = Answers()
    answers.add(0, 0, answer("a", "b!"))
    assert told(answers.add(0, 1, answer("a=new", "b=new"))) == [(0, True, ["b=new"])]
    assert answers.add(0, 1, answer("b=twice")) == []
    assert answers.add(0, 2, answer("b=later")) == []


def test_an_item_of_another_chunk_is_another_item() -> None:
    answers = Answers()
    answers.add(0, 0, answer("a!"))
    answers.add(1, 0, answer("a"))
    assert answers.add(1, 1, answer("a=new")) == []
    assert told(answers.add(0, 1, answer("a=new"))) == [(0, True, ["a=new"])]


def test_the_error_of_a_later_replay_stands() -> None:
    answers = Answers()
    answers.add(0, 0, answer("a!first"))
    assert told(answers.add(0, 2, answer("a!second"))) == [(0, True, ["a!second"])]
    assert answers.add(0, 1, answer("a!between")) == []
    assert answers.add(0, 2, answer("a!doubled")) == []
    assert told(answers.add(0, 1, answer("a=good"))) == [(0, True, ["a=good"])]


def test_a_replay_that_was_faster_than_the_first_answer_waits_for_it() -> None:
    answers = Answers()
    answers.seal(1, 2)
    assert answers.add(0, 1, answer("b=new")) == []
    assert not answers.is_complete
    assert told(answers.add(0, 0, answer("a", "b!"))) == [
        (0, False, ["a=good", "b!x"]),
        (0, True, ["b=new"]),
    ]
    assert answers.is_complete


def test_a_pack_that_only_its_replay_has_answered_is_a_chunk() -> None:
    answers = Answers()
    answers.add(0, 0, answer("a", "b"))
    assert answers.add(1, 1, answer("c", "d")) == []
    assert told(answers.seal(2, 4)) == [(1, False, ["c=good", "d=good"])]
    assert answers.is_complete


def test_a_part_of_a_pack_is_not_taken_for_a_chunk() -> None:
    answers = Answers()
    answers.seal(2, 4)
    answers.add(0, 0, answer("a", "b"))
    assert answers.add(1, 1, answer("c")) == []
    assert not answers.is_complete


def test_an_amendment_takes_the_places_of_errors_in_their_order() -> None:
    results = answer("a", "b!", "a!", "a!", "c!").results
    anew = answer("a=1", "a!2", "a=3", "c=4", "d=5").results
    assert words(merged(results, anew)) == ["a=good", "b!x", "a=1", "a!2", "c=4"]


def test_a_chunk_that_was_refused_unread_has_an_error_for_each_item() -> None:
    fault = ItemError(code=Code.MALFORMED, message="no")
    refused = for_each(Reply(model="", results=[], error=fault), 3)
    assert words(refused.results) == ["!no"] * 3
    answers = Answers()
    answers.seal(1, 3)
    assert told(answers.add(0, 0, refused)) == [(0, False, ["!no"] * 3)]
    assert answers.is_complete
    first, second = answer("a=1", "b!2", "c=3"), answer("b=4", "d=5")
    assert told(answers.add(0, 1, first)) == [(0, True, ["a=1", "b!2", "c=3"])]
    assert told(answers.add(0, 2, second)) == [(0, True, ["b=4"])]
    expected = ["a=1", "b=4", "c=3"]
    assert words(merged(refused.results, [*first.results, *second.results])) == expected
    assert words(merged(merged(refused.results, first.results), second.results)) == expected
    good = answer("a", "b!")
    assert for_each(good, 5) is good


#: What may come of a job of two chunks, some items of which failed and were replayed twice: how
#: often it was replayed, and the answer.
ARRIVALS = (
    (0, 0, answer("a", "b!0", "c!0")),
    (1, 0, answer("d!0")),
    (0, 1, answer("b=1", "c!1")),
    (0, 2, answer("c!2")),
    (1, 1, answer("d!1")),
    (1, 2, answer("d=2")),
)


@given(st.permutations(ARRIVALS), st.lists(st.sampled_from(ARRIVALS)), st.integers(0, 12))
def test_whatever_order_and_doubles_the_results_are_the_same(
    order: list[tuple[int, int, Reply]], doubles: list[tuple[int, int, Reply]], sealed: int
) -> None:
    answers = Answers()
    chunks: dict[int, list[Result]] = {}

    def hand_on(taken: list[Chunk]) -> None:
        for chunk in taken:
            assert chunk.amends == (chunk.number in chunks)
            before = chunks.get(chunk.number, [])
            results = chunk.reply.results
            chunks[chunk.number] = merged(before, results) if chunk.amends else results

    for place, (number, replays, reply) in enumerate([*order, *doubles]):
        if place == sealed:
            hand_on(answers.seal(2, 4))
        hand_on(answers.add(number, replays, reply))
    if sealed >= len(order) + len(doubles):
        hand_on(answers.seal(2, 4))
    assert answers.is_complete
    found = {number: words(results) for number, results in chunks.items()}
    assert found == {0: ["a=good", "b=1", "c!2"], 1: ["d=2"]}
