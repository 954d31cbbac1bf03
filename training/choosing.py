"""Which architecture suits a data set of texts: those that may are tried, and the best is kept.

Each is trained on a part of the examples and judged by others: by the validation split where that
is large enough to tell them apart, else by cross-validation. The test split is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from lmaas.training.datasets.cutting import ENOUGH, SPLIT_SEED
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.judging import ACCURACY, MICRO_F1, merit
from lmaas.training.label_sets import strata
from lmaas.training.networks import Architecture, Fitted

FOLDS: Final = 3
#: Standard errors on either side of a figure that has the right one between them 19 times of 20.
CERTAIN: Final = 1.96

#: Trains an architecture on the training split of a data set.
Fit = Callable[[Architecture, Dataset], Fitted]
#: Called with what was tried and its merit.
Tell = Callable[[Architecture, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and why."""

    architecture: Architecture
    fitted: Fitted
    #: Architecture -> its merit on the texts that were held out, and what that is called.
    tried: Mapping[Architecture, float]
    measure: str = ACCURACY
    #: So many texts were held out, in so many parts.
    held_out: int
    folds: int
    #: How many texts what was chosen has learnt from.
    learnt_from: int

    @property
    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return ({} if self.measure == ACCURACY else {"measure": self.measure}) | {
            "tried": {name: round(figure, 4) for name, figure in self.tried.items()},
            "held_out": self.held_out,
            "folds": self.folds,
            "learnt_from": self.learnt_from,
        }


def candidates(encoder: bool) -> tuple[Architecture, ...]:
    """What is tried, the quickest first."""
    return ("linear", "ngram", "encoder") if encoder else ("linear", "ngram")


def chosen(
    dataset: Dataset, architectures: Sequence[Architecture], fit: Fit, tell: Tell | None = None
) -> Choice:
    """The architecture with the highest merit, the first of equals, trained on `dataset`.

    Raises TrainingError.
    """
    # Of too few all texts are held out in turn.
    parts = [dataset] if len(dataset.validation) >= ENOUGH else folds(dataset)
    tried: dict[Architecture, float] = {}
    best: Fitted | None = None
    for architecture in architectures:
        fitted = [fit(architecture, part) for part in parts]
        figure = _merit(fitted, parts)
        if not tried or figure > max(tried.values()):
            best = fitted[0]
        tried[architecture] = figure
        if tell:
            tell(architecture, figure)
    winner = max(tried, key=lambda architecture: tried[architecture])
    kept = best if best and len(parts) == 1 else fit(winner, dataset)
    # One that has scores of the validation texts apart from its own has learnt from them at last.
    stopped_by = len(dataset.validation) if kept.validation is None else 0
    return Choice(
        architecture=winner,
        fitted=kept,
        tried=tried,
        measure=MICRO_F1 if dataset.multi_label else ACCURACY,
        held_out=sum(len(part.validation) for part in parts),
        folds=len(parts),
        learnt_from=len(dataset.train) + len(dataset.validation) - stopped_by,
    )


def folds(dataset: Dataset) -> list[Dataset]:
    """Of the training and the validation examples each part once as validation, with about the
    same share of every class in each."""
    whole = Split.of(dataset.train, dataset.validation)
    random = np.random.default_rng(SPLIT_SEED)
    part = np.empty(len(whole), np.int64)
    dealt = 0
    classes = strata(whole.labels)
    for label in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == label))
        part[members] = (dealt + np.arange(len(members))) % FOLDS
        dealt += len(members)
    return [
        replace(
            dataset,
            train=whole.take(np.flatnonzero(part != number)),
            validation=whole.take(np.flatnonzero(part == number)),
        )
        for number in range(FOLDS)
        if (part == number).any() and (part != number).any()
    ]


def _merit(fitted: Sequence[Fitted], parts: Sequence[Dataset]) -> float:
    """Of networks on the validation texts of their parts, which they have not learnt from."""
    scores = [
        one.network.predict(part.validation.items) if one.validation is None else one.validation
        for one, part in zip(fitted, parts, strict=True)
    ]
    truth = [part.validation.labels for part in parts]
    return merit(np.concatenate(scores), np.concatenate(truth))


# --- in words ------------------------------------------------------------------------------------


def told(
    architecture: str, training: Mapping[str, Any], dataset: Mapping[str, Any], accuracy: float
) -> list[str]:
    """What was tried, what was chosen, and what to expect, of a manifest's parts; nothing when
    nothing was tried."""
    if "tried" not in training:
        return []
    figures = ", ".join(f"{name} {figure:.4f}" for name, figure in training["tried"].items())
    held_out, parts = training["held_out"], training["folds"]
    how = "held out" if parts == 1 else f"held out in {parts} parts in turn"
    learnt = training["learnt_from"]
    rest = dataset["train"] + dataset["validation"]
    tested = dataset["test"]
    low, high = bounds(accuracy, tested)
    right = f"{'exactly ' if 'measure' in training else ''}right of texts like those of the test"
    return [
        f"tried: {figures} ({training.get('measure', ACCURACY)} on {held_out:,} texts, {how})",
        f"chosen: {architecture}, trained on {learnt:,} of the {rest:,} texts outside of the test",
        f"expect: {accuracy:.4f} (95%: {low:.4f} to {high:.4f}) {right} ({tested:,})",
    ]


def bounds(share: float, examples: int) -> tuple[float, float]:
    """Between which the right share is, of one that was counted on so many examples: Wilson's
    interval of 95 %."""
    weight = CERTAIN**2 / examples
    middle = (share + weight / 2) / (1 + weight)
    spread = share * (1 - share) / examples + weight / (4 * examples)
    about = CERTAIN / (1 + weight) * spread**0.5
    return max(0.0, middle - about), min(1.0, middle + about)
