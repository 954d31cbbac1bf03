"""Models as others export them, in small: graphs, tokenizers and folders, made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "a", "film", "first", "text", "its")
LABELS = ("negative", "neutral", "positive")
#: Of each id, and of each position.
ROWS = np.random.default_rng(5).normal(size=(len(WORDS), 4)).astype(np.float32)
POSITIONS = np.random.default_rng(6).normal(size=(32, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(7).normal(size=(4, len(LABELS))).astype(np.float32)


def tokenizer(words: Sequence[str] = WORDS) -> Tokenizer:
    """With special tokens, as BERT has them: the second text has the type 1."""
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def ids_of(text: str, pair: str | None = None) -> tuple[list[int], list[int]]:
    """As the tokenizer should make them, and their types; in other words."""
    known = {word: at for at, word in enumerate(WORDS)}
    first = [2, *(known.get(word, 1) for word in text.split()), 3]
    second = [*(known.get(word, 1) for word in pair.split()), 3] if pair else []
    return first + second, [0] * len(first) + [1] * len(second)


def logits(text: str, pair: str | None = None) -> NDArray[np.float64]:
    """What the graph should give, by NumPy."""
    ids, types = ids_of(text, pair)
    rows = ROWS[ids] + POSITIONS[: len(ids)] + np.array(types)[:, None]
    found: NDArray[np.float64] = rows.mean(axis=0) @ WEIGHTS
    return found.astype(np.float64)


def softmax(row: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(row - row.max())
    return np.asarray(powers / powers.sum())


def classifier(
    *,
    rows: int | str = "batch",
    length: int | str = "length",
    names: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
    opset: int = 17,
    ends: Sequence[Any] = (),
    weights: NDArray[Any] = WEIGHTS,
    dtype: int = TensorProto.FLOAT,
    said: tuple[int | str, int | str] | None = None,
) -> onnx.ModelProto:
    """The mean of the rows of ids and places, times the weights; `ends` follow.

    `rows` and `length` are what it can take; `said` is what its inputs declare.
    """
    values = helper.tensor_dtype_to_np_dtype(dtype)
    constants = {
        "table": ROWS.astype(values),
        "places": POSITIONS.astype(values),
        "weights": weights.astype(values),
        "one": np.array(1, np.int64),
        "axis": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "zero": np.array([0], np.int64),
    }
    ids, *others = names
    nodes = [
        helper.make_node("Gather", ["table", ids], ["words"]),
        helper.make_node("Shape", [ids], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "zero"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["ones"],
                         value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
        helper.make_node("NonZero", ["ones"], ["range"]),
        helper.make_node("Gather", ["places", "range"], ["placed"]),
        helper.make_node("Add", ["words", "placed"], ["plain"]),
    ]  # fmt: skip
    rows_of = "plain"
    if len(others) > 1:
        nodes += [
            helper.make_node("Cast", [others[1]], ["_types"], to=dtype),
            helper.make_node("Unsqueeze", ["_types", "last"], ["types_"]),
            helper.make_node("Add", ["plain", "types_"], ["typed"]),
        ]
        rows_of = "typed"
    if others:
        nodes += [
            helper.make_node("Cast", [others[0]], ["_mask"], to=dtype),
            helper.make_node("Unsqueeze", ["_mask", "last"], ["mask_"]),
            helper.make_node("Mul", [rows_of, "mask_"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axis"], ["sum"], keepdims=0),
            helper.make_node("ReduceSum", ["mask_", "axis"], ["count"], keepdims=0),
            helper.make_node("Div", ["sum", "count"], ["mean"]),
        ]
    else:
        nodes.append(helper.make_node("ReduceMean", [rows_of], ["mean"], axes=[1], keepdims=0))
    if isinstance(rows, int):  # a shape that somebody's exporter took for a constant
        constants["fixed"] = np.array([rows, 4], np.int64)
        nodes += [helper.make_node("Reshape", ["mean", "fixed"], ["mean_"])]
    else:
        nodes += [helper.make_node("Identity", ["mean"], ["mean_"])]
    if isinstance(length, int):
        constants["exact"] = np.array([length], np.int64)
        nodes += [
            helper.make_node("Reshape", ["ones", "exact"], ["exactly"]),
            helper.make_node("ReduceMax", ["exactly"], ["whole"], keepdims=0),
            helper.make_node("Cast", ["whole"], ["whole_"], to=dtype),
            helper.make_node("Mul", ["mean_", "whole_"], ["mean__"]),
        ]
    else:
        nodes += [helper.make_node("Identity", ["mean_"], ["mean__"])]
    last = "product" if ends else "logits"
    nodes += [helper.make_node("MatMul", ["mean__", "weights"], [last]), *ends]
    shape = list(said or (rows, length))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names],
        [helper.make_tensor_value_info("logits", dtype, [shape[0], weights.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def end(operator: str, domain: str = "", **attributes: Any) -> Any:
    """A node that makes `logits` of the last product."""
    return helper.make_node(operator, ["product"], ["logits"], domain=domain, **attributes)


def folder(
    path: Path,
    graph: onnx.ModelProto | None = None,
    *,
    config: dict[str, Any] | None = None,
    words: Sequence[str] | None = WORDS,
    external: str | None = None,
) -> Path:
    """As the Hugging Face hub has it."""
    path.mkdir(parents=True)
    told = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(at): label for at, label in enumerate(LABELS)},
        "max_position_embeddings": len(POSITIONS),
        "vocab_size": len(WORDS),
        "pad_token_id": 0,
    }
    (path / "config.json").write_text(json.dumps(told | (config or {})))
    if words is not None:
        tokenizer(words).save(str(path / "tokenizer.json"))
    onnx.save(
        graph or classifier(),
        path / "model.onnx",
        save_as_external_data=external is not None,
        location=external,
        size_threshold=64,  # ONNX Runtime looks at the values of shapes
    )
    return path
