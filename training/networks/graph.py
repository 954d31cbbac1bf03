"""A function of tensors as an ONNX graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx

from lmaas.training import quietly

with quietly():
    import tensorflow as tf
    import tf2onnx

#: The newest that tf2onnx writes.
OPSET: Final = 18


def converted(function: Any, signature: Sequence[tf.TensorSpec]) -> onnx.ModelProto:
    """The graph of a function that returns its outputs by name."""
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    serving = tf.function(function, input_signature=signature)
    graph: onnx.ModelProto
    with quietly():
        graph, _ = tf2onnx.convert.from_function(serving, signature, opset=OPSET)
    _inline(graph, serving.get_concrete_function(*signature))
    onnx.checker.check_model(graph)
    return graph


def _inline(graph: onnx.ModelProto, function: Any) -> None:
    """What the function has from outside of it becomes a constant, as its variables are already:
    tf2onnx makes inputs of it (of the mean and the variance of Keras' Normalization).
    """
    captured = {
        inner.name: outer for outer, inner in function.graph.captures if outer.dtype != tf.resource
    }
    for one in [one for one in graph.graph.input if one.name in captured]:
        value = np.asarray(captured[one.name].numpy())
        graph.graph.initializer.append(onnx.numpy_helper.from_array(value, one.name))
        graph.graph.input.remove(one)
