"""A cluster whose nodes are killed one after the other, while a client has texts classified."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Final

import click

from benchmarks import rig
from benchmarks.failures import quorum
from benchmarks.failures.comparison import Row, Verdict, compare, damage, examples, row_of
from benchmarks.failures.pauses import Pauses
from benchmarks.failures.polling import until
from benchmarks.failures.processes import started
from benchmarks.failures.quorum import Role
from benchmarks.failures.stage import CALM, LIMIT, WORKERS, check_alive
from benchmarks.report import Figure, Grid, Report, listed, none, spread
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.local_cluster import LocalCluster
from lmaas.broker_config.scheduling import place
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

#: Small packs, and many on their way: every death finds some of them in each place.
PACK_ITEMS: Final = 5
WINDOW: Final = 50
#: No node is killed before or after these shares of the texts.
FIRST: Final = 0.25
LAST: Final = 0.75
#: Seconds that a client may wait for the next result.
MAY_PAUSE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to one node."""

    role: Role
    #: The share of the texts that are answered when it happens.
    at: float


def plan(seed: int, count: int) -> list[Kill]:
    """Followers and leaders in turn."""
    source = Random(seed)
    roles = itertools.islice(itertools.cycle(Role), count)
    return [Kill(role, source.uniform(FIRST, LAST)) for role in roles]


@dataclass(slots=True)
class Round:
    """What a client got for its texts."""

    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    #: The longest time between two results.
    pause: float = 0.0
    #: Why there are no more, if it gave up.
    gave_up: str = ""
    #: What the killed node was; seconds from its start until it had all that the others have.
    role: Role | None = None
    in_sync: float = 0.0


@dataclass(slots=True)
class Found:
    """A round without accidents, and those with one."""

    texts: int
    seed: int
    calm: Round
    rounds: list[Round] = field(default_factory=list)
    #: Worker processes that ended, which the death of a node is no reason for.
    restarts: int = 0

    def of(self, role: Role) -> list[Round]:
        return [one for one in self.rounds if one.role is role]

    def verdicts(self) -> list[Verdict]:
        """Of every round."""
        return [compare(self.calm.rows, one.rows, {}) for one in self.rounds]


async def measure(
    texts: Sequence[str], kills: int, seed: int, tell: Callable[[str], None] = print
) -> Found:
    """All rounds; it ends by itself."""
    source = Random(seed)
    async with LocalCluster() as cluster:
        settings = on(cluster)
        async with (
            started(settings, *CALM, times=WORKERS) as workers,
            Client(settings) as client,
        ):
            found = Found(len(texts), seed, await classified(client, texts))
            if found.calm.gave_up:
                raise click.ClickException(f"without any accident: {found.calm.gave_up}")
            tell(f"calm round: {found.calm.seconds:.1f} s")
            for kill in plan(seed, kills):
                check_alive(workers)
                found.rounds.append(await stricken(cluster, client, texts, kill, source))
                tell(_line(found.rounds[-1]))
            found.restarts = workers.said("is started again")
            await workers.drained()
    return found


def on(cluster: LocalCluster) -> Settings:
    """With all packs in one lane, so that it is known which nodes they need."""
    return Settings(
        broker_url=cluster.url,
        models=str(rig.MODELS),
        queue_type="quorum",
        policy="fifo",
        pack_items=PACK_ITEMS,
        window=WINDOW,
    )


async def stricken(
    cluster: LocalCluster, client: Client, texts: Sequence[str], kill: Kill, source: Random
) -> Round:
    """A round in which a node is killed, and after which it is as it was before."""
    queue = only_lane(client.settings)
    number = await quorum.node_of(cluster, queue, kill.role, source)
    strike = functools.partial(cluster.kill, number)
    found = await classified(client, texts, strike, int(kill.at * len(texts)))
    found.role = kill.role
    began = time.monotonic()
    async with asyncio.timeout(LIMIT):
        await cluster.start(number)
        await until(lambda: quorum.in_sync(cluster.nodes[number], queue))
    found.in_sync = time.monotonic() - began
    return found


def only_lane(settings: Settings) -> str:
    """The queue that every pack goes through by the policy "fifo"."""
    lane, _ = place("fifo", settings.ageing, 0.0)
    return settings.names.work_queue(rig.MODEL, lane)


async def classified(
    client: Client,
    texts: Sequence[str],
    strike: Callable[[], None] | None = None,
    after: int = 0,
) -> Round:
    """The results; `strike` is called after so many of them."""
    found = Round()
    began = time.monotonic()
    pauses = Pauses()
    try:
        async for result in client.classify_many(rig.MODEL, texts):
            pauses.note()
            found.rows.append(row_of(result))
            if strike and len(found.rows) == after:
                strike()
    except LmaasError as error:
        pauses.note()
        found.gave_up = str(error)
    found.pause = pauses.longest
    found.seconds = time.monotonic() - began
    return found


def _line(found: Round) -> str:
    return (
        f"{found.role} killed: {len(found.rows):,} results in {found.seconds:.1f} s, "
        f"pause {found.pause:.2f} s, in sync after {found.in_sync:.1f} s"
    )


def report(found: Found) -> Report:
    return Report(
        benchmark="cluster",
        setting=f"three nodes on one host, quorum queues, one lane (fifo), {WORKERS} workers; "
        f"`classify_many` of {found.texts:,} IMDB reviews in packs of {PACK_ITEMS}, {WINDOW} on "
        f"their way, again and again; in each round one node is killed -9, seed {found.seed}",
        figures=[*_counts(found), *_pauses(found), *_times(found)],
        tables=_tables(found),
    )


def _counts(found: Found) -> list[Figure]:
    kills = [
        Figure(name=f"{role}s of the lane killed -9", value=len(found.of(role)), unit="")
        for role in Role
    ]
    others = {
        "times that the client gave up": sum(bool(one.gave_up) for one in found.rounds),
        "worker processes that ended": found.restarts,
    }
    return [*kills, *damage("texts", found.verdicts()), *none(others)]


def _pauses(found: Found) -> list[Figure]:
    return [
        Figure(
            name=f"longest pause between two results, {role} killed",
            value=max(one.pause for one in killed),
            unit="s",
            at_most=MAY_PAUSE,
        )
        for role in Role
        if (killed := found.of(role))
    ]


def _times(found: Found) -> list[Figure]:
    seconds = [one.in_sync for one in found.rounds]
    return [
        Figure(name="calm round", value=found.calm.seconds, unit="s"),
        Figure(name="killed node started: in sync again, median", value=median(seconds), unit="s"),
        Figure(name="killed node started: in sync again, longest", value=max(seconds), unit="s"),
    ]


def _tables(found: Found) -> list[Grid]:
    by_role = {role: killed for role in Role if (killed := found.of(role))}
    lines = {
        **examples(found.verdicts()),
        "What the client said when it gave up": [
            one.gave_up for one in found.rounds if one.gave_up
        ],
    }
    return [
        Grid(
            title="Nodes killed; seconds are the median and the longest",
            columns=["", "times", "round", "longest pause in it", "in sync after the start"],
            rows=[
                [
                    role,
                    len(killed),
                    spread([one.seconds for one in killed]),
                    spread([one.pause for one in killed]),
                    spread([one.in_sync for one in killed]),
                ]
                for role, killed in by_role.items()
            ],
        ),
        *listed(lines),
    ]
