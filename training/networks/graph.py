"""A function of tensors as an ONNX graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

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
    onnx.checker.check_model(graph)
    return graph
