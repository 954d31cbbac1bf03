"""A new version under load: callers send packs in a loop while a complete version is copied into
the folder of their worker, which notices it, loads it beside the old one, and switches.

Every version is the shipped model with labels of its own, so that each result shows which version
it is of, whatever its reply says.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np

from benchmarks import rig
from benchmarks.report import Cell, Figure, Grid, Report, bars, none
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.messages import Item, Reply, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

MODEL: Final = "switching"
VERSIONS: Final = ("1", "2", "3", "4")
CALLERS: Final = 8
#: Texts of a pack, and words of a text.
PACK, WORDS = 8, 60
PACKS: Final = 64
#: Seconds before the first copy and after each switch, and those after the first answer of a
#: version that still belong to its switch.
CALM, SETTLE = 4.0, 1.0
#: Seconds for a version to answer.
PATIENCE: Final = 30.0
#: Goal for the p99 during a switch against that before the first.
MAY_SLOW: Final = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A pack's, on the monotonic clock."""

    asked: float
    answered: float
    #: Those that its labels are of; what is not classified has none.
    versions: frozenset[str]
    #: The one that its reply names.
    named: str | None
    errors: int

    @property
    def mixed(self) -> bool:
        """Whether not all of it is of the version that it names."""
        return bool(self.versions - {self.named})


@dataclass(frozen=True, slots=True)
class Switch:
    """To a version, in seconds."""

    version: str
    #: When the copy began, on the monotonic clock.
    began: float
    #: From then to its end, and to the first answer of the version.
    copied: float
    first: float

    @property
    def ended(self) -> float:
        """When all is calm again."""
        return self.began + self.first + SETTLE


@dataclass(slots=True)
class Callers:
    """Send packs in a loop, and note what becomes of each."""

    client: Client
    packs: Sequence[Request]
    answers: list[Answer] = field(default_factory=list)
    #: What calls raised.
    failed: list[str] = field(default_factory=list)
    #: When each version answered first; and the event of it, for a version that is awaited.
    first: dict[str, float] = field(default_factory=dict)
    awaited: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))

    async def call(self, first: int) -> None:
        """For ever."""
        for place in itertools.count(first, CALLERS):
            asked = time.monotonic()
            try:
                reply = await self.client.run(self.packs[place % len(self.packs)])
            except LmaasError as error:
                self.failed.append(str(error))
            else:
                self._note(_answer(asked, reply))

    def _note(self, answer: Answer) -> None:
        self.answers.append(answer)
        for version in answer.versions - self.first.keys():
            self.first[version] = answer.answered
            self.awaited[version].set()

    async def first_of(self, version: str) -> float:
        """The moment of its first answer. Raises ClickException when there is none for long."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.awaited[version].wait()
        except TimeoutError:
            why = self.failed[-1] if self.failed else f"{', '.join(self.first) or 'nobody'} did"
            raise click.ClickException(
                f"version {version} did not answer within {PATIENCE:g} s: {why}"
            ) from None
        return self.first[version]

    @contextlib.asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.call(first)) for first in range(CALLERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _answer(asked: float, reply: Reply) -> Answer:
    labels = [result.label for result in reply.results if result.label is not None]
    return Answer(
        asked=asked,
        answered=time.monotonic(),
        versions=frozenset(label.rpartition(" ")[2] for label in labels),
        named=reply.version,
        errors=len(reply.results) - len(labels) + (reply.error is not None),
    )


async def measure() -> Report:
    with tempfile.TemporaryDirectory() as folder:
        ready, models = Path(folder) / "ready", Path(folder) / "models"
        for version in VERSIONS:
            _make(ready / version, version)
        await _copy(ready, models, VERSIONS[0])
        async with rig.broker() as settings:
            own = msgspec.structs.replace(settings, models=str(models))
            callers, switches = await _switched(own, ready, models)
    return _report(callers, switches)


def _make(target: Path, version: str) -> None:
    """The shipped model under another name, with labels that end with the version."""
    shutil.copytree(rig.MODELS / rig.MODEL / "1", target)
    path = target / "manifest.json"
    manifest = json.loads(path.read_text())
    labels = [f"{label} {version}" for label in manifest["labels"]]
    path.write_text(json.dumps(manifest | {"name": MODEL, "version": version, "labels": labels}))


async def _copy(ready: Path, models: Path, version: str) -> None:
    """As people do: file by file, into the folder that the worker looks at."""
    await asyncio.to_thread(shutil.copytree, ready / version, models / MODEL / version)


async def _switched(settings: Settings, ready: Path, models: Path) -> tuple[Callers, list[Switch]]:
    switches = []
    async with rig.workers(settings, 1), Client(settings) as client:
        callers = Callers(client, _packs(rig.reviews()))
        await client.run(callers.packs[0])  # connected
        async with callers.calling():
            await asyncio.sleep(CALM)
            for version in VERSIONS[1:]:
                began = time.monotonic()
                await _copy(ready, models, version)
                copied = time.monotonic()
                first = await callers.first_of(version)
                switches.append(Switch(version, began, copied - began, first - began))
                await asyncio.sleep(SETTLE + CALM)
    return callers, switches


def _packs(texts: Sequence[str]) -> list[Request]:
    items = [
        Item(id=str(place), text=" ".join(text.split()[:WORDS]))
        for place, text in enumerate(texts[: PACKS * PACK])
    ]
    starts = range(0, len(items), PACK)
    return [Request(model=MODEL, items=items[start : start + PACK]) for start in starts]


# ----------------------------------------------------------------------- report


def _phases(answers: Sequence[Answer], switches: Sequence[Switch]) -> dict[str, list[Answer]]:
    """By when they were asked: before the first switch, during one, after one."""
    phases: dict[str, list[Answer]] = {"before": [], "during": [], "after": []}
    for answer in answers:
        if answer.asked < switches[0].began:
            phases["before"].append(answer)
        elif any(one.began <= answer.asked < one.ended for one in switches):
            phases["during"].append(answer)
        else:
            phases["after"].append(answer)
    return phases


def _p99(answers: Sequence[Answer]) -> float:
    """Of the milliseconds that packs took."""
    return float(np.percentile([one.answered - one.asked for one in answers], 99)) * 1e3


def _report(callers: Callers, switches: Sequence[Switch]) -> Report:
    answers, firsts = callers.answers, [one.first for one in switches]
    p99 = {phase: _p99(some) for phase, some in _phases(answers, switches).items()}
    return Report(
        benchmark="switching",
        setting=f"{CALLERS} callers in a loop, packs of {PACK} texts of {WORDS} words, one worker "
        f"process; {len(switches)} times a new version is copied into its folder; a switch is from "
        f"the start of the copy to {SETTLE:g} s after the first answer of the version",
        figures=[
            *none({
                "errors": len(callers.failed) + sum(one.errors for one in answers),
                "packs of two versions, or of another than they name":
                    sum(one.mixed for one in answers),
            }),
            *(Figure(name=f"p99 {phase}", value=value, unit="ms") for phase, value in p99.items()),
            Figure(name="p99 during / before", value=p99["during"] / p99["before"], unit="",
                   at_most=MAY_SLOW),
            Figure(name="p99 after / before", value=p99["after"] / p99["before"], unit=""),
            Figure(name="first answer of the new version after, median",
                   value=statistics.median(firsts), unit="s"),
            Figure(name="first answer of the new version after, longest", value=max(firsts),
                   unit="s"),
        ],
        tables=[
            Grid(title="Switches",
                 columns=["version", "copied in, s", "first answer after, s", "packs meanwhile",
                          "p99, ms"],
                 rows=[_row(one, answers) for one in switches]),
        ],
        plots=[bars("p99 of a pack when a version is switched", "ms", p99, ours=p99)],
    )  # fmt: skip


def _row(switch: Switch, answers: Sequence[Answer]) -> list[Cell]:
    during = [one for one in answers if switch.began <= one.asked < switch.ended]
    return [switch.version, switch.copied, switch.first, len(during), _p99(during)]
