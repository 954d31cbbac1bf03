"""What tenants have had, and the order between their packs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import queueing
from benchmarks.simulator import ageing, replay, replay_tenants
from lmaas.workers import shares as module
from lmaas.workers.ready_queue import JOIN_ITEMS, ReadyQueue
from lmaas.workers.shares import Shares

AGEING = 0.1
MEMORY = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shares(clock: Clock) -> Shares:
    return Shares(MEMORY, clock)


@pytest.fixture
def queue(shares: Shares, clock: Clock) -> ReadyQueue[str]:
    return ReadyQueue(AGEING, shares, clock)


def put(
    queue: ReadyQueue[str], name: str, tenant: str, *, seconds: float = 0.01, waited: float = 0.0
) -> None:
    queue.put(
        name, tenant=tenant, kind="model", rank=seconds, seconds=seconds, size=JOIN_ITEMS,
        arrival=1_000.0 - waited,
    )  # fmt: skip


def order(queue: ReadyQueue[str]) -> list[str]:
    """In which all of it is taken; the head is always what is taken next."""
    taken: list[str] = []
    while head := queue.head:
        found = queue.take_held()
        assert found[0] == head[1]
        taken += found
    assert not queue
    return taken


def test_who_has_had_more_than_the_average_is_ahead(shares: Shares) -> None:
    for tenant, seconds in (("a", 3.0), ("b", 2.0), ("c", 1.0)):
        shares.add(tenant, seconds)
    assert set(shares.ahead(["a", "b", "c"])) == {"a"}
    assert set(shares.ahead(["b", "c"])) == {"b"}
    assert set(shares.ahead(["a", "c", "new"])) == {"a"}
    assert not set(shares.ahead(["a"]))
    assert not set(shares.ahead(["x", "y"]))


def test_what_was_had_fades(shares: Shares, clock: Clock) -> None:
    shares.add("a", 2.0)
    clock.now += MEMORY
    shares.add("b", 1.0)  # more than a third of 2
    assert set(shares.ahead(["a", "b"])) == {"b"}


def test_so_many_tenants_are_remembered(shares: Shares, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    for tenant in ("a", "b", "a", "c"):
        shares.add(tenant, 1.0)
    assert set(shares._had) == {"a", "c"}


def test_waiting_does_not_count_for_who_is_ahead(queue: ReadyQueue[str], shares: Shares) -> None:
    for number in range(3):
        put(queue, f"old {number}", "greedy", waited=60 - number)
    put(queue, "fresh", "other", waited=0.001)
    shares.add("greedy", 0.5)
    assert order(queue) == ["fresh", "old 0", "old 1", "old 2"]


def test_it_counts_as_long_as_both_have_had_as_much(queue: ReadyQueue[str]) -> None:
    put(queue, "old", "greedy", waited=60)
    put(queue, "fresh", "other")
    assert order(queue) == ["old", "fresh"]


def test_shorter_packs_come_first_whoever_has_had_more(
    queue: ReadyQueue[str], shares: Shares
) -> None:
    put(queue, "long", "other", seconds=1.0)
    put(queue, "short", "greedy", seconds=0.01)
    shares.add("greedy", 5.0)
    assert order(queue) == ["short", "long"]


@pytest.mark.parametrize(("waited", "first"), [(9.8, "short"), (10.0, "long")])
def test_a_long_pack_waits_for_shorter_ones_of_others_up_to_its_bound(
    queue: ReadyQueue[str], shares: Shares, waited: float, first: str
) -> None:
    """However long those have waited: a second of waiting makes up for 0.1 s of work."""
    put(queue, "long", "other", seconds=1.0, waited=waited)
    put(queue, "short", "greedy", seconds=0.01, waited=500)
    shares.add("greedy", 5.0)
    assert order(queue)[0] == first


def test_packs_of_one_tenant_keep_their_order(queue: ReadyQueue[str], shares: Shares) -> None:
    put(queue, "long and old", "greedy", seconds=1.0, waited=60)
    put(queue, "short", "greedy")
    put(queue, "other", "other")
    shares.add("greedy", 1.0)
    assert order(queue) == ["other", "long and old", "short"]


def test_with_no_memory_all_tenants_are_one(clock: Clock) -> None:
    shares = Shares(0.0, clock)
    queue: ReadyQueue[str] = ReadyQueue(AGEING, shares, clock)
    put(queue, "old", "greedy", waited=60)
    put(queue, "fresh", "other")
    shares.add("greedy", 100.0)
    assert order(queue) == ["old", "fresh"]


def test_packs_of_several_tenants_are_taken_together(queue: ReadyQueue[str]) -> None:
    for number, tenant in enumerate("abab"):
        queue.put(
            str(number), tenant=tenant, kind="m", rank=0.0, seconds=0.0001, size=1,
            arrival=1_000.0 + number,
        )  # fmt: skip
    assert queue.take_held() == ["0", "1", "2", "3"]
    assert queue.take_held() == []


# ------------------------------------------------------- a worker, simulated

JOBS = 4_000


def trace(seed: int, load: float, count: int = JOBS) -> tuple[queueing.Seconds, queueing.Seconds]:
    rng = np.random.default_rng(seed)
    seconds = rng.lognormal(-3.0, 0.5, count)
    return queueing.poisson(rng, queueing.rate_for(seconds, load), count), seconds


def merged(
    *parts: tuple[str, tuple[queueing.Seconds, queueing.Seconds]],
) -> tuple[queueing.Seconds, queueing.Seconds, list[str]]:
    came = np.concatenate([arrivals for _, (arrivals, _) in parts])
    took = np.concatenate([seconds for _, (_, seconds) in parts])
    names = [name for name, (arrivals, _) in parts for _ in arrivals]
    places = np.argsort(came, kind="stable")
    return came[places], took[places], [names[place] for place in places]


def test_with_one_tenant_nothing_is_changed() -> None:
    came, took = trace(1, 0.9)
    plain = replay(came, took, ageing(0.15))
    found = replay_tenants(came, took, ["one"] * JOBS, gain=0.15, memory=30.0)
    assert np.array_equal(plain, found)


def waits(memory: float, tenant: str) -> queueing.Seconds:
    """One sends half again as much as the worker can do; the other a tenth of it."""
    flood = trace(2, 1.5)
    span = flood[0][-1]
    calls = trace(3, 0.1)
    few = calls[0] < span
    came, took, names = merged(("flood", flood), ("calls", (calls[0][few], calls[1][few])))
    found = replay_tenants(came, took, names, gain=0.15, memory=memory)
    return found[np.array(names) == tenant]


def test_a_tenant_that_floods_does_not_keep_the_others_waiting() -> None:
    """A call of 0.06 s, as they are on average, waits for shorter ones for at most 0.4 s."""
    assert np.quantile(waits(30.0, "calls"), 0.99) < 1.0
    assert np.quantile(waits(0.0, "calls"), 0.99) > 20
    # It pays for that with no more than what the others have had.
    assert waits(30.0, "flood").mean() < 1.1 * waits(0.0, "flood").mean()


def test_of_two_that_flood_each_has_half() -> None:
    came, took, names = merged(("a", trace(4, 3.0)), ("b", trace(5, 1.0)))
    starts = came + replay_tenants(came, took, names, gain=0.15, memory=5.0)
    of_a = np.array(names) == "a"
    # While both have something to do, after the first waits:
    early = (starts > 20) & (starts < 120)
    assert took[early & of_a].sum() / took[early].sum() == pytest.approx(0.5, abs=0.05)


def test_who_is_passed_by_others_is_not_passed_for_ever() -> None:
    """A long pack of who has had much, while others fill the worker with short ones."""
    count = 6_000
    short = (np.arange(count) * 0.05, np.full(count, 0.05))
    came, took, names = merged(
        ("first", (np.zeros(40), np.full(40, 0.5))), ("others", (20 + short[0], short[1])),
        ("first", (np.array([19.0]), np.array([2.0]))),
    )  # fmt: skip
    (long,) = np.flatnonzero(took == 2.0)
    found = replay_tenants(came, took, names, gain=0.15, memory=5.0)
    plain = replay_tenants(came, took, names, gain=0.15, memory=0.0)
    assert plain[long] > 2.0 / 0.15 - 1
    assert found[long] < plain[long] + 3 * 5.0
