"""A bare ONNX file, of which the options say what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.training.importing import heads, images, texts
from lmaas.training.importing.graph import Graph, Port, read
from lmaas.training.importing.proposal import Options, Proposal
from lmaas.workers.manifest import Batching, Input

#: Tokens of a text where nobody says how many.
_MOST: Final = 512
_BATCHING: Final = Batching(unit="bytes", most=2**15)


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix in {".onnx", ".ort"}


def proposed(path: Path, options: Options) -> Proposal:
    """Raises DataError."""
    return of_graph(Graph(path), options)


def of_graph(graph: Graph, options: Options) -> Proposal:
    """Raises DataError."""
    task = options.task or _task(graph, options)
    if task in ("text", "pairs"):
        return _of_texts(graph, options)
    if task == "tensors":
        return _of_tensors(graph, options)
    if task == "image":
        return _of_images(graph, options)
    raise DataError(
        f"{graph.path}: there is no import of bare graphs of kind {task!r}; give those of sound as "
        "--task tensors"
    )


def _task(graph: Graph, options: Options) -> str:
    if options.tokenizer is not None:
        return "text"
    if options.image:
        return "image"
    if texts.takes_ids(graph):
        raise DataError(
            f"{graph.path}: it takes token ids ({', '.join(map(str, graph.inputs))}): name what "
            "makes them of texts with --tokenizer tokenizer.json, or say --task tensors"
        )
    return "tensors"


def _of_texts(graph: Graph, options: Options) -> Proposal:
    if options.tokenizer is None:
        raise DataError(f"{graph.path}: a model of texts needs --tokenizer tokenizer.json")
    content = read(options.tokenizer)
    tokenizer = texts.read_tokenizer(content, options.tokenizer)
    roles = texts.roles(graph, options)
    output = heads.scores_output(graph, options)
    labels, notes = heads.labels(graph, output, options)
    head, guessed = heads.head(graph, output, labels, options)
    notes += guessed
    if options.max_tokens is None:
        notes.append(f"texts are cut to {_MOST} tokens; --max-tokens says otherwise")
    if options.task is None:
        notes.append("it takes one text; --task pairs: two")
    preprocessing = texts.preprocessing(
        roles,
        max_tokens=options.max_tokens or _MOST,
        padding=texts.padding(tokenizer),
        left=bool(tokenizer.padding and tokenizer.padding["direction"] == "left"),
        pairs=options.task == "pairs",
    )
    return Proposal(
        path=graph.path,
        name=graph.path.stem,
        architecture="ONNX",
        files={**graph.files(), texts.TOKENIZER: content},
        labels=labels,
        inputs=texts.inputs(roles),
        preprocessing=preprocessing,
        head=head,
        batching=texts.BATCHING,
        notes=notes,
        warnings=[*graph.warnings(), *texts.vocabulary(graph, tokenizer, roles["ids"].name)],
        record={"origin": "ONNX", "opset": graph.opset},
    )


def _of_images(graph: Graph, options: Options) -> Proposal:
    given = images.port(graph)
    output = heads.scores_output(graph, options)
    labels, notes = heads.labels(graph, output, options)
    head, guessed = heads.head(graph, output, labels, options)
    try:
        preprocessing, prepared = images.of_options(given, options.image)
    except DataError as error:
        raise DataError(f"{graph.path}: {error}") from error
    return Proposal(
        path=graph.path,
        name=graph.path.stem,
        architecture="ONNX",
        files=graph.files(),
        labels=labels,
        inputs=images.inputs(given),
        preprocessing=images.checked(preprocessing, graph.path),
        head=head,
        batching=images.BATCHING,
        notes=[*notes, *guessed, *prepared],
        warnings=graph.warnings(),
        record={"origin": "ONNX", "opset": graph.opset},
    )


def _of_tensors(graph: Graph, options: Options) -> Proposal:
    """It takes what it takes, from items with tensors of these names."""
    output = heads.scores_output(graph, options)
    labels, notes = heads.labels(graph, output, options)
    head, guessed = heads.head(graph, output, labels, options)
    inputs = [_input(graph, one) for one in graph.inputs]
    if options.task is None:
        listed = ", ".join(map(str, graph.inputs))
        notes.append(f"items are tensors: {listed}; --tokenizer or --image says otherwise")
    batching = _BATCHING
    if any(side is None for one in inputs for side in one.shape[1:]):
        # Items of different shapes do not fit into one batch.
        batching = msgspec.structs.replace(batching, rows=1)
    return Proposal(
        path=graph.path,
        name=graph.path.stem,
        architecture="ONNX",
        files=graph.files(),
        labels=labels,
        inputs=inputs,
        preprocessing={"kind": "tensors"},
        head=head,
        batching=batching,
        notes=[*notes, *guessed],
        warnings=graph.warnings(),
        record={"origin": "ONNX", "opset": graph.opset},
    )


def _input(graph: Graph, port: Port) -> Input:
    if not port.shape:
        raise DataError(f"{graph.path}: its input {port} does not say that it has rows")
    return Input(name=port.name, dtype=port.dtype, shape=list(port.shape))
