"""The same work in two ways, in turns: single calls of many callers, and bulk through the queue.

Ratios are those of the medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

CALLERS: Final = 256
#: Seconds of single calls, and texts of a bulk run, in each turn.
SECONDS: Final = 4.0
BULK: Final = 10_000
TURNS: Final = 5
#: Words of a text of a single call.
WORDS: Final = 60

_Rates = dict[str, list[float]]


@dataclass(frozen=True)
class Turns:
    """Answers a second in each turn of each way."""

    calls: _Rates
    bulk: _Rates

    def report(self, benchmark: str, workers: str, on: str, off: str, at_least: float) -> Report:
        """What is `on` against what is `off`; the goal is for each ratio."""
        medians = {
            f"{name}, {way}": statistics.median(rates[way])
            for name, rates in (("single calls", self.calls), ("bulk", self.bulk))
            for way in (on, off)
        }
        ratios = {
            f"{name}, {on} / {off}": medians[f"{name}, {on}"] / medians[f"{name}, {off}"]
            for name in ("single calls", "bulk")
        }
        return Report(
            benchmark=benchmark,
            setting=f"{workers}; {CALLERS} callers for {SECONDS:g} s with texts of {WORDS} words, "
            f"and {BULK:,} reviews in bulk; {TURNS} turns, medians",
            figures=[
                *(Figure(name=name, value=rate, unit="texts/s") for name, rate in medians.items()),
                *(
                    Figure(name=name, value=ratio, unit="", at_least=at_least)
                    for name, ratio in ratios.items()
                ),
            ],
            plots=[
                bars(
                    "Answers a second",
                    "texts/s",
                    medians,
                    ours=[name for name in medians if name.endswith(f", {on}")],
                )
            ],
        )


async def in_turns(ways: dict[str, Settings], texts: Sequence[str]) -> Turns:
    """Of a client for each way; its workers run already."""
    calls: _Rates = {way: [] for way in ways}
    bulk: _Rates = {way: [] for way in ways}
    short = [" ".join(text.split()[:WORDS]) for text in texts]
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            way: await stack.enter_async_context(Client(settings)) for way, settings in ways.items()
        }
        for client in clients.values():  # connected, and its worker is warm
            await _bulk(client, texts[:1_000])
        for turn in range(TURNS):
            order = list(clients)[:: 1 if turn % 2 else -1]
            for way in order:
                calls[way].append(await _calls(clients[way], short))
            for way in order:
                bulk[way].append(await _bulk(clients[way], texts[:BULK]))
    return Turns(calls, bulk)


async def _calls(client: Client, texts: Sequence[str]) -> float:
    """Answers a second to callers that make one call after the other."""
    began, answered = time.monotonic(), 0

    async def call(first: int) -> None:
        nonlocal answered
        place = first
        while time.monotonic() - began < SECONDS:
            await client.classify(rig.MODEL, texts[place % len(texts)])
            answered += 1
            place += CALLERS

    await asyncio.gather(*map(call, range(CALLERS)))
    return answered / (time.monotonic() - began)


async def _bulk(client: Client, texts: Sequence[str]) -> float:
    """Texts a second. Raises ClickException for one without a label."""
    began = time.monotonic()
    results = [result async for result in client.classify_many(rig.MODEL, texts)]
    seconds = time.monotonic() - began
    if any(result.label is None for result in results):
        raise click.ClickException("a review has no label")
    return len(results) / seconds
