from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.broker_config.errors import TrainingError
from lmaas.training.networks import Architecture, word_layers
from lmaas.training.networks.batches import padded
from lmaas.training.networks.word_layers import GRID, NGrams
from lmaas.training.recipe import Sizes

VOCABULARY = 12
TEXT = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=12)
SIZES = Sizes(vocabulary=VOCABULARY, pairs=31, triples=17, dimension=4, hidden=5)

Ints = npt.NDArray[np.int32]


def array(values: list[int]) -> Ints:
    return np.array(values, np.int32)


def ngrams() -> NGrams:
    """Rows: 12-22 for pairs, 23-29 for triples."""
    pairs = np.full(11, -1, np.int32)
    for first, second in ((2, 3), (3, 4)):
        pairs[(first * VOCABULARY + second) % 11] = first * VOCABULARY + second
    number = (2 * VOCABULARY + 3) % 11 + 1
    triples = np.full(7, -1, np.int32)
    key = number * word_layers.THIRD_WORDS + 4
    triples[key % 7] = key
    return NGrams(VOCABULARY, pairs, triples)


def features(ids: list[int]) -> list[int]:
    return sorted(row for row in ngrams()(array(ids)[None]).numpy()[0].tolist() if row)


def test_words_pairs_and_triples_have_rows_of_their_own() -> None:
    pair, other = 12 + (2 * 12 + 3) % 11, 12 + (3 * 12 + 4) % 11
    triple = 23 + ((pair - 11) * word_layers.THIRD_WORDS + 4) % 7
    assert features([2, 3, 4]) == sorted([2, 3, 4, pair, other, triple])
    assert features([2, 4, 3]) == [2, 3, 4]
    assert features([5, 2, 3]) == sorted([2, 3, 5, pair])
    assert features([1]) == [1]
    assert features([2, 3]) == sorted([2, 3, pair])


def test_a_repeated_word_counts_once_and_still_makes_pairs() -> None:
    assert features([5, 5, 6, 5]) == [5, 6]
    pair = 12 + (2 * 12 + 3) % 11
    assert features([2, 2, 3]) == sorted([2, 3, pair])


@settings(deadline=None, max_examples=50)
@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(0, 9))
def test_features_do_not_depend_on_neighbours_or_padding(texts: list[list[int]], more: int) -> None:
    matrix = np.pad(padded([array(text) for text in texts]), ((0, 0), (0, more)))
    together = ngrams()(matrix).numpy()
    assert [sorted(row[row > 0].tolist()) for row in together] == [features(t) for t in texts]


def examples() -> tuple[list[Ints], Ints]:
    """The pair (2, 3) says 1, (3, 2) says 0; words alone say nothing."""
    ids = [array([2, 3, 4]), array([3, 2, 4])] * 20
    return ids, array([1, 0] * 20)


def test_rows_are_weighted_by_what_they_say() -> None:
    ids, labels = examples()
    model = word_layers.build("ngram", SIZES, ids, labels, 2)
    weighting = word_layers.embedding_of(model).weighting.numpy()[:, 0]
    assert weighting[0] == 0
    assert weighting[[2, 3, 4]].tolist() == [0, 0, 0]
    pair_rows = model.layers[0](ids[0][None]).numpy()[0, 3:]
    assert weighting[pair_rows[0]] == pytest.approx(np.log(21))


def test_rows_are_weighted_by_the_label_that_they_say_the_most_of() -> None:
    """Where a text may have several labels: the first is on all texts, the second as above."""
    ids, labels = examples()
    several = np.stack([np.ones_like(labels), labels], axis=1)
    model = word_layers.build("ngram", SIZES, ids, several, 2)
    one = word_layers.build("ngram", SIZES, ids, labels, 2)
    first, second = (word_layers.embedding_of(each).weighting.numpy() for each in (one, model))
    pair = model.layers[0](ids[0][None]).numpy()[0, 3]
    assert second[pair] == first[pair] == pytest.approx(np.log(21))
    assert word_layers.probabilities(model(padded(ids))).shape == (40, 2)
    assert model.layers[-1].get_config()["activation"] == "sigmoid"


def test_rare_ngrams_and_unknown_words_get_no_row() -> None:
    ids = [array([2, 3]), array([2, 3]), array([4, 5]), array([1, 6]), array([1, 6])]
    model = word_layers.build("ngram", SIZES, ids, array([0, 1, 0, 1, 0]), 2)
    keys = model.layers[0].pairs.numpy()
    assert keys[keys >= 0].tolist() == [2 * VOCABULARY + 3]


@pytest.mark.parametrize("architecture", ["gap", "ngram"])
@pytest.mark.parametrize("classes", [2, 3])
def test_networks_give_probabilities(architecture: Architecture, classes: int) -> None:
    ids, labels = examples()
    model = word_layers.build(architecture, SIZES, ids, labels, classes)
    scores = word_layers.probabilities(model(padded(ids))).numpy()
    assert scores.shape == (40, classes)
    assert scores.sum(axis=1) == pytest.approx(np.ones(40))


def test_a_short_text_has_a_smaller_average_than_a_long_one() -> None:
    rows = np.array([[[4.0], [2.0], [9.0]], [[4.0], [9.0], [9.0]]], np.float32)
    mask = np.array([[True, True, False], [True, False, False]])
    averages = word_layers.NeutralAverage(3)(rows, mask=mask).numpy()
    assert averages.tolist() == [[pytest.approx(6 / 5)], [1.0]]


def test_neutral_rows_follow_the_length_of_the_training_texts() -> None:
    ids, labels = [array([2, 3, 4, 5, 5])] * 10, array([0, 1] * 5)
    model = word_layers.build("ngram", SIZES, ids, labels, 2)
    (pooling,) = (each for each in model.layers if isinstance(each, word_layers.NeutralAverage))
    # 4 words, 4 pairs, 3 triples; the repeated word counts once.
    assert pooling.neutral == round(word_layers.NEUTRAL_SHARE * 11)


def test_gap_is_the_plain_network() -> None:
    model = word_layers.build("gap", Sizes(dimension=32, hidden=24), [], array([]), 2)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Embedding", "GlobalAveragePooling1D", "Dense", "Dense"]
    assert [layer.units for layer in model.layers[2:]] == [24, 1]


@pytest.mark.parametrize("architecture", ["gap", "ngram"])
def test_settled_rows_are_exact_in_any_order(architecture: Architecture) -> None:
    ids, labels = examples()
    model = word_layers.build(architecture, SIZES, ids, labels, 2)
    before = model(padded(ids)).numpy()
    word_layers.settle(model)
    rows = word_layers.embedding_of(model).embeddings.numpy()
    step = 2 ** np.ceil(np.log2(np.abs(rows).max() / GRID))
    assert (rows[0] == 0).all()
    assert np.array_equal(rows / step, np.round(rows / step))
    assert np.array_equal(rows.astype(np.float16), rows)
    assert model(padded(ids)).numpy() == pytest.approx(before, abs=1e-3)
    random = np.random.default_rng(0)
    many = rows[random.integers(0, len(rows), 4000)]
    assert np.array_equal(many.sum(axis=0), random.permutation(many).sum(axis=0))


def test_sizes_follow_the_number_of_classes() -> None:
    fitted = Sizes().fitted(100, 2)
    assert (fitted.vocabulary, fitted.dimension, fitted.hidden) == (100, 8, 24)
    fitted = Sizes().fitted(100, 77)
    assert (fitted.dimension, fitted.hidden) == (56, 154)
    assert Sizes(dimension=3).fitted(100, 77).dimension == 3


def test_keys_must_fit_their_integers() -> None:
    with pytest.raises(TrainingError, match="46,340"):
        Sizes(vocabulary=50_000)
    with pytest.raises(TrainingError, match="262,000"):
        Sizes(pairs=300_000)
