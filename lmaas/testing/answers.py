"""What a test says that items get, and the results that this makes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.messages import UNSURE, Item, ItemError, Options, Result, Tensor, plain

#: What an item is to be judged by: its text; its text and the second one; its bytes; its tensors.
Content = str | tuple[str, str] | bytes | Mapping[str, Tensor]
#: What an item gets: a label; a label and its score; the score of each label; a list of labels, as
#: of a model that gives several; an error as its result; or an exception, as Busy, which ends the
#: call (and those that share its message).
Answer = str | tuple[str, float] | Mapping[str, float] | list[str] | ItemError | LmaasError
#: An answer for each content, or a function of the content, which may also raise. Tensors are no
#: keys of a mapping: they take a function.
Answers = Mapping[Any, Answer] | Callable[[Any], Answer]

DECIMALS: Final = 6


def content_of(item: Item) -> Content:
    """Of an item without an error."""
    if item.text is not None:
        return item.text if item.text_pair is None else (item.text, item.text_pair)
    content = item.data if item.data is not None else item.tensors
    assert content is not None
    return content


def result_of(item_id: str, answer: Answer, options: Options) -> Result:
    """Raises the answer that is an exception, and TypeError for what is no answer."""
    if isinstance(answer, LmaasError):
        raise answer
    if isinstance(answer, ItemError):
        return Result(id=item_id, error=answer)
    if isinstance(answer, list):
        return _with_labels(item_id, [str(plain(label)) for label in answer], options)
    if isinstance(answer, str):
        answer = {answer: 1.0}
    elif isinstance(answer, tuple) and len(answer) == 2:
        answer = dict([answer])
    if not isinstance(answer, Mapping) or not answer:
        raise TypeError(
            f"{answer!r} is no answer: expected a label, (label, score), {{label: score}}, "
            "[label, ...], an ItemError or an LmaasError"
        )
    ranked = {
        str(plain(label)): round(float(score), DECIMALS)
        for label, score in sorted(answer.items(), key=lambda pair: -pair[1])
    }
    label, score = next(iter(ranked.items()))
    scores = dict(list(ranked.items())[: options.top_k]) if options.top_k else None
    if options.min_score and score < options.min_score:
        label = UNSURE
    return Result(id=item_id, label=label, score=score, scores=scores)


def _with_labels(item_id: str, labels: list[str], options: Options) -> Result:
    return Result(
        id=item_id,
        label=labels[0] if labels else None,
        score=1.0 if labels else 0.0,
        scores=dict.fromkeys(labels[: options.top_k], 1.0) if options.top_k else None,
        labels=labels,
    )
