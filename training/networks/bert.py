"""The encoder of the BERT family in Keras, and a pretrained one's weights in it.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019; of a single text, so that every token has the type 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from lmaas.broker_config.errors import TrainingError
from lmaas.training import quietly
from lmaas.training.networks.pretrained import Floats, Pretrained, Shape

with quietly():
    import keras
    import tensorflow as tf

#: Share of what a block adds that is left out, at random, while it learns.
_DROPPED: Final = 0.1
#: What is added to the scores of padding before the softmax: its exponent is 0.
_FAR: Final = -1e9

#: Where a layer of ours finds its weights, by the model's family; {} is the block's number.
_BLOCK: Final = {
    "query": ("attention.self.query", "attention.q_lin"),
    "key": ("attention.self.key", "attention.k_lin"),
    "value": ("attention.self.value", "attention.v_lin"),
    "out": ("attention.output.dense", "attention.out_lin"),
    "attended": ("attention.output.LayerNorm", "sa_layer_norm"),
    "up": ("intermediate.dense", "ffn.lin1"),
    "down": ("output.dense", "ffn.lin2"),
    "done": ("output.LayerNorm", "output_layer_norm"),
}


class Block(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Attention and a dense part, each added to what it was given and normalised."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self._heads = shape.num_attention_heads
        self._width = hidden // self._heads
        self.query, self.key, self.value, self.out = (keras.layers.Dense(hidden) for _ in range(4))
        self.up = keras.layers.Dense(shape.intermediate_size, activation=_activation(shape))
        self.down = keras.layers.Dense(hidden)
        self.attended, self.done = (_norm(shape) for _ in range(2))
        self.dropped = keras.layers.Dropout(_DROPPED)

    def build(self, shape: Sequence[int | None]) -> None:
        for layer in (self.query, self.key, self.value, self.out, self.up):
            layer.build(shape)
        self.down.build((*shape[:-1], self.up.units))
        self.attended.build(shape)
        self.done.build(shape)
        self.built = True

    def call(self, rows: Any, far: Any, training: bool = False) -> Any:
        """`rows` are [texts * tokens, hidden], of which a dense layer is one operator; `far` is
        [texts, 1, 1, tokens]: 0, or very far for padding.
        """
        shape = [tf.shape(far)[0], tf.shape(far)[3], self._heads, self._width]
        queries, keys, values = (
            tf.transpose(tf.reshape(layer(rows), shape), [0, 2, 1, 3])
            for layer in (self.query, self.key, self.value)
        )
        scores = tf.matmul(queries, keys, transpose_b=True) * (self._width**-0.5) + far
        found = tf.matmul(tf.nn.softmax(scores), values)
        joined = tf.reshape(tf.transpose(found, [0, 2, 1, 3]), [-1, self._heads * self._width])
        training = training and self.trainable
        rows = self.attended(rows + self.dropped(self.out(joined), training=training))
        return self.done(rows + self.dropped(self.down(self.up(rows)), training=training))


class Encoder(keras.layers.Layer):  # type: ignore[misc]
    """Token ids and their mask, both [texts, tokens], to [texts, tokens, hidden]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._offset = shape.offset
        self.words = keras.layers.Embedding(shape.vocab_size, shape.hidden_size)
        self.positions = keras.layers.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.norm = _norm(shape)
        self.blocks = [Block(shape) for _ in range(shape.num_hidden_layers)]
        self._hidden = shape.hidden_size

    def build(self, *_: Any) -> None:
        self.words.build((None, None))
        self.positions.build((None,))
        self.norm.build((None, self._hidden))
        for block in self.blocks:
            block.build((None, self._hidden))
        self.built = True

    def unfreeze(self, blocks: int) -> None:
        """Only the last so many can learn; with more than there are, the embeddings too."""
        frozen = len(self.blocks) - blocks
        for layer in (self.words, self.positions, self.norm):
            layer.trainable = frozen < 0
        for place, block in enumerate(self.blocks):
            block.trainable = place >= frozen

    def call(self, ids: Any, mask: Any, training: bool = False) -> Any:
        # Of what is padded on its left, the first token has the first position, too.
        places = tf.maximum(tf.cumsum(mask, axis=1) - 1, 0) + self._offset
        rows = self.norm(self.words(ids) + self.positions(places))
        size = tf.shape(rows)
        rows = tf.reshape(rows, [-1, self._hidden])
        far = (1.0 - tf.cast(mask, tf.float32))[:, None, None, :] * _FAR
        for block in self.blocks:
            rows = block(rows, far, training=training)
        return tf.reshape(rows, size)


def encoder(pretrained: Pretrained) -> Encoder:
    """With its weights. Raises TrainingError when some are missing, or of another shape."""
    made = Encoder(pretrained.shape)
    made.build()
    weights = pretrained.weights()
    try:
        for layer, values in _placed(made, weights, pretrained.shape):
            layer.set_weights(values)
    except (KeyError, ValueError) as error:
        raise TrainingError(
            f"{pretrained.folder}: its weights are not those of its config.json: {error}"
        ) from error
    return made


def _placed(
    made: Encoder, weights: Mapping[str, Floats], shape: Shape
) -> Iterator[tuple[keras.layers.Layer, list[Floats]]]:
    """Each layer with its weights, as Keras has them."""
    distilled = shape.model_type == "distilbert"
    words = weights["embeddings.word_embeddings.weight"]
    if not distilled:  # every token has the type 0
        words = words + weights["embeddings.token_type_embeddings.weight"][0]
    yield made.words, [words]
    yield made.positions, [weights["embeddings.position_embeddings.weight"]]
    yield made.norm, _pair(weights, "embeddings.LayerNorm")
    for number, block in enumerate(made.blocks):
        prefix = f"{'transformer' if distilled else 'encoder'}.layer.{number}."
        for layer, names in _BLOCK.items():
            values = _pair(weights, prefix + names[distilled])
            # A dense layer's matrix is [out, in] there, and [in, out] here.
            yield getattr(block, layer), [values[0].T, values[1]]


def _pair(weights: Mapping[str, Floats], name: str) -> list[Floats]:
    if f"{name}.gamma" in weights:  # as the oldest checkpoints call them
        return [weights[f"{name}.gamma"], weights[f"{name}.beta"]]
    return [weights[f"{name}.weight"], weights[f"{name}.bias"]]


class Norm(keras.layers.Layer):  # type: ignore[misc]
    """Keras' LayerNormalization, written so that ONNX Runtime computes it as one operator."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon

    def build(self, shape: Sequence[int | None]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(shape[-1],), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(shape[-1],), initializer="zeros")
        self.built = True

    def call(self, rows: Any) -> Any:
        apart = rows - tf.reduce_mean(rows, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.pow(apart, 2.0), axis=-1, keepdims=True)
        return apart / tf.sqrt(variance + self._epsilon) * self.gamma + self.beta


def _norm(shape: Shape) -> Norm:
    return Norm(shape.layer_norm_eps)


def _activation(shape: Shape) -> Any:
    known = {
        "gelu": _gelu,
        "gelu_new": lambda x: tf.nn.gelu(x, approximate=True),
        "relu": tf.nn.relu,
    }
    if shape.hidden_act not in known:
        raise TrainingError(
            f"config.json: hidden_act {shape.hidden_act!r}; can be {', '.join(sorted(known))}"
        )
    return known[shape.hidden_act]


def _gelu(rows: Any) -> Any:
    # TensorFlow's own is made of erfc, which ONNX does not have. In this order of factors and terms
    # ONNX Runtime knows it (see `graph.converted`).
    return (0.5 * rows) * (tf.math.erf(rows / np.float32(2.0**0.5)) + 1.0)


def pooled(rows: Any, mask: Any, pooling: str) -> Any:
    """One row a text of [texts, tokens, hidden], of length 1."""
    if pooling == "cls":
        found = rows[:, 0]
    else:
        present = tf.cast(mask, rows.dtype)[:, :, None]
        found = tf.reduce_sum(rows * present, axis=1) / tf.reduce_sum(present, axis=1)
    return found / tf.maximum(tf.norm(found, axis=1, keepdims=True), np.float32(1e-12))
