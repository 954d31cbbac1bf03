"""That padding and neighbours change no answer, in Keras and in the exported graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from lmaas.training import quietly
from lmaas.training.networks import Architecture, fitting, sequences
from lmaas.training.networks.batches import padded
from lmaas.training.networks.word_layers import probabilities
from lmaas.training.recipe import Activation, Recipe, Sizes
from lmaas.workers.manifest import PROBABILITIES
from lmaas.workers.ort import onnxruntime
from lmaas.workers.preprocess.text import WordTokenizer

with quietly():
    import keras

VOCABULARY = 50
MAX_TOKENS = 12
TOLERANCE = 1e-5
#: Classes and activation of each: either end of a network, each activation.
MADE: dict[Architecture, tuple[int, Activation]] = {
    "cnn": (3, "relu"),
    "lstm": (2, "sigmoid"),
    "transformer": (3, "tanh"),
}

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class Made(NamedTuple):
    model: keras.Model
    graph: onnx.ModelProto
    session: onnxruntime.InferenceSession

    def alone(self, texts: list[Ints]) -> Floats:
        """By Keras, each text in a row of its own."""
        rows = [probabilities(self.model(text[None])).numpy() for text in texts]
        return np.concatenate(rows)

    def served(self, ids: Ints) -> Floats:
        (scores,) = self.session.run(["scores"], {"ids": ids})
        return np.asarray(scores)


@pytest.fixture(scope="module", params=MADE)
def made(request: pytest.FixtureRequest) -> Made:
    """Untrained, but with weights that are no zeros, biases as well."""
    classes, activation = MADE[request.param]
    sizes = Sizes(vocabulary=VOCABULARY, dimension=8, hidden=5)
    recipe = fitting.filled(
        Recipe(sizes=sizes, max_tokens=MAX_TOKENS, activation=activation), batch=8
    )
    model = sequences.build(request.param, recipe, classes)
    random = np.random.default_rng(3)
    for weight in model.trainable_weights:
        weight.assign(random.normal(scale=0.5, size=weight.shape))
    graph = sequences.SequenceNetwork(model, WordTokenizer([], MAX_TOKENS)).graph()
    return Made(model, graph, onnxruntime.InferenceSession(graph.SerializeToString()))


def texts(*lengths: int) -> list[Ints]:
    random = np.random.default_rng(sum(lengths))
    return [random.integers(1, VOCABULARY, length).astype(np.int32) for length in lengths]


@pytest.mark.parametrize(
    "lengths",
    [(1,), (2,), (MAX_TOKENS,), (1, 5, MAX_TOKENS), (1, 1, 1), (4, 1, 2, 12, 7, 3, 12, 6)],
)
# 9 is more than the longest text has.
@pytest.mark.parametrize("more", [0, 1, 9])
def test_the_graph_gives_what_keras_gives_for_each_text_alone(
    made: Made, lengths: tuple[int, ...], more: int
) -> None:
    given = texts(*lengths)
    ids = np.pad(padded(given), ((0, 0), (0, more)))
    expected = made.alone(given)
    assert expected.sum(axis=1) == pytest.approx(np.ones(len(given)), abs=TOLERANCE)
    assert made.served(ids) == pytest.approx(expected, abs=TOLERANCE)
    assert probabilities(made.model(ids)).numpy() == pytest.approx(expected, abs=TOLERANCE)


def test_the_order_of_the_words_counts(made: Made) -> None:
    (text,) = texts(8)
    there, back = made.served(text[None]), made.served(text[None, ::-1])
    assert np.abs(there - back).max() > 1e-4


def test_every_dimension_is_free_and_nothing_loops(made: Made) -> None:
    assert not {node.op_type for node in made.graph.graph.node} & {"Loop", "Scan", "If"}
    (taken,) = made.session.get_inputs()
    assert (taken.name, taken.type) == ("ids", "tensor(int32)")
    assert not any(isinstance(size, int) for size in taken.shape)
    assert np.isfinite(made.served(np.zeros((2, 4), np.int32))).all()


def test_what_a_network_says_of_itself(made: Made) -> None:
    network = sequences.SequenceNetwork(made.model, WordTokenizer(["word"], MAX_TOKENS))
    assert network.head == PROBABILITIES
    assert network.preprocessing["kind"] == "words"
    # What is promised to the last bit of the networks of n-grams is not of these.
    assert (network.batching.row_step, network.batching.length_step) == (1, 1)
