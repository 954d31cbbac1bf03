"""Short English sentences of praise and of blame, made of templates, as further training texts.

Film reviews are long, speak of films alone, and hardly have some turns that are common elsewhere
("nothing to complain about"). A network of words cannot tell that "not" turns "rude" into praise
unless it has seen both together: these sentences put negations before words of each kind, and have
what people praise and blame in products, services and food.

They come in pairs of praise and blame that have their other words in common, and of what is denied
as much is affirmed: else "waiter" would become blame, and "bad" praise.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.opinion_templates import DENIED, PLAIN, SLOTS

Opinion = Literal["negative", "positive"]
#: A pair is filled so often at least, and at most as often as it can be filled differently.
LEAST: Final = 20
MOST: Final = 80
#: Or so often, where something is denied: each negation has to be seen before each word.
MOST_DENIED: Final = 250
_SEED: Final = 17
_SLOT: Final = re.compile(r"\{(\w+)\}")
_AN: Final = re.compile(r"\b([Aa]) (?=[aeio])")


def with_opinions(dataset: Dataset) -> Dataset:
    """A data set with these labels, and with the sentences to learn from beside its texts."""
    sentences, opinions_of = zip(*opinions(), strict=True)
    numbers = np.array([dataset.labels.index(each) for each in opinions_of], np.int32)
    further = Split(items=text_items(sentences), labels=numbers)
    note = f"{len(further):,} short sentences, made of templates, are learnt from as well"
    return replace(dataset, sentences=further, notes=(*dataset.notes, note))


def opinions() -> Iterator[tuple[str, Opinion]]:
    """The same sentences in the same order every time, some of them several times, as many of
    praise as of blame.
    """
    chance = random.Random(_SEED)
    for pairs, most in ((PLAIN, MOST), (DENIED, MOST_DENIED)):
        for praise, blame in pairs:
            for _ in range(min(max(_ways(praise), _ways(blame), LEAST), most)):
                words = {name: _filled(f"{{{name}}}", chance) for name in _slots(praise + blame)}
                yield _sentence(praise, words, chance), "positive"
                yield _sentence(blame, words, chance), "negative"


def _slots(template: str) -> list[str]:
    return list(dict.fromkeys(_SLOT.findall(template)))


def _ways(template: str) -> int:
    """In how many ways a template can be filled; of words that have slots, one each is counted."""
    return math.prod(len(SLOTS[slot]) for slot in _SLOT.findall(template))


def _sentence(template: str, words: Mapping[str, str], chance: random.Random) -> str:
    """With these words; a slot that comes again gets another one."""
    for slot in _slots(template):
        template = template.replace(f"{{{slot}}}", words[slot], 1)
    sentence = _AN.sub(r"\1n ", _filled(template, chance))
    return sentence[0].upper() + sentence[1:]


def _filled(template: str, chance: random.Random) -> str:
    """With words in place of the slots, and of those that these words have."""
    while "{" in template:
        template = _SLOT.sub(lambda slot: _chosen(SLOTS[slot[1]], chance), template)
    return template


def _chosen(words: Sequence[str], chance: random.Random) -> str:
    """The first ones most often."""
    return words[int(len(words) * chance.random() ** 2)]
