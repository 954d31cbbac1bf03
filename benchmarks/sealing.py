"""What sealed payloads cost: the same workers, asked with payload keys and without, in turns.

Single calls of many callers, and bulk through the queue. Ratios are those of the medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.sealing import line_of_new_key
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

CALLERS: Final = 256
#: Seconds of single calls, and texts of a bulk run, in each turn.
SECONDS: Final = 4.0
BULK: Final = 10_000
TURNS: Final = 5
#: Words of a text of a single call.
WORDS: Final = 60
#: Goal for what is sealed against what is not.
AT_LEAST: Final = 0.95
ON, OFF = "sealed", "not sealed"


async def measure() -> Report:
    texts = rig.reviews()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payload.keys"
        path.touch(0o600)
        path.write_text(line_of_new_key("bench"))
        async with rig.broker() as settings:
            both = msgspec.structs.replace(settings, payload_keys=str(path), accept_unsealed=True)
            async with rig.workers(both, 1):
                calls, bulk = await _in_turns({ON: both, OFF: settings}, texts)
    return _report(calls, bulk)


_Rates = dict[str, list[float]]


async def _in_turns(ways: dict[str, Settings], texts: Sequence[str]) -> tuple[_Rates, _Rates]:
    calls: _Rates = {way: [] for way in ways}
    bulk: _Rates = {way: [] for way in ways}
    short = [" ".join(text.split()[:WORDS]) for text in texts]
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            way: await stack.enter_async_context(Client(settings)) for way, settings in ways.items()
        }
        for client in clients.values():  # connected, and the worker is warm
            await _bulk(client, texts[:1_000])
        for turn in range(TURNS):
            order = list(clients)[:: 1 if turn % 2 else -1]
            for way in order:
                calls[way].append(await _calls(clients[way], short))
            for way in order:
                bulk[way].append(await _bulk(clients[way], texts[:BULK]))
    return calls, bulk


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


def _report(calls: _Rates, bulk: _Rates) -> Report:
    medians = {
        f"{name}, {way}": statistics.median(rates[way])
        for name, rates in (("single calls", calls), ("bulk", bulk))
        for way in (ON, OFF)
    }
    ratios = {
        f"{name}, {ON} / {OFF}": medians[f"{name}, {ON}"] / medians[f"{name}, {OFF}"]
        for name in ("single calls", "bulk")
    }
    return Report(
        benchmark="sealing",
        setting=f"one worker process, with payload keys, that takes what is not sealed too; "
        f"{CALLERS} callers for {SECONDS:g} s with texts of {WORDS} words, and {BULK:,} reviews in "
        f"bulk; {TURNS} turns, medians",
        figures=[
            *(Figure(name=name, value=rate, unit="texts/s") for name, rate in medians.items()),
            *(
                Figure(name=name, value=ratio, unit="", at_least=AT_LEAST)
                for name, ratio in ratios.items()
            ),
        ],
        plots=[
            bars(
                "Answers a second",
                "texts/s",
                medians,
                ours=[name for name in medians if name.endswith(f", {ON}")],
            )
        ],
    )
