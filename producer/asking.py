"""What a caller names, as messages can have it."""

from __future__ import annotations

import contextlib
import operator

from lmaas.broker_config.errors import MessageError, ModelNotFound
from lmaas.broker_config.messages import plain


def asked(
    model: object, version: object, top_k: object, min_score: object = None
) -> tuple[str, str | None, int, float | None]:
    """What a caller names, as encoders take it: a StrEnum's member, or NumPy's text or number, too.

    Raises ModelNotFound when the model, MessageError when the version, `top_k` or `min_score` is
    something else.
    """
    least = _least(min_score)
    if type(model) is str and (version is None or type(version) is str) and type(top_k) is int:
        return model, version, top_k, least
    model, version = plain(model), plain(version)
    if not isinstance(model, str):
        raise ModelNotFound(f"no model can have the name {model!r}: it is no text")
    if version is not None and not isinstance(version, str):
        raise MessageError(f"version is {version!r}; it must be a text, as {str(version)!r}")
    try:
        return model, version, int(operator.index(top_k)), least  # type: ignore[arg-type]
    except TypeError:
        raise MessageError(f"top_k is {top_k!r}; it must be a whole number, 0 or more") from None


def _least(min_score: object) -> float | None:
    if min_score is None:
        return None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        least = float(min_score)  # type: ignore[arg-type]
        if 0 <= least <= 1 and not isinstance(min_score, str | bytes):
            return least
    raise MessageError(f"min_score is {min_score!r}; it must be a number from 0 to 1")
