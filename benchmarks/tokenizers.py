"""Ways to turn reviews into word ids, measured: why `workers.preprocess.text` is as it is.

All candidates split and fold ASCII alike; only `WordTokenizer` folds the rest of Unicode.
One process on one core. Each figure is the best of several rounds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.training.datasets.of_imdb import load_imdb
from lmaas.workers.preprocess.text import FIRST_WORD, UNKNOWN, WordTokenizer

Ids = list[npt.NDArray[np.int32]]
Candidate = Callable[[Sequence[str]], Ids]

PACK = 256
WORDS = 30_000
MAX_TOKENS = 1024
ROUNDS = 5

OURS = "WordTokenizer"

_KEPT = bytes(
    ord(chr(b).lower()) if chr(b).isalnum() and b < 128 else b if b >= 128 else 32
    for b in range(256)
)


def candidates(vocabulary: WordTokenizer) -> dict[str, Candidate]:
    words = vocabulary.words
    texts = {word: i for i, word in enumerate(words, FIRST_WORD)}
    coded = {word.encode(): i for word, i in texts.items()}

    class Known(dict[bytes, int]):
        def __missing__(self, word: bytes) -> int:
            return UNKNOWN

    known = Known(coded)
    pattern = re.compile(r"\w+")

    def clean(text: str) -> bytes:
        return text.encode("utf-8", "replace").replace(b"<br />", b" ").translate(_KEPT, b"'")

    def regex(pack: Sequence[str]) -> Ids:
        return [
            np.array(
                [texts.get(w, UNKNOWN) for w in pattern.findall(text.lower())][:MAX_TOKENS] or [1],
                np.int32,
            )
            for text in pack
        ]

    def split_get(pack: Sequence[str]) -> Ids:
        found = []
        for text in pack:
            split = clean(text).split()[:MAX_TOKENS]
            found.append(np.fromiter(map(coded.get, split, repeat(UNKNOWN)), np.int32, len(split)))
        return found

    def split_itemgetter(pack: Sequence[str]) -> Ids:
        return [
            np.array(itemgetter(b"", *clean(text).split()[:MAX_TOKENS])(known)[1:], np.int32)
            for text in pack
        ]

    def joined(pack: Sequence[str]) -> Ids:
        split = [clean(text).split() for text in pack]
        flat = [word for each in split for word in each]
        ids = np.fromiter(map(coded.get, flat, repeat(UNKNOWN)), np.int32, len(flat))
        ends = np.cumsum([len(each) for each in split])
        return [part[:MAX_TOKENS] for part in np.split(ids, ends[:-1])]

    return {
        "regular expression + dict of str": regex,
        "bytes.translate + split + dict.get": split_get,
        "bytes.translate + split + itemgetter": split_itemgetter,
        "the same, one look-up a pack": joined,
        f"{OURS}: hashes in numpy": vocabulary,
    }


def speed(candidate: Candidate, packs: Sequence[Sequence[str]]) -> float:
    """Texts a second, in the best of ROUNDS."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for pack in packs:
            candidate(pack)
        best = min(best, time.perf_counter() - start)
    return sum(map(len, packs)) / best


async def measure() -> Report:
    dataset = load_imdb(rig.imdb())
    vocabulary = WordTokenizer.fit(dataset.train.texts, WORDS, MAX_TOKENS)
    chosen = np.random.default_rng(0).permutation(len(dataset.test))[: 10 * PACK]
    texts = [dataset.test.texts[i] for i in chosen]
    packs = [texts[i : i + PACK] for i in range(0, len(texts), PACK)]
    singles = [[text] for text in texts[:1000]]
    figures = []
    for name, candidate in candidates(vocabulary).items():
        pack, single = speed(candidate, packs), speed(candidate, singles)
        figures.append(Figure(name=f"{name}, packs of {PACK}", value=pack, unit="reviews/s"))
        figures.append(Figure(name=f"{name}, one at a time", value=single, unit="reviews/s"))
    return Report(
        benchmark="tokenizers",
        setting=f"IMDB reviews to word ids, one core; best of {ROUNDS}",
        figures=figures,
        plots=[
            bars(
                "IMDB reviews to word ids, one core",
                "reviews/s",
                {figure.name: figure.value for figure in figures},
                ours=[figure.name for figure in figures if figure.name.startswith(OURS)],
            )
        ],
    )
