"""A pretrained encoder of a few numbers, as a folder from the hub, and what it must give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import erf
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

Floats = npt.NDArray[np.float32]

HIDDEN: Final = 24
HEADS: Final = 4
BLOCKS: Final = 2
POSITIONS: Final = 24
WORDS: Final = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "fine",
    "great",
    "lovely",
    "film",
    "dull",
    "poor",
    "awful",
    "green",
]

_NAMES: Final = {
    "bert": (
        "encoder.layer.{}.",
        ("attention.self.query", "attention.self.key", "attention.self.value",
         "attention.output.dense", "attention.output.LayerNorm",
         "intermediate.dense", "output.dense", "output.LayerNorm"),
    ),
    "distilbert": (
        "transformer.layer.{}.",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
         "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
    ),
}  # fmt: skip


_DISTILLED: Final = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}


def save(folder: Path, kind: str = "bert", *, prefix: bool = False, **changes: Any) -> Path:
    """The folder, of a random encoder; `changes` go into its config.json."""
    folder.mkdir(parents=True)
    config = {
        "model_type": kind,
        "vocab_size": len(WORDS),
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_size": HIDDEN,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "intermediate_size": 12,
    }
    if kind == "distilbert":
        for theirs, ours in _DISTILLED.items():
            config[theirs] = config.pop(ours)
    (folder / "config.json").write_text(json.dumps(config | changes))
    before = f"{'roberta' if kind == 'xlm-roberta' else kind}." if prefix else ""
    save_file(
        {before + name: value for name, value in weights(kind).items()},
        folder / "model.safetensors",
    )
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def weights(kind: str) -> dict[str, Floats]:
    random = np.random.default_rng(5)

    def some(*shape: int) -> Floats:
        return random.normal(0, 0.1, shape).astype(np.float32)

    layer, names = _NAMES["distilbert" if kind == "distilbert" else "bert"]
    found = {
        "embeddings.word_embeddings.weight": 9 * some(len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": some(POSITIONS, HIDDEN),
        "embeddings.LayerNorm.weight": 1 + some(HIDDEN),
        "embeddings.LayerNorm.bias": some(HIDDEN),
    }
    if kind != "distilbert":
        found["embeddings.token_type_embeddings.weight"] = some(2, HIDDEN)
    sizes = [(HIDDEN, HIDDEN)] * 4 + [(HIDDEN,)] + [(12, HIDDEN), (HIDDEN, 12), (HIDDEN,)]
    for block in range(BLOCKS):
        for name, size in zip(names, sizes, strict=True):
            at = layer.format(block) + name
            found[f"{at}.weight"] = some(*size) + (len(size) == 1)
            found[f"{at}.bias"] = some(size[0])
    return found


def tokenizer() -> Tokenizer:
    made = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def expected(text: str, kind: str, *, offset: int = 0, pooling: str = "mean") -> Floats:
    """The text's row of length 1, by plain matrix products: no mask, no padding, no batch."""
    of = {name: value.astype(np.float64) for name, value in weights(kind).items()}
    layer, names = _NAMES["distilbert" if kind == "distilbert" else "bert"]
    ids = tokenizer().encode(text).ids
    rows = of["embeddings.word_embeddings.weight"][ids]
    rows = rows + of["embeddings.position_embeddings.weight"][offset : offset + len(ids)]
    if kind != "distilbert":
        rows = rows + of["embeddings.token_type_embeddings.weight"][0]
    rows = _norm(of, "embeddings.LayerNorm", rows)
    for block in range(BLOCKS):
        query, key, value, out, attended, up, down, done = (
            layer.format(block) + name for name in names
        )
        found = []
        for head in np.split(np.arange(HIDDEN), HEADS):
            scores = _dense(of, query, rows)[:, head] @ _dense(of, key, rows)[:, head].T
            powers = np.exp(scores / np.sqrt(HIDDEN / HEADS))
            found.append(powers / powers.sum(1, keepdims=True) @ _dense(of, value, rows)[:, head])
        rows = _norm(of, attended, rows + _dense(of, out, np.concatenate(found, axis=1)))
        middle = _dense(of, up, rows)
        middle = middle * 0.5 * (1 + np.vectorize(erf)(middle / np.sqrt(2)))
        rows = _norm(of, done, rows + _dense(of, down, middle))
    row = rows[0] if pooling == "cls" else rows.mean(axis=0)
    unit: Floats = (row / np.linalg.norm(row)).astype(np.float32)
    return unit


def _dense(of: Mapping[str, Any], name: str, rows: Any) -> Any:
    return rows @ of[f"{name}.weight"].T + of[f"{name}.bias"]


def _norm(of: Mapping[str, Any], name: str, rows: Any) -> Any:
    centred = rows - rows.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt(rows.var(axis=1, keepdims=True) + 1e-12)
    return scaled * of[f"{name}.weight"] + of[f"{name}.bias"]
