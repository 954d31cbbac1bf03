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
    _divide_before_erf(graph.graph)
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


def _divide_before_erf(graph: onnx.GraphProto) -> None:
    """Before an error function, a product with the reciprocal of sqrt(2), which TensorFlow makes of
    a quotient, becomes the quotient again: by it ONNX Runtime knows a Gelu, and computes all of it
    in one pass.
    """
    root = onnx.numpy_helper.from_array(np.array(2**0.5, np.float32), "square_root_of_2")
    factors = {
        one.name
        for one in graph.initializer
        if not one.dims and np.isclose(onnx.numpy_helper.to_array(one), 0.5**0.5, rtol=1e-6)
    }
    scaled = {one.input[0] for one in graph.node if one.op_type == "Erf"}
    found = [
        one
        for one in graph.node
        if one.op_type == "Mul" and one.output[0] in scaled and factors & set(one.input)
    ]
    for one in found:
        (rows,) = set(one.input) - factors
        one.op_type, one.input[:] = "Div", [rows, root.name]
    if found:
        graph.initializer.append(root)
    used = {name for one in graph.node for name in one.input}
    for factor in [one for one in graph.initializer if one.name in factors - used]:
        graph.initializer.remove(factor)
