"""Pipelines of scikit-learn as skl2onnx writes them, and what others write with ONNX's operators of
machine learning: texts or features in, a label and its scores out.

What the outputs are is not said in such a graph, so that it is asked with inputs that are made up
of its own vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lmaas.broker_config.errors import DataError
from lmaas.training.importing import heads
from lmaas.training.importing.graph import Graph, Port
from lmaas.training.importing.mending import mended
from lmaas.training.importing.proposal import HEADS, Options, Output, Proposal
from lmaas.workers import ort
from lmaas.workers.manifest import MODEL, Batching, Input
from lmaas.workers.ort import onnxruntime
from lmaas.workers.preprocess.strings import STRING

_DOMAIN: Final = "ai.onnx.ml"
#: Attributes with the labels of a classifier, and with the words that a graph knows.
_CLASSES: Final = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_WORDS: Final = ("pool_strings", "cats_strings", "keys_strings")
_OF_CONSTANTS: Final = frozenset({"ArrayFeatureExtractor", "Gather"})
#: Rows of a trial, and words of a made-up text.
_ROWS: Final = 64
_TEXT: Final = 6
#: By which the sum of probabilities may differ from 1, and equal scores from each other.
_SUM: Final = 1e-3
_TIE: Final = 1e-5
_COLUMNS: Final = (
    "no output has the scores of all labels; export it with options={'zipmap': False}, which gives "
    "them as a matrix"
)
_LEAVES_OUT: Final = (
    "items run one at a time: the graph leaves out rows; export it anew, with a newer skl2onnx"
)
_OTHER_LABELS: Final = (
    "of {} made-up inputs its own label is the one with the highest score in {:.0%}, and LMaaS "
    "answers with the highest score: the labels of SVC are not those of its probabilities, and of "
    "some classifiers without probabilities (one-vs-rest) skl2onnx writes other scores"
)
_TEXTS: Final = Batching(unit="bytes", most=4096, overhead=64)
_FEATURES: Final = Batching(unit="items", most=64)


def recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix != ".onnx" or _DOMAIN.encode() not in path.read_bytes():
        return False
    return any(node.domain == _DOMAIN for node in Graph(path).model.graph.node)


def proposed(path: Path, options: Options) -> Proposal:
    """Raises DataError."""
    graph = Graph(path)
    notes = [f"mended: {note}" for note in mended(graph.model)]
    _without_maps(graph.model)
    graph.changed()
    classes = _classes(graph)
    inputs = [_input(graph, one) for one in graph.inputs]
    if not any(one.shape is None or len(one.shape) == 2 for one in graph.outputs):
        raise DataError(f"{path}: {_COLUMNS}")
    output = heads.scores_output(graph, options)
    trial = _Trial(graph, inputs, output.name)
    labels = list(options.labels) or classes or [str(at) for at in range(trial.columns)]
    if trial.columns != len(labels) and (trial.columns, len(labels)) != (1, 2):
        raise DataError(
            f"{path}: its output {output.name!r} has {trial.columns} scores a row, and there are "
            f"{len(labels)} labels ({', '.join(labels[:5])}); "
            + ("give as many with --labels" if options.labels else "name another with --output")
        )
    if trial.is_reversed(classes or labels):
        labels = labels[::-1]
        notes.append("mended: its two scores are in the reverse order of its labels")
    kind = options.scores or trial.kind
    if options.scores is None:
        notes.append(f"scores: {heads.WORDS[kind]} (by what it gives); --scores says otherwise")
    head: dict[str, Any] = {"kind": "scores", "output": output.name, **HEADS[kind]}
    if trial.columns < len(labels):
        head["second_only"] = True
    of_text = len(inputs) == 1 and inputs[0].dtype == STRING and inputs[0].shape[1:] in ([], [1])
    if not of_text:
        listed = ", ".join(map(str, graph.inputs))
        notes.append(f"items are tensors, without the dimension of the rows: {listed}")
    batching = _TEXTS if of_text else _FEATURES
    return Proposal(
        path=path,
        name=path.stem,
        architecture=graph.model.producer_name or "ONNX",
        files=graph.files(),
        labels=labels,
        inputs=inputs,
        preprocessing={"kind": "strings"} if of_text else _tensors(graph, inputs),
        head=head,
        batching=batching if trial.keeps_rows else Batching(unit="items", most=1, rows=1),
        notes=notes,
        warnings=[*graph.warnings(), *trial.warnings(classes or labels)],
        record={"origin": "scikit-learn", "opset": graph.opset, "mended": len(notes)},
    )


def _input(graph: Graph, port: Port) -> Input:
    if not port.shape:
        raise DataError(f"{graph.path}: its input {port} does not say that it has rows")
    return Input(name=port.name, dtype=port.dtype, shape=[None, *port.shape[1:]])


def _tensors(graph: Graph, inputs: list[Input]) -> dict[str, Any]:
    """The manifest's part `preprocessing`, with words for those inputs that take certain ones."""
    known = {one.name: _known(graph, one.name) for one in inputs if one.dtype == STRING}
    words = {name: words[0] for name, (words, whole) in known.items() if whole}
    return {"kind": "tensors", "words": words} if words else {"kind": "tensors"}


# ------------------------------------------------------------------- labels


def _without_maps(model: onnx.ModelProto) -> None:
    """Scores as a matrix in the place of maps from label to score, which take longer to make."""
    graph = model.graph
    for output in graph.output:
        maps = [n for n in graph.node if n.op_type == "ZipMap" and output.name in n.output]
        for node in maps:
            size = len(_labels_of(node) or ())
            shape = [None, size or None]
            output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))
            node.CopyFrom(helper.make_node("Identity", list(node.input), list(node.output)))


def _classes(graph: Graph) -> list[str]:
    """What its label can be, in the order of its scores; nothing when that is not to be seen."""
    made = {name: node for node in graph.model.graph.node for name in node.output}
    constants = {one.name: one for one in graph.model.graph.initializer}
    left = [one.name for one in graph.outputs if not one.dtype.startswith("float")]
    seen = set(left)
    for name in left:  # which grows
        node = made.get(name)
        if node is None:
            continue
        if found := _labels_of(node):
            return found
        if node.op_type in _OF_CONSTANTS and node.input[0] in constants:
            values = numpy_helper.to_array(constants[node.input[0]]).ravel().tolist()
            return [one.decode() if isinstance(one, bytes) else str(one) for one in values]
        new = [one for one in node.input if one not in seen]
        seen.update(new)
        left += new
    return []


def _labels_of(node: Any) -> list[str]:
    for attribute in node.attribute:
        if attribute.name in _CLASSES:
            values = helper.get_attribute_value(attribute)
            return [one.decode() if isinstance(one, bytes) else str(one) for one in values]
    return []


# ------------------------------------------------------------------- a trial


class _Trial:
    """What a graph gives of inputs that are made up."""

    def __init__(self, graph: Graph, inputs: list[Input], output: str) -> None:
        """Raises DataError when it cannot be run, or gives something else than a row a score."""
        label = next((o.name for o in graph.outputs if not o.dtype.startswith("float")), None)
        names = [output, *([label] if label else [])]
        session = _session(graph)
        arrays = _made_up(graph, inputs)
        try:
            scores, *labels = session.run(names, arrays)
        except Exception as error:
            told = " ".join(str(error).split())
            raise DataError(f"{graph.path}: it fails on inputs that are made up: {told}") from error
        self.keeps_rows = len(scores) == _ROWS
        if not self.keeps_rows:
            singly = [
                session.run(names, {name: values[at : at + 1] for name, values in arrays.items()})
                for at in range(_ROWS)
            ]
            scores, *labels = (np.concatenate(found) for found in zip(*singly, strict=True))
        if scores.ndim == 1:
            scores = scores[:, None]
        if scores.ndim != 2 or len(scores) != _ROWS:
            raise DataError(
                f"{graph.path}: its output {output!r} is {scores.shape} for {_ROWS} rows, and a "
                "row of scores for each is expected; name another with --output"
            )
        self.columns = scores.shape[1]
        self._scores = scores
        self._labels = [str(one) for one in labels[0].ravel().tolist()] if labels else None

    @property
    def kind(self) -> Output:
        """Probabilities that are 1 together; else numbers, as decision functions have."""
        scores = self._scores
        inside = (scores >= 0).all() and (scores <= 1).all()
        sums = np.abs(scores.sum(axis=1) - 1) <= _SUM
        return "probabilities" if inside and sums.all() else "values"

    def is_reversed(self, classes: list[str]) -> bool:
        """Whether its label always is the one of two that has the lower score (binary SVC)."""
        return self.columns == 2 and self._agreement(classes) == 0

    def warnings(self, classes: list[str]) -> list[str]:
        """What is strange about it."""
        if not self.keeps_rows:
            return [_LEAVES_OUT]
        same = self._agreement(classes)
        return [] if same == 1 or self.is_reversed(classes) else [_OTHER_LABELS.format(_ROWS, same)]

    def _agreement(self, classes: list[str]) -> float:
        """How often its label is the one with the highest score; 1 when it gives no such label."""
        if self._labels is None or set(self._labels) - set(classes):
            return 1.0
        scores = self._scores
        if self.columns == 1:
            scores = np.hstack([-scores, scores])
        own = scores[range(_ROWS), [classes.index(label) for label in self._labels]]
        return float(np.mean(own >= scores.max(axis=1) - _TIE))


def _session(graph: Graph) -> onnxruntime.InferenceSession:
    files = graph.files()
    others = {name: content for name, content in files.items() if name != MODEL}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.session(files[MODEL], others, options, ["CPUExecutionProvider"])
    except Exception as error:
        told = " ".join(str(error).split())
        raise DataError(f"{graph.path}: ONNX Runtime cannot load it: {told}") from error


def _made_up(graph: Graph, inputs: list[Input]) -> dict[str, npt.NDArray[Any]]:
    """Rows of numbers of some sizes, and of words that the graph knows; some are empty."""
    chance = np.random.default_rng(17)
    arrays = {}
    for one in inputs:
        shape = [_ROWS, *(side or 1 for side in one.shape[1:])]
        if one.dtype == STRING:
            arrays[one.name] = _strings(graph, one.name, shape, chance)
        else:
            sizes = chance.choice([0.1, 1, 10, 100], [_ROWS, *[1] * (len(shape) - 1)])
            arrays[one.name] = (chance.normal(size=shape) * sizes).astype(one.dtype)
    return arrays


def _strings(
    graph: Graph, name: str, shape: list[int], chance: np.random.Generator
) -> npt.NDArray[Any]:
    words, whole = _known(graph, name)
    count = int(np.prod(shape))
    if whole:
        return np.array([words[at % len(words)] for at in range(count)], object).reshape(shape)
    # Texts without a word, and such as are a word that may be left out, come first.
    texts = ["", "...", "the", "a"]
    while len(texts) < count:
        texts.append(" ".join(chance.choice(words, chance.integers(1, _TEXT + 1))))
    return np.array(texts, object).reshape(shape)


def _known(graph: Graph, name: str) -> tuple[list[str], bool]:
    """The words that what comes after an input knows, and whether an input is one of them."""
    nodes = graph.model.graph.node
    reached = {name}
    for node in nodes:  # in the order in which they run
        if not reached & set(node.input):
            continue
        for attribute in node.attribute:
            if attribute.name in _WORDS and attribute.strings:
                words = sorted({one.decode() for one in attribute.strings})
                return words, attribute.name != _WORDS[0]
        reached |= set(node.output)
    return ["word"], False
