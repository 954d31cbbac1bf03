"""Of items that are the bytes of one file each: what is not."""

from __future__ import annotations

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError


def fault(item: Item, takes: str) -> ItemError | None:
    """Why it is no bytes, or None; `takes` says what the model takes."""
    if item.data is not None:
        return None
    given = "a text" if item.text is not None else "tensors"
    return ItemError(
        code=Code.INVALID_ITEM, message=f"this model takes {takes}; the item has {given}"
    )
