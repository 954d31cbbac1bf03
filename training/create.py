"""A model without training texts: a text has the label whose own words mean most nearly the same.

The scores are a softmax over the cosines of the text's row and the labels' rows, both of a
pretrained encoder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.training import export, hub, quietly
from lmaas.training.datasets.dataset import text_items
from lmaas.training.networks.encoder import EncoderNetwork
from lmaas.training.networks.pretrained import Floats, Pretrained
from lmaas.training.one_line import in_one_line

with quietly():
    import keras

#: Cosines are multiplied by this: of Banking77's 77 labels the most likely one then has about the
#: probability of being right.
SHARPNESS: Final = 20.0
MAX_TOKENS: Final = 512


@dataclass(frozen=True, slots=True)
class Label:
    """What the model answers, and the words that say what it means."""

    name: str
    words: str


def read_labels(path: Path) -> list[Label]:
    """One a line; what comes after a tab are better words for it than its own.

    Raises DataError, with the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    seen: dict[str, int] = {}
    meant: dict[str, int] = {}
    labels = []
    for number, line in enumerate(lines, 1):
        name, _, words = (part.strip() for part in line.partition("\t"))
        if not name:
            if words:
                raise DataError(f"{path}: line {number} has words and no label before them")
            continue
        if name in seen:
            raise DataError(f"{path}: lines {seen[name]} and {number} have the same label {name!r}")
        words = words or _words(name)
        if (same := words.casefold()) in meant:
            raise DataError(
                f"{path}: the labels of lines {meant[same]} and {number} have the same words, "
                f"{words!r}, so that nothing would ever get the second; give it other words, after "
                "a tab"
            )
        seen[name] = meant[same] = number
        labels.append(Label(name, words))
    if len(labels) < 2:
        found = "one label" if labels else "no label"
        raise DataError(f"{path}: there is {found}; at least two are needed, one a line")
    return labels


def create(
    name: str, labels: Sequence[Label], folder: Path, *, out_root: Path, others: Sequence[Path] = ()
) -> Path:
    """Leave `out_root/name/N`, of the encoder in `folder`; see `train`. Raises TrainingError."""
    with in_one_line():
        network = EncoderNetwork(Pretrained(folder), MAX_TOKENS)
        rows = network.rows([label.words for label in labels])
        network.classifier = _nearest(rows)
        told = "\n".join(f"{label.name}\t{label.words}" for label in labels)
        return export.export(
            export.Trained(
                name=name,
                architecture="encoder, labels only",
                network=network,
                labels=[label.name for label in labels],
                samples=text_items(label.words for label in labels),
                dataset={"name": "labels", "sha256": hashlib.sha256(told.encode()).hexdigest()},
                evaluation=None,
                record={
                    "encoder": hub.called(folder),
                    "words": {label.name: label.words for label in labels},
                },
            ),
            out_root,
            others,
        )


def _nearest(rows: Floats) -> keras.Sequential:
    dense = keras.layers.Dense(len(rows), activation="softmax", use_bias=False)
    model = keras.Sequential([keras.Input((rows.shape[1],)), dense])
    dense.set_weights([SHARPNESS * rows.T])
    return model


def _words(name: str) -> str:
    """As people write them: `card_arrival`, `cardArrival` and `card-arrival` are two words."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[_\-./]+", " ", parted).strip() or name
