"""Everything that decides what comes out of a data set. No TensorFlow in here."""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from lmaas.broker_config.errors import TrainingError

#: A triple's third word is one of the so many most frequent: its key then fits 31 bits.
THIRD_WORDS: Final = 8192

Activation = Literal["sigmoid", "relu", "tanh"]
Optimizer = Literal["adam", "sgd"]
#: Cross-entropy of the labels, or the squared error of the probabilities.
Loss = Literal["crossentropy", "mse"]


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Upper limits; less data makes a smaller network."""

    #: Word ids, with padding and unknown.
    vocabulary: int = 30_000
    pairs: int = 220_000
    triples: int = 130_000
    #: Numbers a row; 0: 8 for two classes, 8 more whenever their number doubles.
    dimension: int = 0
    #: Units between the average and the answer; 0: two a class, at least 24, at most 256.
    hidden: int = 0

    def __post_init__(self) -> None:
        if self.vocabulary**2 >= 2**31 or (self.pairs + 1) * THIRD_WORDS >= 2**31:
            raise TrainingError("vocabulary goes to 46,340 and pairs to 262,000 (32-bit keys)")

    def fitted(self, vocabulary: int, classes: int) -> Sizes:
        """The sizes of one network, with nothing left open."""
        return msgspec.structs.replace(
            self,
            vocabulary=vocabulary,
            dimension=self.dimension or 8 * math.ceil(math.log2(classes)),
            hidden=self.hidden or min(max(24, 2 * classes), 256),
        )


#: Kinds of numbers that are smaller than those of 32 bits.
Numbers = Literal["int8", "fp16"]


class Quantize(msgspec.Struct, frozen=True, kw_only=True):
    """That a graph is to have smaller numbers, and what that may cost."""

    kind: Numbers
    #: Share of right answers that may be lost; of the labels, where nobody knows the right ones.
    limit: float = 0.005
    #: Whether what loses more, or is no faster, is kept all the same.
    force: bool = False


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A value that is 0, or no text, is the architecture's own."""

    #: Of the networks of words.
    sizes: Sizes = Sizes()
    #: Longer texts are cut.
    max_tokens: int = 0
    #: Longer sounds are refused.
    max_seconds: float = 0.0
    epochs: int = 0
    #: Epochs without a better validation loss before training stops; the best one is kept.
    patience: int = 0
    #: Texts or pictures a step.
    batch: int = 0
    learning_rate: float = 0.0
    #: Of the layers between the first and the last one.
    activation: Activation | Literal[""] = ""
    #: "sgd" has a momentum of 0.9, as Nesterov's.
    optimizer: Optimizer | Literal[""] = ""
    loss: Loss | Literal[""] = ""
    seed: int = 17
    #: The folder of a pretrained encoder, for the architecture "encoder".
    encoder: str = ""
    #: How the rows of a text's tokens become one; None: as the encoder's folder says.
    pooling: Literal["mean", "cls"] | None = None
    #: Whether single sentences and short runs of them are learnt from beside whole texts; None:
    #: where texts have several, and no validation text is lost by it.
    runs: bool | None = None
    #: Of the encoder's blocks the last so many learn, too, once the classifier has; with more of
    #: them than there are, the embeddings as well.
    unfreeze: int = 0
    #: Pixels a side of pictures; 0: theirs if they are small and of one size, else 96.
    side: int = 0
    #: Whether pictures mean the same in a mirror, so that they may be learnt from so.
    mirrored: bool = True

    def filled(self, **own: float | str) -> Recipe:
        """With these values where it has none."""
        missing = {name: value for name, value in own.items() if not getattr(self, name)}
        return msgspec.structs.replace(self, **missing)
