"""Mixed sizes: who waits how long under each policy, beside what theory allows.

One worker process on a private broker answers packs of IMDB reviews that come when a trace says,
whether earlier ones are answered or not (see `open_loop`). Every policy gets the same trace. The
worker has a pace (see `paced`): it takes as long as a model twenty-five times the size, whatever
else runs on its cores.

Beside each measured wait are the replay of the same arrivals with the service times of that very
run, and the formula at the load of that very run: a machine that others slow down is taken for the
machine that it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks import paced, queueing, rig, simulator, traces
from benchmarks.open_loop import BYTE_SECONDS, ROUND_TRIP, WARM_UP, Bench, Packs, Run
from benchmarks.queueing import Seconds
from benchmarks.report import Cell, Figure, Grid, Plot, Report, Series, lines
from benchmarks.traces import Trace, broker_levels
from lmaas.broker_config.messages import Item, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.workers.ready_queue import JOIN_SECONDS

GAIN: Final = Settings().ageing
FIFO, SJF, AGED = "fifo", "sjf without ageing", f"srtf, ageing {GAIN:g} (default)"
#: What each sets beyond the defaults.
POLICIES: Final[dict[str, dict[str, Any]]] = {
    FIFO: {"policy": "fifo"},
    SJF: {"policy": "sjf", "ageing": 0.0},
    AGED: {},
}
RULES: Final[dict[str, simulator.Policy]] = {
    FIFO: simulator.fifo,
    SJF: broker_levels,
    AGED: simulator.ageing(GAIN),
}

#: Service times that are asked for: mean in seconds, coefficient of variation.
MEAN, VARIATION = 0.025, 1.7
#: The formulas, and the policy at whose load they are taken.
PLAIN, LEVELS, LIMIT = "Pollaczek-Khinchine (fifo)", "Cobham (our levels)", "Phipps (sjf)"
FORMULAS: Final = {PLAIN: FIFO, LEVELS: SJF, LIMIT: SJF}

#: Seconds of a trace at each load.
LOADS: Final = {0.5: 8.0, 0.7: 10.0, 0.9: 50.0, 0.95: 15.0}
#: Where the goals are. A run there whose load is off by more than this share is made again, up to
#: so many times in all, with the packs as much further apart as the worker was slower.
BUSY, OFF, TRIES = 0.9, 0.02, 3
BURST: Final = 300
#: Classes by size: the shortest half, the next 40 %, the longest 10 %.
CLASSES: Final = ("shortest half", "next 40 %", "longest 10 %")

#: Too many short packs, `OVERLOAD` times what the worker can do for so many seconds, and long ones.
#: Short ones are long enough that a worker joins no two of them.
OVERLOAD, OVERLOAD_SECONDS = 1.4, 6.0
SHORT, LONG = 0.008, 0.15
LONG_AT: Final = (1.0, 2.0, 3.0)

#: Batch jobs: chunks of each, reviews of a chunk.
JOBS: Final = tuple(int(size) for size in np.geomspace(1, 1000, 10).round())
CHUNK: Final = 2


#: All policies at one load.
Runs = Mapping[str, Run]


def _under(settings: Settings, policy: str) -> Settings:
    return msgspec.structs.replace(settings, **POLICIES[policy])


async def measure() -> Report:
    texts = rig.reviews()
    async with rig.broker() as settings:
        bench = Bench(settings, Packs(texts))
        await bench.calibrate()
        played = {load: await _played(bench, load, seconds) for load, seconds in LOADS.items()}
        burst = await _burst(bench)
        overload = await _overload(bench)
        jobs = await _jobs(bench, texts)
    runs = {load: found for load, (_, found) in played.items()}
    checks = _by_load("Runs", runs, _checks)
    far = (trace.distance for trace, _ in played.values())
    checks.rows.append(["the trace's replay is off the formulas by a share of at most", *far])
    plain = runs[BUSY][FIFO]
    return Report(
        benchmark="ordering",
        setting=f"one worker with a pace of {BYTE_SECONDS * 1e6:g} µs a byte; packs of IMDB "
        f"reviews, at load {BUSY:g} {plain.seconds.size:,} of "
        f"{plain.seconds.mean() * 1e3:.1f} ms on average, coefficient of variation "
        f"{plain.seconds.std() / plain.seconds.mean():.2f}, {bench.overhead * 1e3:.2f} ms of it "
        f"overhead; of {traces.CANDIDATES} random traces the one whose replay is nearest to the "
        "formulas, so that a figure measures the system and not luck; formulas and replays at the "
        "load of the very run",
        figures=[*_busy_figures(runs[BUSY]), *burst, *overload, *jobs],
        tables=[
            _by_load("Mean wait, ms", runs, _means),
            _by_load("Mean wait by size, ms", runs, _class_waits),
            _by_load("p99 of the time from publish to answer by size, ms", runs, _class_tails),
            checks,
        ],
        plots=[_plot_means(runs), _plot_tails(runs[BUSY])],
    )


# ----------------------------------------------------------------- steady loads


async def _played(bench: Bench, load: float, seconds: float) -> tuple[Trace, Runs]:
    """One trace under every policy."""
    sizes = traces.lognormal(int(load * seconds / MEAN), MEAN, VARIATION)
    trace = traces.steady(sizes, load, GAIN)
    return trace, {policy: await _run(bench, policy, load, trace) for policy in POLICIES}


async def _run(bench: Bench, policy: str, load: float, trace: Trace) -> Run:
    """The one of some tries whose load is nearest to the load that is asked for."""
    runs: list[Run] = []
    while not runs or (load == BUSY and _off(runs[-1], load) > OFF and len(runs) < TRIES):
        if runs:
            trace = trace.slower(runs[-1].load / load)
        runs.append(await bench.play(_under(bench.settings, policy), trace))
    return min(runs, key=lambda run: _off(run, load))


def _off(run: Run, load: float) -> float:
    return abs(run.load / load - 1)


def _promised(run: Run) -> dict[str, float]:
    """The mean wait of each formula in seconds; nothing when there was too much work."""
    if run.load >= 1:
        return {}
    levels = broker_levels(run.seconds, run.seconds)
    waits = {
        PLAIN: queueing.fifo(run.seconds, run.rate),
        LEVELS: queueing.levels(run.seconds, run.rate, levels),
        LIMIT: queueing.sjf(run.seconds, run.rate),
    }
    return {name: float(wait.mean()) for name, wait in waits.items()}


def _busy_figures(runs: Runs) -> Iterator[Figure]:
    shortest, aged, plain = runs[SJF], runs[AGED], runs[FIFO]
    at, wait = f"at load {BUSY:g}", float(shortest.waits.mean())
    for name, promised in _promised(shortest).items():
        goal = 1.1 if name == LEVELS else None
        yield Figure(
            name=f"{SJF}, mean wait {at} / {name}", value=wait / promised, unit="", at_most=goal
        )
    yield Figure(
        name=f"{SJF}, mean wait {at} / replay with our levels",
        unit="",
        value=wait / float(shortest.replayed(broker_levels).mean()),
    )
    for policy in (SJF, AGED):
        yield Figure(
            name=f"{policy} / fifo, mean wait {at}",
            unit="",
            value=float(runs[policy].waits.mean() / plain.waits.mean()),
        )
    tail, what = _tail(aged, aged.took), f"longest 10 %, p99 of the answer {at}"
    yield Figure(
        name=f"{what}, {AGED} / fifo", value=tail / _tail(plain, plain.took), unit="", at_most=1.5
    )
    fifo = aged.replayed(simulator.fifo)
    yield Figure(
        name=f"{what}, {AGED} / replay of fifo with its service times",
        unit="",
        value=tail / _tail(aged, fifo + aged.seconds),
    )
    yield Figure(
        name=f"{what}, both replayed",
        unit="",
        value=traces.tail_ratio(aged.seconds, aged.replayed(RULES[AGED]), fifo),
    )


def _tail(run: Run, values: Seconds) -> float:
    """The p99 of the longest class."""
    return run.by_class(values)[-1].p99


def _means(runs: Runs) -> dict[str, Cell]:
    """Milliseconds."""
    cells: dict[str, Cell] = {}
    for policy, run in runs.items():
        cells[policy] = float(run.waits.mean()) * 1e3
        cells[f"{policy}: replay"] = float(run.replayed(RULES[policy]).mean()) * 1e3
    for name, policy in FORMULAS.items():
        promised = _promised(runs[policy])
        cells[name] = promised[name] * 1e3 if promised else "without end"
    return cells


def _class_waits(runs: Runs) -> dict[str, Cell]:
    """Milliseconds."""
    return {
        f"{policy}: {name}": part.mean * 1e3
        for policy, run in runs.items()
        for name, part in zip(CLASSES, run.by_class(run.waits), strict=True)
    }


def _class_tails(runs: Runs) -> dict[str, Cell]:
    """Milliseconds."""
    return {
        f"{policy}: {name}": part.p99 * 1e3
        for policy, run in runs.items()
        for name, part in zip(CLASSES, run.by_class(run.took), strict=True)
    }


def _checks(runs: Runs) -> dict[str, Cell]:
    """What shows whether the runs can be trusted."""
    cells: dict[str, Cell] = {}
    for policy, run in runs.items():
        cells[f"{policy}: load of this run"] = run.load
        cells[f"{policy}: overhead of a pack, ms"] = run.overhead * 1e3
        cells[f"{policy}: wait of packs that found nobody, median, ms"] = run.way * 1e3
        late = np.quantile(run.late, (0.5, 0.99)) * 1e3
        cells[f"{policy}: producer late, median and p99, ms"] = "{:.1f}, {:.1f}".format(*late)
    return cells


def _by_load(
    title: str, runs: Mapping[float, Runs], column: Callable[[Runs], Mapping[str, Cell]]
) -> Grid:
    columns = [column(found) for found in runs.values()]
    return Grid(
        title=title,
        columns=["", *(f"load {load:g}" for load in runs)],
        rows=[[name, *(cells[name] for cells in columns)] for name in columns[0]],
    )


def _plot_means(runs: Mapping[float, Runs]) -> Plot:
    columns = {load: _means(found) for load, found in runs.items()}
    points = {
        name: [(load, cell) for load, cells in columns.items()
               if not isinstance(cell := cells[name], str)]
        for name in (*POLICIES, *FORMULAS)
    }  # fmt: skip
    return lines("Mean wait by load", "load", "ms", points, ours=[SJF, AGED], name="waits",
                 y_scale="log")  # fmt: skip


def _plot_tails(runs: Runs) -> Plot:
    return Plot(
        title=f"p99 of the time from publish to answer at load {BUSY:g}",
        kind="bars",
        y="ms",
        series=[
            Series(name=policy, y=[part.p99 * 1e3 for part in run.by_class(run.took)])
            for policy, run in runs.items()
        ],
        categories=list(CLASSES),
        ours=[SJF, AGED],
        y_scale="log",
        name="tails",
    )


# ------------------------------------------------------- bursts, overload, jobs


async def _burst(bench: Bench) -> list[Figure]:
    trace = traces.burst(traces.lognormal(BURST, MEAN, VARIATION))
    packs = bench.requests(trace.seconds)
    plain, shortest = [
        await bench.burst(_under(bench.settings, policy), packs) for policy in (FIFO, SJF)
    ]
    # Of the time that each burst took in all: the machine may be slower in one of the two.
    waited = [float(run.waits.mean() / run.answered.max()) for run in (shortest, plain)]
    ratio, theory = waited[0] / waited[1], queueing.burst_ratio(shortest.seconds)
    # Only the order is measured here, so that no other work on the machine can spoil it.
    seen = trace.seconds[shortest.answered.argsort(kind="stable")]
    return [
        Figure(name=f"burst of {BURST}: mean wait, {SJF} / fifo", value=ratio, unit=""),
        Figure(name="burst: 1 - Gini of the measured service times", value=theory, unit=""),
        Figure(name="burst: measured / 1 - Gini", value=ratio / theory, unit="", at_most=1.1),
        Figure(name="burst: mean wait in the order that was seen / in the best one, at the service "
               "times that were asked for", unit="",
               value=_mean_start(seen) / _mean_start(np.sort(seen))),
    ]  # fmt: skip


def _mean_start(seconds: Seconds) -> float:
    """The mean wait of packs that are run one after the other in this order."""
    return float((np.cumsum(seconds) - seconds).mean())


async def _overload(bench: Bench) -> list[Figure]:
    """Long packs among too many short ones, as the default has it."""
    arrivals = np.arange(0, OVERLOAD_SECONDS, SHORT / OVERLOAD)
    places = np.searchsorted(arrivals, LONG_AT)
    seconds = np.insert(np.full(arrivals.size, SHORT), places, LONG)
    arrivals = np.insert(arrivals, places, LONG_AT)
    run = await bench.play(bench.settings, Trace(arrivals, seconds, 0.0))
    long = np.flatnonzero(seconds == LONG)
    # By the seconds that were asked for: the worker orders by what it expects a pack to take. What
    # the formula knows nothing of is that packs are run together, and their way.
    bound = simulator.ageing_bound(run.published, run.seconds, GAIN, seconds) + run.seconds
    bound += JOIN_SECONDS + ROUND_TRIP
    worst = long[(run.took / bound)[long].argmax()]
    starved = run.replayed(broker_levels)[long].max() + run.seconds[long].max()
    what = f"a pack of {LONG * 1e3:g} ms among short ones at load {run.load:.2f}"
    return [
        Figure(name=f"{what}: answered after", value=float(run.took[worst]), unit="s"),
        Figure(name="the bound: what was there, what came until ageing made up for its size, "
               f"packs run together ({JOIN_SECONDS * 1e3:g} ms), the way ({ROUND_TRIP * 1e3:g} ms)",
               value=float(bound[worst]), unit="s"),
        Figure(name=f"seen / bound, the worst of {long.size}",
               value=float(run.took[worst] / bound[worst]), unit="", at_most=1),
        Figure(name="without ageing, by replay", value=float(starved), unit="s"),
    ]  # fmt: skip


async def _jobs(bench: Bench, texts: Sequence[str]) -> list[Figure]:
    sizes = _typical(JOBS)
    run, everything = await _published_at_once(bench, sizes, texts)
    windowed = await _completed(bench, sizes, texts)
    chunk = float(run.answered.max()) / sum(sizes)
    linear = _typical(tuple(range(100, 1001, 100)))
    what = f"{len(JOBS)} jobs of {JOBS[0]} to {JOBS[-1]:,} chunks of {chunk * 1e3:.1f} ms"
    gain, window = float(everything.mean() / windowed.mean()), bench.settings.window
    return [
        Figure(name=f"{what}: mean completion, fifo, all published at once", unit="s",
               value=float(everything.mean())),
        Figure(name=f"{what}: mean completion, {AGED}, windows of {window}", unit="s",
               value=float(windowed.mean())),
        Figure(name="jobs: fifo / srtf", value=gain, unit="", at_least=2),
        Figure(name="jobs: fifo / srtf by replay, without ageing", unit="",
               value=_job_gain(sizes, chunk, window)),
        Figure(name="jobs of 100, 200 ... 1,000 chunks: fifo / srtf by replay", unit="",
               value=_job_gain(linear, chunk, window)),
    ]  # fmt: skip


async def _published_at_once(
    bench: Bench, sizes: Sequence[int], texts: Sequence[str]
) -> tuple[Run, Seconds]:
    """All chunks of one job after the other, in lanes in order of arrival; when each job is done.

    The time to publish them does not count.
    """
    chunks = [
        Request(
            model=rig.MODEL, items=[Item(id=str(n), text=job[n]) for n in range(at, at + CHUNK)]
        )
        for job in _work(sizes, texts)
        for at in range(0, len(job), CHUNK)
    ]
    run = await bench.burst(_under(bench.settings, FIFO), chunks)
    jobs = np.split(run.answered, np.cumsum(sizes)[:-1])
    return run, np.array([job.max() for job in jobs])


def _work(sizes: Sequence[int], texts: Sequence[str]) -> list[list[str]]:
    """The texts of each job."""
    return [list(itertools.islice(itertools.cycle(texts), size * CHUNK)) for size in sizes]


def _job_gain(sizes: Sequence[int], chunk: float, window: int) -> float:
    """Mean completion with everything published at once / shortest remaining job first."""
    chunks, there = [[chunk] * size for size in sizes], np.zeros(len(sizes))
    plain = simulator.replay_jobs(there, chunks, simulator.fifo, window=max(sizes))
    ours = simulator.replay_jobs(there, chunks, simulator.sjf, window=window)
    return float(plain.mean() / ours.mean())


def _typical(sizes: Sequence[int]) -> list[int]:
    """The order whose mean completion under FIFO is nearest to that of all orders."""
    mean = sum(sizes) * (len(sizes) + 1) / 2 / len(sizes)
    orders = [np.random.default_rng(seed).permutation(sizes) for seed in range(traces.CANDIDATES)]
    nearest = min(orders, key=lambda order: abs(float(np.cumsum(order).mean()) - mean))
    return [int(size) for size in nearest]


async def _completed(bench: Bench, sizes: Sequence[int], texts: Sequence[str]) -> Seconds:
    """Seconds until each job is done; one client a job, all submitted in this order at once."""
    settings = msgspec.structs.replace(bench.settings, pack_items=CHUNK)
    clock = asyncio.get_running_loop().time

    async def done(client: Client, job: Sequence[str]) -> float:
        async for _ in client.classify_many(rig.MODEL, job, ordered=False):
            pass
        return clock()

    async with paced.worker(settings, a_byte=BYTE_SECONDS), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(settings)) for _ in sizes]
        await done(clients[0], texts[: WARM_UP * CHUNK])
        began = clock()
        ends = await asyncio.gather(*map(done, clients, _work(sizes, texts)))
    return np.array(ends) - began
