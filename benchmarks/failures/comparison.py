"""An output under faults beside a calm one: what was lost, doubled, wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.failures.poison import Poison
from benchmarks.report import Figure, none
from lmaas.broker_config.messages import Result

#: What can become of a row: fields of a Verdict.
DAMAGE: Final = ("lost", "doubled", "wrong")
#: Examples that are kept of what is wrong.
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an output, as it is written; `error` is "code: words" or empty."""

    id: str
    label: str
    score: str
    error: str


def row_of(result: Result) -> Row:
    """A result, as it would be written."""
    score = "" if result.score is None else str(result.score)
    return Row(result.id, result.label or "", score, str(result.error or ""))


@dataclass(slots=True)
class Verdict:
    """Numbers of rows; none may be lost, doubled or wrong."""

    lost: int = 0
    doubled: int = 0
    #: Another label, score or error than in the calm run; out of order; never asked for.
    wrong: int = 0
    #: The first of the wrong ones, in words.
    examples: list[str] = field(default_factory=list)

    def note(self, words: str) -> None:
        """One more that is wrong."""
        self.wrong += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(words)


def damage(what: str, verdicts: Iterable[Verdict]) -> list[Figure]:
    """How many were "`what` lost", "doubled" and "wrong" in all."""
    every = list(verdicts)
    return none({f"{what} {how}": sum(getattr(one, how) for one in every) for how in DAMAGE})


def examples(verdicts: Iterable[Verdict]) -> dict[str, list[str]]:
    """The first of what is wrong, for `report.listed`."""
    return {"Wrong, the first ones": [line for one in verdicts for line in one.examples][:_SHOWN]}


def compare(calm: Sequence[Row], output: Iterable[Row], poison: Mapping[int, Poison]) -> Verdict:
    """Row n of the calm run has the id n; of a poison row only its error's code counts."""
    verdict = Verdict()
    seen: set[int] = set()
    last = -1
    for row in output:
        number = int(row.id) if row.id.isdecimal() else -1
        if not 0 <= number < len(calm):
            verdict.note(f"row {row.id!r} was never asked for")
        elif number in seen:
            verdict.doubled += 1
        else:
            seen.add(number)
            if number < last:
                verdict.note(f"row {number} comes after row {last}")
            elif number in poison:
                _judge_poison(verdict, row, poison[number])
            elif row != calm[number]:
                verdict.note(f"{row} and not {calm[number]}")
            last = max(last, number)
    verdict.lost = len(calm) - len(seen)
    return verdict


def _judge_poison(verdict: Verdict, row: Row, poison: Poison) -> None:
    if row.label or row.error.partition(":")[0] != poison.code:
        verdict.note(f"{row} has {poison.name}, and not the error {poison.code}")
