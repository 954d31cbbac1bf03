"""What is sent: the user's texts, or made-up ones."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.item_errors import text_error
from lmaas.producer.tables import Place, Wanted, open_table

#: Of a file, so many texts or bytes are enough; the rest is not read.
ENOUGH_TEXTS: Final = 16_384
ENOUGH_BYTES: Final = 32 * 1024 * 1024

#: Made-up texts, an equal share of each length in words.
MADE_UP: Final = 1_000
LENGTHS: Final = (8, 30, 100, 300)

_WORDS: Final = """
a about after again all almost always an and another any are as at back bad be because been before
best better boring both but by can cast characters comedy could did director do does dull easily end
ending enjoyed even ever every excellent expected family few film first for found from funny get
give good great had has have he her here him his horror how i if in interesting into is it its just
kind know last least less like little long look love made make many me minutes money more most movie
much music my never new nice no not nothing now of off old on one only or original other our out
over part people performance picture play plot poor quite rather real really role same say scene
scenes script see seemed series she should show slow so some something still story such surprising
take terrible than that the their them then there these they thing think this those though three
through time to too two under until up us very was waste watch watching way we well were what when
where which while who why will with without wonderful work world worst worth would year you young
your
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Texts that can be classified, and where they are from."""

    source: str
    texts: list[str]
    #: Texts of the source that no model could classify: empty, too large, unreadable.
    left_out: int = 0

    @property
    def mean_bytes(self) -> float:
        return sum(len(text.encode()) for text in self.texts) / len(self.texts)


def made_up() -> Texts:
    """Words that reviewers of films use, in an order of chance that is always the same."""
    chance = Random(1)
    words = _WORDS.split()
    texts = [
        " ".join(chance.choices(words, k=LENGTHS[number % len(LENGTHS)]))
        for number in range(MADE_UP)
    ]
    return Texts(source="made up", texts=texts)


def read(place: Place, column: str | None, max_item_bytes: int) -> Texts:
    """The first texts of a table. Raises DataError when there are none."""
    table = open_table(place, Wanted(text=column, keep=()))
    texts: list[str] = []
    size = rows = 0
    try:
        for chunk in table.chunks:
            rows += len(chunk)
            for position, text in enumerate(chunk.texts):
                if position not in chunk.faults and not text_error(text, max_item_bytes):
                    texts.append(text)
                    size += len(text)
            if len(texts) >= ENOUGH_TEXTS or size >= ENOUGH_BYTES:
                break
    finally:
        table.close()
    if not texts:
        raise DataError(f"{table.name}: none of its {rows:,} texts can be classified")
    return Texts(source=table.name, texts=texts, left_out=rows - len(texts))
