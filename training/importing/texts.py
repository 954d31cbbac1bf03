"""Graphs that take token ids: which input is which, and how a `tokenizer.json` fits them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from tokenizers import Tokenizer

from lmaas.broker_config.errors import DataError
from lmaas.training.importing.graph import Graph, Port
from lmaas.training.importing.proposal import Options
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.preprocess.tokens import Tokens

#: The file in a version's folder.
TOKENIZER: Final = "tokenizer.json"
#: Names of inputs, as exporters write them.
_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "ids": ("input_ids", "ids", "tokens", "token_ids", "input"),
    "mask": ("attention_mask", "mask", "input_mask"),
    "types": ("token_type_ids", "segment_ids", "type_ids"),
}
#: What pads in the tokenizers of others, where nothing else says it.
_PADS: Final = ("[PAD]", "<pad>")
#: A tokenizer with less than this share of the ids that a model knows is another one's.
_SHARE: Final = 0.8
#: No tokenizer has these words; each must make something of them.
_UNKNOWN: Final = "qzxvkj \u16a0\u16a2 \U0001f3ac"


def takes_ids(graph: Graph) -> bool:
    """Whether it takes rows of whole numbers under the names of token ids."""
    names = {name for names in _ROLES.values() for name in names}
    return any(one.name in names and _is_ids(one) for one in graph.inputs)


def roles(graph: Graph, options: Options) -> dict[str, Port]:
    """The input for each of ids, mask and types. Raises DataError for one that has no role."""
    known = {one.name: one for one in graph.inputs}
    found: dict[str, Port] = {}
    for role, name in options.inputs.items():
        if name not in known:
            raise DataError(f"{graph.path}: no input {name!r} (there are: {_listed(graph)})")
        found[role] = known[name]
    for role, names in _ROLES.items():
        port = next((known[name] for name in names if name in known), None)
        if role not in found and port is not None and port not in found.values():
            found[role] = port
    if not found and len(known) == 1 and _is_ids(graph.inputs[0]):
        found["ids"] = graph.inputs[0]
    left = [str(one) for one in graph.inputs if one not in found.values()]
    if left or "ids" not in found or not _is_ids(found["ids"]):
        wrong = f"what fills {', '.join(left)}?" if left else "no input takes token ids"
        raise DataError(
            f"{graph.path}: {wrong} (its inputs: {_listed(graph)}); a model of texts takes token "
            "ids, their mask and their types, each [rows, tokens]: name them with "
            "--input ids=NAME --input mask=NAME --input types=NAME"
        )
    return found


def _listed(graph: Graph) -> str:
    return ", ".join(map(str, graph.inputs))


def _is_ids(port: Port) -> bool:
    return port.dtype in ("int32", "int64") and (port.shape is None or len(port.shape) == 2)


def read_tokenizer(content: bytes, path: object) -> Tokenizer:
    """Raises DataError."""
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # it raises this class, and none of its own
        raise DataError(f"{path}: no tokenizer: {error}; copy it again") from error
    try:
        tokenizer.encode(_UNKNOWN)
    except Exception as error:
        raise DataError(
            f"{path}: cannot make tokens of a text with unknown words: {error}; give the tokenizer "
            "that the model was trained with"
        ) from error
    return tokenizer


def padding(tokenizer: Tokenizer) -> int:
    """The id that fills up, as far as the tokenizer itself says it."""
    told = tokenizer.padding
    if told:
        return int(told["pad_id"])
    return next((found for pad in _PADS if (found := tokenizer.token_to_id(pad)) is not None), 0)


def preprocessing(
    found: Mapping[str, Port], *, max_tokens: int, padding: int, left: bool, pairs: bool
) -> dict[str, Any]:
    """The manifest's part of that name."""
    tokens = Tokens(
        file=TOKENIZER,
        max_tokens=max_tokens,
        ids=found["ids"].name,
        mask=found["mask"].name if "mask" in found else None,
        types=found["types"].name if "types" in found else None,
        padding=padding,
        left=left,
        pairs=pairs,
    )
    told: dict[str, Any] = msgspec.to_builtins(tokens)
    return told


def inputs(found: Mapping[str, Port]) -> list[Input]:
    return [
        Input(name=port.name, dtype=port.dtype, shape=list(port.shape or [None, None]))
        for port in found.values()
    ]


#: Before it is measured: batches of many padded tokens are slower on a CPU.
BATCHING: Final = Batching(unit="tokens", most=1024, overhead=32)


def vocabulary(graph: Graph, tokenizer: Tokenizer, ids: str, told: int | None = None) -> list[str]:
    """What is strange about a tokenizer beside its model's embedding, as warnings.

    `told` is what a config says of the number of ids. Raises DataError when the tokenizer makes
    ids that the model has no row for: it is another model's.
    """
    rows = graph.rows_of_embedding(ids) or told
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if rows is None:
        return []
    if size > rows:
        raise DataError(
            f"{graph.path}: the tokenizer makes ids up to {size - 1:,}, and the model knows those "
            f"up to {rows - 1:,}: it is another model's; give its own with --tokenizer"
        )
    if size < _SHARE * rows:
        return [
            f"the tokenizer knows {size:,} tokens and the model {rows:,}: is it this model's own?"
        ]
    return []
