"""Of items that are one text each: what is not, and examples."""

from __future__ import annotations

from typing import Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError

EXAMPLES: Final = (
    Item(id="1", text="a first text"),
    Item(id="2", text="another one that is a little longer than the first"),
)
_PAIR: Final = ItemError(
    code=Code.INVALID_ITEM,
    message="this model takes one text; the item has text_pair (a file's pair column) as well",
)


def fault(item: Item) -> ItemError | None:
    """Why it is not one text, or None."""
    if item.text is None:
        given = "data" if item.data is not None else "tensors"
        return ItemError(
            code=Code.NOT_TEXT, message=f"this model takes texts only; the item has {given}"
        )
    return None if item.text_pair is None else _PAIR
