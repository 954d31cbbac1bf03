"""The answers of the two endpoints, made of the results of a call's items; pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from lmaas.broker_config.codes import Code, meaning
from lmaas.broker_config.messages import ItemError, Result
from lmaas.producer.gateway.openai_batches.protocol import status_of

MODERATIONS: Final = "/v1/moderations"
CLASSIFICATIONS: Final = "/v1/classifications"
#: The scores of so many labels are asked for: all.
EVERY_LABEL: Final = 1_000_000


class Moderated(msgspec.Struct):
    """What is said of one input; every label of the model is a category."""

    #: Whether any category is true.
    flagged: bool
    #: True for the best label, or for all that reach the threshold where an input may have several,
    #: unless it is a harmless one (setting `harmless_labels`).
    categories: dict[str, bool]
    category_scores: dict[str, float]


class Moderation(msgspec.Struct):
    """The answer of `/v1/moderations`: a result for each input, in their order."""

    id: str
    model: str
    results: list[Moderated]


class Classified(msgspec.Struct, omit_defaults=True):
    """What is said of one input: label, score and the scores of all labels; or an error.

    `labels` are all that it has, of a model that gives several.
    """

    label: str | None = None
    score: float | None = None
    scores: dict[str, float] | None = None
    error: ItemError | None = None
    labels: list[str] | None = None


class Classification(msgspec.Struct):
    """The answer of `/v1/classifications`: a result for each input, in their order."""

    id: str
    model: str
    results: list[Classified]
    object: str = "classification"


@dataclass
class CallFailed(Exception):
    """No answer to this call."""

    status: int
    code: str
    message: str


Harmless = Container[str]
#: Of a token for its id, the model, the results, and labels that flag nothing. Raises CallFailed.
Answering = Callable[[str, str, Sequence[Result], Harmless], Any]


def moderation(token: str, model: str, results: Sequence[Result], harmless: Harmless) -> Moderation:
    """The protocol has no errors of single inputs: one of them fails the call."""
    for place, result in enumerate(results):
        if result.error is not None:
            raise _failed(place, result.error, len(results))
    return Moderation(f"modr_{token}", model, [_moderated(one, harmless) for one in results])


def _moderated(result: Result, harmless: Harmless) -> Moderated:
    scores = result.scores or {str(result.label): result.score or 0.0}
    given = [result.label] if result.labels is None else result.labels
    # A model that is not sure gives none of its labels, so none that is harmful.
    harmful = {one for one in given if one is not None and one.casefold() not in harmless}
    categories = {one: one in harmful for one in scores}
    return Moderated(any(categories.values()), categories, scores)


def classification(
    token: str, model: str, results: Sequence[Result], _harmless: Harmless
) -> Classification:
    """An input that fails has its error beside the others; the call fails if all do."""
    if all(result.error is not None for result in results):
        first = results[0].error or ItemError(code=Code.INTERNAL, message="no result")
        raise _failed(0, first, len(results))
    return Classification(
        f"clas_{token}",
        model,
        [Classified(one.label, one.score, one.scores, one.error, one.labels) for one in results],
    )


def _failed(place: int, error: ItemError, inputs: int) -> CallFailed:
    where = f"input {place}: " if inputs > 1 else ""
    status = status_of(meaning(error.code).status)
    return CallFailed(status, str(error.code), where + (error.message or str(error.code)))


ENDPOINTS: Final[dict[str, Answering]] = {
    CLASSIFICATIONS: classification,
    MODERATIONS: moderation,
}
