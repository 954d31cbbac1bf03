"""The failure suite with one seed after the other, each in a process of its own.

The logs of a run that missed a goal, stood still or broke off are kept, of a good one they are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import psutil

from benchmarks import output
from benchmarks.failures import outcome
from benchmarks.failures.comparison import DAMAGE
from benchmarks.failures.stage import Hung
from benchmarks.report import Cell, Figure, Grid, Report, listed, none

#: Seconds for a run, to which the suite has limits of its own: it sets up, asks and ends besides.
LIMIT: Final = 1_500.0
#: The file of what a run printed.
OUTPUT: Final = "suite.txt"
#: Columns of the summary, and the figures that they show.
_COLUMNS: Final = {
    "rows": tuple(f"{outcome.ROWS} {how}" for how in DAMAGE),
    "dead letters": (
        outcome.NOT_DEAD_LETTERED,
        outcome.MISJUDGED,
        outcome.DEAD_LETTERED_TWICE,
        outcome.FOR_NOTHING,
    ),
    "calm": (outcome.CALM,),
    "ratio": (outcome.RATIO,),
    "held": (outcome.RATIO_WITHOUT_WAITS,),
    "pause": (outcome.PAUSE,),
}


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one seed."""

    seed: int
    #: "ok", "missed" (a goal), "hang", or "broken" (it ended without a report).
    ending: str
    seconds: float
    report: Report | None = None

    @property
    def missed(self) -> list[Figure]:
        return [one for one in self.report.figures if not one.met] if self.report else []

    @property
    def row(self) -> list[Cell]:
        """Of the summary."""
        values = {one.name: one.value for one in self.report.figures} if self.report else {}
        return [
            self.seed,
            self.ending,
            *(
                "/".join(f"{values[name]:.3g}" for name in names if name in values)
                for names in _COLUMNS.values()
            ),
            round(self.seconds),
        ]


def judged(seed: int, code: int | None, seconds: float, report: Report | None) -> Run:
    """A run by the exit code of its process, None when that did not end in time. Pure."""
    if code is None or code == Hung.exit_code:
        return Run(seed, "hang", seconds)
    if report is None:
        return Run(seed, "broken", seconds)
    good = report.met and code == 0
    return Run(seed, "ok" if good else "missed", seconds, report)


async def measure(
    seeds: Sequence[int],
    arguments: Sequence[str],
    logs: Path,
    limit: float = LIMIT,
    tell: Callable[[str], None] = print,
) -> list[Run]:
    """Each seed in turn; `arguments` go to the suite. What failed leaves its logs in `logs`."""
    runs = []
    for seed in seeds:
        folder = logs / f"seed-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run = await _run(seed, arguments, folder, limit)
        runs.append(run)
        told = [f"{one.name}: {one.value:.2f}" for one in run.missed]
        if run.ending == "broken":
            told = [_last_words(folder / OUTPUT)]
        tell(f"seed {seed}: {', '.join([run.ending, *told])}, {run.seconds:.0f} s")
        if run.ending == "ok":
            shutil.rmtree(folder)
    return runs


async def _run(seed: int, arguments: Sequence[str], folder: Path, limit: float) -> Run:
    target = folder / "report.json"
    began = time.monotonic()
    with (folder / OUTPUT).open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.failures", "suite", "--seed", str(seed),
            "--logs", str(folder), "--json", str(target), *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip
        try:
            async with asyncio.timeout(limit):
                code: int | None = await process.wait()
        except TimeoutError:
            code = None
        finally:
            if process.returncode is None:
                _end(process.pid)
                await process.wait()
    report = None
    with contextlib.suppress(OSError, click.ClickException):  # it wrote none, or a part
        (report,) = output.read(target)
    return judged(seed, code, time.monotonic() - began, report)


def _last_words(output: Path) -> str:
    """The last line that was printed: most often the reason of the end."""
    lines = output.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _end(pid: int) -> None:
    """SIGABRT, over which it tells where it was; what it has started has sessions of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        suite = psutil.Process(pid)
        family = suite.children(recursive=True)
        suite.send_signal(signal.SIGABRT)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def report(runs: Sequence[Run], logs: Path) -> Report:
    failed = [run for run in runs if run.ending != "ok"]
    reported = [run.report for run in runs if run.report]
    tables = [
        Grid(
            title="Rows lost/doubled/wrong; dead letters missing/with another reason/twice/for "
            "nothing; seconds of the calm run; time under faults to it, and without what poison "
            "waits for; "
            "longest pause, all, in seconds",
            columns=["seed", "ending", *_COLUMNS, "all"],
            rows=[run.row for run in runs],
        ),
        *listed(
            {
                "Goals that were missed": [
                    f"seed {run.seed}: {figure.name}: {figure.value:.2f}"
                    for run in runs
                    for figure in run.missed
                ],
                "Logs of what failed": [str(logs / f"seed-{run.seed}") for run in failed],
            }
        ),
    ]
    return Report(
        benchmark="soak",
        setting=reported[0].setting if reported else "no run came to its end",
        figures=[
            Figure(name="runs", value=len(runs), unit=""),
            *none(
                {
                    f"runs that ended as {ending!r}": sum(run.ending == ending for run in runs)
                    for ending in ("missed", "hang", "broken")
                }
            ),
        ],
        tables=tables,
    )
