import numpy as np
import pytest

from benchmarks import balance, simulator
from benchmarks.balance import FAST, LOAD, PACES, SLOW, TUNED, WAYS, Added, Mixed, Speed, shared
from lmaas.broker_config.settings import Settings


@pytest.mark.parametrize("servers", [1, 3])
def test_shared_queue_of_equal_workers_is_the_simulators(servers):
    arrivals = np.sort(np.random.default_rng(1).uniform(0, 20, 200))
    took, _ = shared(arrivals, [0.1] * servers)
    waits = simulator.replay(arrivals, np.full(200, 0.1), simulator.fifo, servers=servers)
    assert took - 0.1 == pytest.approx(waits)


def test_shared_queue_prefers_the_fastest_that_is_free():
    took, workers = shared(np.array([0.0, 0.0, 0.0, 9.0]), [4.0, 1.0])
    assert took.tolist() == [1, 4, 2, 1]
    assert workers.tolist() == [1, 0, 1, 1]


def test_arrivals_are_at_the_load():
    arrivals = balance._arrivals()
    capacity = sum(1 / pace for pace in PACES)
    assert arrivals.size / arrivals[-1] == pytest.approx(LOAD * capacity)


def test_paces_are_what_the_comment_says():
    from lmaas.broker_config.scheduling import lane, misplaced
    from lmaas.workers.ready_queue import JOIN_SECONDS

    assert 2 * FAST > JOIN_SECONDS
    assert misplaced(lane(FAST), SLOW) is None


@pytest.mark.parametrize("way", WAYS)
def test_each_run_has_queues_of_its_own(way):
    first, second = (balance._under(Settings(), way) for _ in range(2))
    assert first.prefix != second.prefix
    assert Settings.load(**{name: getattr(first, name) for name in ("prefix", *WAYS[way])})


def test_figures_and_cells():
    ideal = Mixed(mean=0.01, p99=0.06, slow_share=0.1, batch=1.0)
    ours = Mixed(mean=0.02, p99=0.07, slow_share=0.1, batch=1.2)
    other = Mixed(mean=0.2, p99=0.7, slow_share=0.3, batch=6.0)
    mixed = dict.fromkeys(WAYS, other) | {TUNED: ours}
    values = [figure.value for figure in balance._mixed_figures(mixed, ideal)]
    assert values == pytest.approx([2, 1.2, *[10] * (len(WAYS) - 1)])
    assert other.cells(ideal) == [200, 700, 0.3, 6, 6]
    assert Added(first=None, share=0.0, everything=2.0).cells() == ["never", 0.0, 2.0]


def test_tuned_prefetch_beside_the_best_fixed_one():
    speeds = {
        (prefetch, size): Speed(speed=100.0 + prefetch if prefetch else 114.0, held=3)
        for prefetch in balance.PREFETCHES
        for size in balance.SIZES
    }
    ratio, held, *_ = balance._speed_figures(speeds)
    assert ratio.value == pytest.approx(114 / 228)
    assert held.value == 3
    assert len(balance._speed_grid(speeds).rows) == len(balance.PREFETCHES)
