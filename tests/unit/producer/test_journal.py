"""What the journal of batch jobs says, and what of it can be dropped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.producer import journal
from lmaas.producer.journal import JobEntry, State, needless, newest

#: What happens to a submission, from its beginning to an end.
LIVES: tuple[tuple[tuple[State, int | None], ...], ...] = (
    (("submitting", None),),
    (("submitting", None), ("submitted", 3)),
    (("submitting", None), ("submitted", 0), ("cancelled", 0)),
    (("submitting", None), ("submitted", 3), ("collected", 3)),
    (("submitting", None), ("submitted", 3), ("collected", 3), ("collected", 3)),
    (("submitting", None), ("submitted", 3), ("cancelled", 3)),
    (("submitting", None), ("cancelled", None)),
    (("submitting", None), ("cancelled", None), ("submitted", 3)),
    (("submitting", None), ("cancelled", 0)),
    (("submitting", None), ("cancelled", 0), ("cancelled", None)),
)


def entry(queue: str, state: State, chunks: int | None = None) -> JobEntry:
    return JobEntry(job=queue[0], state=state, model="m", queue=queue, chunks=chunks, at=1.0)


def life(queue: str, *states: State) -> list[JobEntry]:
    return [entry(queue, state) for state in states]


@st.composite
def journals(draw: st.DrawFn) -> list[JobEntry]:
    """Submissions of a few jobs, the same id several times, with their entries interleaved."""
    lives = draw(st.lists(st.sampled_from(LIVES), max_size=8))
    queues = [f"{draw(st.sampled_from('abc'))}.{number}" for number in range(len(lives))]
    left = [
        [entry(queue, *step) for step in steps] for queue, steps in zip(queues, lives, strict=True)
    ]
    found = []
    while left := [steps for steps in left if steps]:
        found.append(draw(st.sampled_from(left)).pop(0))
    return found


def without(entries: Sequence[JobEntry], places: Sequence[int]) -> list[JobEntry]:
    return [one for place, one in enumerate(entries) if place not in places]


@given(entries=journals(), data=st.data(), kept=st.integers(1, 3))
def test_whatever_is_dropped_of_what_is_needless_the_journal_says_the_same(
    entries: list[JobEntry], data: st.DataObject, kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "ENDED_KEPT", kept)
        said = newest(entries)
        dropped = [place for place in needless(entries) if data.draw(st.booleans())]
        left = without(entries, dropped)
        assert list(newest(left).items()) == list(said.items())
        while places := needless(left):
            left = without(left, places)
        assert list(newest(left).items()) == list(said.items())
        assert len({one.queue for one in left if one.state in journal.ENDED}) <= kept + sum(
            one.state == "submitted" for one in left
        )


def test_what_a_later_entry_has_replaced_is_dropped() -> None:
    assert needless(life("a.1", "submitting")) == []
    assert needless(life("a.1", "submitting", "submitted")) == [0]
    assert needless(life("a.1", "submitted", "collected")) == []


def test_ends_before_the_last_hundred_are_dropped_after_what_came_before_them() -> None:
    ends = [entry(f"{number}.1", "collected") for number in range(1, 101)]
    assert needless(ends) == []
    first = life("a.1", "submitting", "submitted", "collected")
    assert needless([*first, *ends]) == [0, 1]
    assert needless([first[-1], *ends]) == [0]
    assert "a" not in newest([*first, *ends])


def test_a_refused_submission_is_dropped() -> None:
    refused = [entry("a.1", "submitting"), entry("a.1", "cancelled", chunks=0)]
    assert needless(refused) == [0]
    assert needless(refused[1:]) == [0]


def test_jobs_are_in_the_order_in_which_they_were_submitted() -> None:
    entries = [
        *life("a.1", "submitting"),
        *life("b.1", "submitting", "submitted"),
        *life("a.1", "submitted"),
        *life("b.1", "collected"),
    ]
    assert list(newest(entries)) == ["b", "a"]
    assert list(newest(without(entries, needless(entries)))) == ["b", "a"]
