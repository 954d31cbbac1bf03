"""A network with a bidirectional LSTM as a graph with ONNX' own operator.

tf2onnx makes a loop over the words of a masked LSTM, which is many times slower. Here it converts
what comes before and what comes after; between them stands one operator that is told how many
words each text has, so that padding is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from lmaas.training import quietly
from lmaas.training.networks.graph import converted

with quietly():
    import keras
    import tensorflow as tf

_Floats = npt.NDArray[np.float32]


def with_lstm(
    before: Callable[[Any], tuple[Any, Any]],
    lstm: keras.layers.Bidirectional,
    after: Callable[[Any, Any], Any],
) -> onnx.ModelProto:
    """The graph of ids -> scores.

    `before` makes of ids [texts, words] the LSTM's rows [texts, words, numbers] and which words
    are no padding [texts, words]; `after` makes of what the LSTM gives, [texts, words, numbers],
    and of the latter the scores.
    """

    def first(ids: Any) -> dict[str, Any]:
        rows, present = before(ids)
        return {
            "rows": tf.transpose(rows, [1, 0, 2]),
            "lengths": tf.reduce_sum(tf.cast(present, tf.int32), axis=1),
            "present": present,
        }

    def last(states: Any, present: Any) -> dict[str, Any]:
        words, directions, texts, units = tf.unstack(tf.shape(states))
        by_text = tf.transpose(states, [2, 0, 1, 3])
        rows = tf.reshape(by_text, tf.stack([texts, words, directions * units]))
        return {"scores": after(tf.ensure_shape(rows, [None, None, width]), present)}

    units = lstm.forward_layer.units
    width = 2 * units
    front = converted(first, [tf.TensorSpec((None, None), tf.int32, name="ids")])
    back = converted(
        last,
        [
            tf.TensorSpec((None, 2, None, units), tf.float32, name="states"),
            tf.TensorSpec((None, None), tf.bool, name="present"),
        ],
    )
    joined = compose.merge_models(
        front, _operator(lstm, front), io_map=[("rows", "rows"), ("lengths", "lengths")]
    )
    back = compose.add_prefix(back, "after/", rename_inputs=False, rename_outputs=False)
    graph = compose.merge_models(
        joined, back, io_map=[("states", "states"), ("present", "present")]
    )
    onnx.checker.check_model(graph)
    return graph


def _operator(lstm: keras.layers.Bidirectional, like: onnx.ModelProto) -> onnx.ModelProto:
    """The operator alone, for graphs of the versions of `like`.

    It takes rows [words, texts, numbers] and lengths [texts], and gives states [words, directions,
    texts, units].
    """
    layers = lstm.forward_layer, lstm.backward_layer
    weights = [[array.numpy() for array in layer.cell.trainable_weights] for layer in layers]
    tensors = {
        "kernels": np.stack([_gates(kernel).T for kernel, _, _ in weights]),
        "recurrent": np.stack([_gates(kernel).T for _, kernel, _ in weights]),
        # ONNX has a second bias, of the recurrent part.
        "biases": np.stack([np.append(_gates(bias), np.zeros_like(bias)) for *_, bias in weights]),
    }
    node = helper.make_node(
        "LSTM",
        ["rows", *tensors, "lengths"],
        ["states"],
        direction="bidirectional",
        hidden_size=lstm.forward_layer.units,
    )
    graph = helper.make_graph(
        [node],
        "lstm",
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, None, None]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, [None]),
        ],
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, [None, 2, None, None])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(
        graph, ir_version=like.ir_version, opset_imports=list(like.opset_import)
    )


def _gates(array: _Floats) -> _Floats:
    """[..., 4 units]: Keras has input, forget, cell, output; ONNX input, output, forget, cell."""
    taken, forget, cell, out = np.split(array, 4, axis=-1)
    return np.concatenate([taken, out, forget, cell], axis=-1)
