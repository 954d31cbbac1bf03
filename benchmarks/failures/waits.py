"""How long poison makes others wait, by what the workers say. Pure.

A row waits for a time limit or a retry each time that it is run: once more when the producer was
killed meanwhile and sends it again, and less when its worker was ended for another reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

#: What is tried again later waits from now on, for the seconds that the line has.
_RETRIED: Final = re.compile(r"retry in (\d+)s after .*: out_of_memory")
#: What ran into a time limit has waited until now: in a run that let Python go on, isolated, ...
_OVERDUE: Final = re.compile(r"(?:a run did not end within|it ran longer than) ([\d.]+) s")
#: ... and in one that did not, which the system ends.
_ALARM: Final = "ended with signal SIGALRM"


@dataclass(frozen=True, slots=True)
class Span:
    """From one moment to another, in seconds of one clock."""

    began: float
    ended: float


def waits(said: Iterable[tuple[float, str]], alarm: float) -> list[Span]:
    """What each line, with the moment at which it was said, says of a wait.

    The system ends a process whose run has taken `alarm` seconds.
    """
    found = []
    for moment, line in said:
        if retried := _RETRIED.search(line):
            found.append(Span(moment, moment + float(retried[1])))
        elif " dead-lettered as " in line:  # tells of a limit that has been told before
            continue
        elif overdue := _OVERDUE.search(line):
            found.append(Span(moment - float(overdue[1]), moment))
        elif _ALARM in line:
            found.append(Span(moment - alarm, moment))
    return found


def seconds(spans: Sequence[Span], without: Sequence[Span], within: Span) -> float:
    """How long at least one of the spans lasted, and none of those of `without`."""
    edges = {edge for span in (*spans, *without, within) for edge in (span.began, span.ended)}
    return sum(
        end - start
        for start, end in pairwise(sorted(edges))
        if _covers(spans, start, end)
        and _covers([within], start, end)
        and not _covers(without, start, end)
    )


def _covers(spans: Sequence[Span], start: float, end: float) -> bool:
    return any(span.began <= start and end <= span.ended for span in spans)
