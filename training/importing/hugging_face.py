"""A folder as the Hugging Face hub has it, with an ONNX graph.

config.json  model.onnx or onnx/model.onnx  tokenizer.json  [tokenizer_config.json]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.training import hub
from lmaas.training.importing import bare, heads, images, sounds, texts
from lmaas.training.importing.graph import Graph, Port, read
from lmaas.training.importing.proposal import Options, Output, Proposal, Task
from lmaas.workers.manifest import Input

CONFIG: Final = "config.json"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_PROCESSORS: Final = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_GRAPHS: Final = ("model.onnx", "onnx/model.onnx")
#: What `optimum-cli` and torch write.
_COMMAND: Final = "optimum-cli export onnx --model FOLDER OUT"
#: Those whose positions begin after that of padding.
_OFFSET: Final = frozenset(
    {"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "roberta-prelayernorm",
     "data2vec-text", "longformer", "xmod", "ibert"}
)  # fmt: skip
#: Classes of tokenizers that are no model's own.
_PLAIN: Final = frozenset({"PreTrainedTokenizerFast", "TokenizersBackend"})
#: Labels of pairs.
_PAIRS: Final = frozenset({"entailment", "not_entailment", "contradiction", "duplicate"})
#: Tokens of a text where nothing says how many a model takes.
_MOST: Final = 512


class _TokenizerConfig(msgspec.Struct, frozen=True):
    """The rest of it is left unread."""

    model_max_length: float = 1e30
    padding_side: str = "right"
    tokenizer_class: str = ""
    model_input_names: list[str] | None = None

    @property
    def leaves_types_out(self) -> bool:
        """Whether transformers itself gives a model no types of tokens by it."""
        if self.model_input_names is not None:
            return "token_type_ids" not in self.model_input_names
        return self.tokenizer_class in _PLAIN


@dataclass(frozen=True, slots=True)
class _Folder:
    """What is in it."""

    path: Path
    graph: Graph
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return hub.origin(self.path)[0].rpartition("/")[2]

    @property
    def record(self) -> dict[str, Any]:
        """For the manifest: what it is, and of which commit."""
        repo, commit = hub.origin(self.path)
        return {
            "origin": "Hugging Face",
            "opset": self.graph.opset,
            **({"repository": repo, "revision": commit} if commit else {}),
        }


def recognises(path: Path) -> bool:
    """A folder with a config.json, or a graph in one."""
    return _root(path) is not None


def _root(path: Path) -> Path | None:
    near = [path] if path.is_dir() else [path.parent, path.parent.parent]
    return next((folder for folder in near if (folder / CONFIG).is_file()), None)


def proposed(path: Path, options: Options) -> Proposal:
    """Raises DataError."""
    folder = _folder(path)
    task = options.task or _task(folder.graph)
    if task in ("text", "pairs"):
        return _of_texts(folder, options)
    if task == "tensors":
        return bare.of_graph(folder.graph, options)
    return _of_images(folder, options) if task == "image" else _of_sounds(folder, options)


def _folder(path: Path) -> _Folder:
    root = _root(path)
    assert root is not None
    config = _config(root)
    return _Folder(root, Graph(_graph(path, root, config)), config)


def _task(graph: Graph) -> Task:
    """By the names that transformers gives to inputs. Raises DataError."""
    names = {one.name for one in graph.inputs}
    if "pixel_values" in names:
        return "image"
    if names & {"input_values", "input_features"}:
        return "audio"
    if texts.takes_ids(graph):
        return "text"
    listed = ", ".join(map(str, graph.inputs))
    raise DataError(f"{graph.path}: what does it take? Its inputs: {listed}; say --task")


def _graph(path: Path, root: Path, config: dict[str, Any]) -> Path:
    """The ONNX file of the folder. Raises DataError."""
    if path != root:
        return path
    for name in _GRAPHS:
        if (root / name).exists():
            return root / name
    others = sorted([*root.glob("*.onnx"), *root.glob("onnx/*.onnx")])
    if len(others) == 1:
        return others[0]
    if others:
        listed = ", ".join(str(one.relative_to(root)) for one in others)
        raise DataError(f"{root}: which graph? Name one of them: {listed}")
    command = _COMMAND.replace("FOLDER", str(root))
    if not any((root / name).exists() for name in _WEIGHTS):
        raise DataError(f"{root}: neither model.onnx nor onnx/model.onnx is there")
    heads_ = config.get("architectures") or [""]
    encoder = ""
    if "Classification" not in str(heads_[0]):
        encoder = (
            f"; it has no classifier, which `lmaas train NAME --data FILE --encoder {root}` makes"
        )
    raise DataError(
        f"{root}: weights without a graph; `{command}` (pip install optimum-onnx) makes "
        f"model.onnx of them{encoder}"
    )


def _config(root: Path) -> dict[str, Any]:
    found = _decoded(root / CONFIG, dict[str, Any])
    assert isinstance(found, dict)
    return found


def _decoded(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(read(path), type=kind)
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: {error}; copy it again") from error


# ------------------------------------------------------------------- texts


def _of_texts(folder: _Folder, options: Options) -> Proposal:
    graph, config = folder.graph, folder.config
    file = options.tokenizer or folder.path / texts.TOKENIZER
    if not file.exists():
        raise DataError(
            f"{file} is missing; make it with transformers.AutoTokenizer.from_pretrained(FOLDER)"
            ".save_pretrained(FOLDER), or name one with --tokenizer"
        )
    content = read(file)
    tokenizer = texts.read_tokenizer(content, file)
    roles = texts.roles(graph, options)
    output = heads.scores_output(graph, options)
    known = _labels(folder)
    labels, notes = heads.labels(graph, output, options, known, f"id2label of {CONFIG}")
    head, guessed = heads.head(graph, output, labels, options, *_scores(config, labels))
    pairs, told = _pairs(labels, options)
    notes += [*guessed, *told]
    tokens = _tokenizer_config(folder.path)
    padding = config.get("pad_token_id")
    preprocessing = texts.preprocessing(
        roles,
        max_tokens=_max_tokens(config, tokens, options),
        padding=padding if isinstance(padding, int) and padding >= 0 else texts.padding(tokenizer),
        left=tokens.padding_side == "left",
        pairs=pairs,
    )
    size = config.get("vocab_size")
    warnings = texts.vocabulary(
        graph, tokenizer, roles["ids"].name, size if isinstance(size, int) else None
    )
    if pairs and "types" in roles and tokens.leaves_types_out:
        warnings.append(
            f"by its {_TOKENIZER_CONFIG} transformers gives second texts the type 0; here they "
            "have the type that tokenizer.json says"
        )
    return Proposal(
        path=graph.path,
        name=folder.name,
        architecture=str(config.get("model_type") or "Hugging Face"),
        files={**graph.files(), texts.TOKENIZER: content},
        labels=labels,
        inputs=texts.inputs(roles),
        preprocessing=preprocessing,
        head=head,
        batching=texts.BATCHING,
        notes=notes,
        warnings=[*graph.warnings(), *warnings],
        record=folder.record,
    )


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a folder says of the pictures that its graph takes."""

    #: The folder, and the graph.
    folder: Path
    path: Path
    preprocessing: dict[str, Any]
    config: dict[str, Any]
    input: Input


def pictures(path: Path) -> Pictures:
    """Of a graph that need not have scores. Raises DataError."""
    folder = _folder(path)
    preprocessing, given, _ = _prepared(folder, {})
    (taken,) = images.inputs(given)
    return Pictures(folder.path, folder.graph.path, preprocessing, folder.config, taken)


def _prepared(folder: _Folder, said: Mapping[str, Any]) -> tuple[dict[str, Any], Port, list[str]]:
    """The manifest's preprocessing of pictures, the input, and what was guessed."""
    told, path = _processor(folder, "image_processor", "pictures", "--image, --mean and --std")
    given = images.port(folder.graph)
    try:
        preprocessing, notes = images.of_processor(told, given, path.name)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {error!r} is not understood") from error
    return images.checked({**preprocessing, **said}, path), given, notes


def _of_images(folder: _Folder, options: Options) -> Proposal:
    graph = folder.graph
    preprocessing, given, prepared = _prepared(folder, options.image)
    output = heads.scores_output(graph, options)
    labels, notes = heads.labels(graph, output, options, _labels(folder), f"id2label of {CONFIG}")
    head, guessed = heads.head(graph, output, labels, options, *_scores(folder.config, labels))
    return Proposal(
        path=graph.path,
        name=folder.name,
        architecture=str(folder.config.get("model_type") or "Hugging Face"),
        files=graph.files(),
        labels=labels,
        inputs=images.inputs(given),
        preprocessing=preprocessing,
        head=head,
        batching=images.BATCHING,
        notes=[*notes, *guessed, *prepared],
        warnings=graph.warnings(),
        record=folder.record,
    )


def _of_sounds(folder: _Folder, options: Options) -> Proposal:
    graph = folder.graph
    told, path = _processor(folder, "feature_extractor", "sound", "--task tensors")
    features, mask = sounds.ports(graph)
    output = heads.scores_output(graph, options)
    labels, notes = heads.labels(graph, output, options, _labels(folder), f"id2label of {CONFIG}")
    head, guessed = heads.head(graph, output, labels, options, *_scores(folder.config, labels))
    try:
        preprocessing, batching, prepared = sounds.of_extractor(
            told, folder.config, features, mask, options.max_seconds, path.name
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error!r} is not understood") from error
    return Proposal(
        path=graph.path,
        name=folder.name,
        architecture=str(folder.config.get("model_type") or "Hugging Face"),
        files=graph.files(),
        labels=labels,
        inputs=sounds.inputs(features, mask),
        preprocessing=sounds.checked(preprocessing, path),
        head=head,
        batching=batching,
        notes=[*notes, *guessed, *prepared],
        warnings=graph.warnings(),
        record=folder.record,
    )


def _processor(
    folder: _Folder, part: str, what: str, otherwise: str
) -> tuple[dict[str, Any], Path]:
    """What says how items are prepared, and where: a file, or that part of it. Raises DataError."""
    path = next((one for name in _PROCESSORS if (one := folder.path / name).exists()), None)
    if path is None:
        raise DataError(
            f"{folder.path}: a model of {what} without {_PROCESSORS[0]}: how are they prepared? "
            f"Import {folder.graph.path.name} in another folder, with {otherwise}"
        )
    told = _decoded(path, dict[str, Any])
    return told.get(part, told), path


def _labels(folder: _Folder) -> list[str]:
    """Those of the config, in the order of the output. Raises DataError."""
    told = folder.config.get("id2label")
    if not told:
        return []
    if isinstance(told, list):
        told = dict(enumerate(told))
    try:
        numbered = {int(number): str(label) for number, label in told.items()}
    except (AttributeError, ValueError) as error:
        raise DataError(
            f"{folder.path / CONFIG}: id2label is no object of numbers and labels; give the labels "
            "with --labels"
        ) from error
    if sorted(numbered) != list(range(len(numbered))):
        raise DataError(
            f"{folder.path / CONFIG}: id2label does not number its labels from 0; give them with "
            "--labels"
        )
    return [numbered[number] for number in range(len(numbered))]


def _scores(config: dict[str, Any], labels: list[str]) -> tuple[Output, str]:
    """What the logits are, as transformers' own pipeline reads them, and why."""
    kind = config.get("problem_type")
    if kind == "regression":
        return "values", f"problem_type of {CONFIG} is regression"
    if kind == "multi_label_classification":
        return "sigmoid", f"problem_type of {CONFIG} is {kind}"
    if kind is None and len(labels) == 1:
        return "sigmoid", "it has one label"
    return "softmax", f"problem_type of {CONFIG} is {kind or 'not said'}"


def _pairs(labels: list[str], options: Options) -> tuple[bool, list[str]]:
    if options.task is not None:
        return options.task == "pairs", []
    of_pairs = sorted({label.lower() for label in labels} & _PAIRS)
    if of_pairs:
        return True, [f"it takes two texts (it has the label {of_pairs[0]!r}); --task text: one"]
    return False, ["it takes one text; --task pairs: two"]


def _tokenizer_config(folder: Path) -> _TokenizerConfig:
    path = folder / _TOKENIZER_CONFIG
    found = _decoded(path, _TokenizerConfig) if path.exists() else _TokenizerConfig()
    assert isinstance(found, _TokenizerConfig)
    return found


def _max_tokens(config: dict[str, Any], tokens: _TokenizerConfig, options: Options) -> int:
    """Tokens that the model has positions for, and that it was meant for."""
    limits = [options.max_tokens or _MOST * 64, tokens.model_max_length]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > 0:
        offset = 0
        if config.get("model_type") in _OFFSET:
            offset = (config.get("pad_token_id") or 0) + 1
        limits.append(positions - offset)
    elif options.max_tokens is None and tokens.model_max_length > 1e9:
        limits.append(_MOST)
    return max(1, int(min(limits)))
