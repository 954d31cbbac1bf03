"""A pretrained encoder of the BERT family, as its folder from the Hugging Face hub has it.

config.json  model.safetensors (or its parts)  tokenizer.json  [tokenizer_config.json]
[1_Pooling/config.json]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lmaas.broker_config.errors import TrainingError
from lmaas.workers.plain_files import is_plain_name

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
#: Of large models, which file has which weights.
INDEX: Final = "model.safetensors.index.json"
TOKENIZER: Final = "tokenizer.json"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_POOLING: Final = "1_Pooling/config.json"

#: Those whose positions begin after that of padding.
_OFFSET: Final = frozenset({"roberta", "xlm-roberta", "camembert"})
_BERTS: Final = _OFFSET | {"bert"}
_FAMILY: Final = _BERTS | {"distilbert"}
#: DistilBERT's name for what the others call otherwise.
_DISTILLED: Final = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}

Floats = npt.NDArray[np.float32]
Pooling = Literal["mean", "cls"]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What `config.json` says of the network; the rest of it is left unread."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    position_embedding_type: str = "absolute"

    @property
    def offset(self) -> int:
        """The position of the first token."""
        return self.pad_token_id + 1 if self.model_type in _OFFSET else 0


class _TokenizerConfig(msgspec.Struct, frozen=True):
    model_max_length: float = 1e30
    padding_side: str = "right"


class _PoolingConfig(msgspec.Struct, frozen=True):
    pooling_mode_cls_token: bool = False


class _Index(msgspec.Struct, frozen=True):
    #: Name of a weight -> file.
    weight_map: dict[str, str]


class Pretrained:
    """A folder that has been looked through; its weights are read when they are asked for."""

    def __init__(self, folder: Path, pooling: Pooling | None = None) -> None:
        """Without a `pooling` it is what the folder says, and else the mean.

        Raises TrainingError when something is missing, or of another family.
        """
        self.folder = folder
        self.shape = _shape(folder)
        if not (folder / TOKENIZER).is_file():
            raise TrainingError(
                f"{folder}: no {TOKENIZER}; make one with "
                "transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
        told = _read(folder / _TOKENIZER_CONFIG, _TokenizerConfig) or _TokenizerConfig()
        #: Whether short rows are filled up on their left.
        self.left = told.padding_side == "left"
        positions = self.shape.max_position_embeddings - self.shape.offset
        #: Tokens of a text at most.
        self.max_tokens = int(min(told.model_max_length, positions))
        told_pooling = _read(folder / _POOLING, _PoolingConfig) or _PoolingConfig()
        #: How the rows of a text's tokens become one: their mean, or that of the first, [CLS].
        self.pooling = pooling or ("cls" if told_pooling.pooling_mode_cls_token else "mean")

    def files(self) -> list[Path]:
        """Those of its weights: one, or several with an index. Raises TrainingError when one is
        missing.
        """
        whole = self.folder / WEIGHTS
        index = None if whole.is_file() else _read(self.folder / INDEX, _Index)
        names = [WEIGHTS] if index is None else sorted(set(index.weight_map.values()))
        for name in names:
            if not is_plain_name(name):
                raise TrainingError(
                    f"{self.folder / INDEX}: {name!r} is no name of a file beside it"
                )
            if not (self.folder / name).is_file():
                advice = (
                    "of a folder with pytorch_model.bin, make it with "
                    "transformers.AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                    if index is None
                    else f"{INDEX} names it: download it, too"
                )
                raise TrainingError(f"{self.folder / name} is missing; {advice}")
        return [self.folder / name for name in names]

    def weights(self) -> dict[str, Floats]:
        """By their names, without that of the model before them. Raises TrainingError."""
        found: dict[str, npt.NDArray[Any]] = {}
        for path in self.files():
            try:
                found |= load_file(path)
            except (SafetensorError, OSError, KeyError, TypeError) as error:
                raise TrainingError(f"{path}: cannot be read: {error}") from error
        prefix = f"{self.shape.model_type.removeprefix('xlm-').replace('camembert', 'roberta')}."
        return {
            name.removeprefix(prefix): np.asarray(value, np.float32)
            for name, value in found.items()
            if value.dtype.kind == "f"
        }


def _shape(folder: Path) -> Shape:
    path = folder / CONFIG
    raw = _read(path, dict[str, Any])
    if raw is None:
        raise TrainingError(
            f"{path} is missing; an encoder is a folder with {CONFIG}, {WEIGHTS} and {TOKENIZER}, "
            "as a download from the Hugging Face hub has them"
        )
    kind = raw.get("model_type")
    if kind not in _FAMILY:
        raise TrainingError(
            f"{path}: model_type {kind!r}; encoders can be {', '.join(sorted(_FAMILY))}"
        )
    if kind == "distilbert":
        raw = {_DISTILLED.get(name, name): value for name, value in raw.items()}
    try:
        shape = msgspec.convert(raw, Shape)
    except msgspec.ValidationError as error:
        raise TrainingError(f"{path}: {error}") from error
    if shape.position_embedding_type != "absolute":
        raise TrainingError(
            f"{path}: position_embedding_type {shape.position_embedding_type!r}; only 'absolute' "
            "can be read"
        )
    if shape.hidden_size % shape.num_attention_heads:
        raise TrainingError(
            f"{path}: hidden_size {shape.hidden_size} is no multiple of its "
            f"{shape.num_attention_heads} heads"
        )
    return shape


def _read(path: Path, kind: Any) -> Any:
    """None when there is no such file. Raises TrainingError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise TrainingError(f"{path}: cannot be read: {error}") from error
