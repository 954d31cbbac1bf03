"""Models of Keras and TensorFlow, converted by tf2onnx: a `.keras` or HDF5 file, or a SavedModel.

After that it is an ONNX file like any other, but for its own TextVectorization: ONNX has no strings
to split, so that the preprocessing of that name takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError
from lmaas.training.importing import bare, heads
from lmaas.training.importing.graph import Graph
from lmaas.training.importing.proposal import Options, Proposal
from lmaas.workers import ort
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.ort import onnxruntime
from lmaas.workers.preprocess.text_vectorization import TextVectorization
from lmaas.workers.runtime import Runtime

if TYPE_CHECKING:
    import tensorflow as tf

SAVED_MODEL: Final = "saved_model.pb"
VOCABULARY: Final = "vocabulary.json"
#: By which the converted model may differ: of values above 1, in parts of them.
TOLERANCE: Final = 1e-4
#: Rows that both are given, and the size of dimensions that are free.
_ROWS: Final = 3
_FREE: Final = 7
_SIGNATURES: Final = ("serving_default", "serve")
_TEXTS: Final = (
    "A good film, and well-made: I'd see it again!",
    "no",
    "The worst thing that I have seen in 3 years... Größe, café, it's \t all there?",
    "word " * 40,
)
_BATCHING: Final = Batching(unit="tokens", most=4096, overhead=64)
_EXPORT: Final = "export it with model.export(FOLDER), which writes a SavedModel, and import that"
_LOOP: Final = (
    "it runs a loop over the words of a text (a masked LSTM or GRU), which ONNX Runtime does many "
    "times more slowly than a layer without a mask"
)

Arrays = npt.NDArray[Any]


def recognises(path: Path) -> bool:
    return (path.is_file() and path.suffix in {".keras", ".h5"}) or (path / SAVED_MODEL).is_file()


def proposed(path: Path, options: Options) -> Proposal:
    """Raises DataError."""
    if problem := extras.lacking("tensorflow", "tf2onnx"):
        raise DataError(f"{path}: it is a model of Keras: {problem}")
    source = _of_signature(path) if path.is_dir() else _of_layers(path)
    graph = _graph(path, source)
    if heads.scores_output(graph, options).shape in ([None, 1], [1]) and not options.labels:
        options = msgspec.structs.replace(options, labels=("0", "1"))
    found = _of_texts(graph, source, options) if source.words else bare.of_graph(graph, options)
    slow = [_LOOP] if any(node.op_type == "Loop" for node in graph.model.graph.node) else []
    return msgspec.structs.replace(
        found,
        name=path.resolve().stem,
        architecture="Keras",
        record={"origin": "Keras", "opset": graph.opset},
        warnings=[*found.warnings, *slow],
    )


# ------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """The layer that a model begins with: its settings, what it knows, and the whole model."""

    how: TextVectorization
    vocabulary: Sequence[str]
    whole: Callable[[Sequence[str]], Arrays]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A function of tensors, in the order of the signature, that returns scores."""

    function: Callable[..., Any]
    signature: Sequence[tf.TensorSpec]
    #: How many ids there are, where it takes some.
    ids: int | None = None
    words: _Words | None = None
    #: What has the function's variables, and so lives as long.
    holds: Any = None


def _of_layers(path: Path) -> _Source:
    """Raises DataError."""
    from lmaas.training import quietly

    with quietly():
        import keras
    try:
        with quietly():
            model = keras.models.load_model(path, compile=False)
    except Exception as error:  # what it raises has no class of its own
        told = _line(error)
        raise DataError(
            f"{path}: Keras cannot load it: {told}; of layers of your own, {_EXPORT}"
        ) from error
    if not getattr(model, "inputs", None) or len(model.outputs) != 1:
        raise DataError(f"{path}: a model of one's own class, or with several outputs; {_EXPORT}")
    words = [one for one in model.layers if isinstance(one, keras.layers.TextVectorization)]
    if not words:
        return _of_tensors(model)
    return _after_words(path, model, words[0])


def _of_tensors(model: Any) -> _Source:
    import keras
    import tensorflow as tf

    plain = keras.Model(model.inputs, model.outputs)
    signature = [tf.TensorSpec(one.shape, one.dtype, _name(one.name)) for one in model.inputs]
    ids = _ids(model)
    dtype = signature[0].dtype
    if ids is not None and len(signature) == 1:
        signature = [tf.TensorSpec(signature[0].shape, tf.int32, "ids")]
        return _Source(
            function=lambda given: plain([tf.cast(given, dtype)], training=False),
            signature=signature,
            ids=ids,
        )
    return _Source(function=lambda *given: plain(list(given), training=False), signature=signature)


def _ids(model: Any) -> int | None:
    """The rows of the embedding that a model's first input goes to."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            of_input = getattr(layer, "input", None) is model.inputs[0] or layer is model.layers[0]
            return int(layer.input_dim) if of_input else None
    return None


def _after_words(path: Path, model: Any, layer: Any) -> _Source:
    """What comes after the layer that numbers the words. Raises DataError."""
    import keras
    import tensorflow as tf

    how = _settings(path, layer)
    if isinstance(model, keras.Sequential) and model.layers[0] is layer:
        ids = keras.Input(layer.output.shape[1:], dtype=layer.output.dtype)
        after = keras.Sequential([ids, *model.layers[1:]])
        rest = keras.Model(after.inputs, after.outputs)
    elif len(model.inputs) == 1 and layer in model.layers[:2]:
        rest = keras.Model([layer.output], model.outputs)
    else:
        raise DataError(
            f"{path}: its TextVectorization does not come first; make a model that begins with it, "
            "or one that takes the numbers of words"
        )

    def whole(texts: Sequence[str]) -> Arrays:
        shape = [len(texts), *model.inputs[0].shape[1:]]
        return np.asarray(model(tf.constant(np.array(texts, object).reshape(shape))))

    return _Source(
        function=lambda ids: rest([ids], training=False),
        signature=[tf.TensorSpec([None, how.length], tf.int64, "ids")],
        ids=layer.vocabulary_size(),
        words=_Words(
            how=how, vocabulary=[str(word) for word in layer.get_vocabulary()], whole=whole
        ),
    )


def _settings(path: Path, layer: Any) -> TextVectorization:
    """Raises DataError for what the preprocessing does not have."""
    told = layer.get_config()
    modes = {None, "lower", "strip_punctuation", "lower_and_strip_punctuation"}
    ngrams = told["ngrams"]
    for name, known in (
        ("standardize", modes),
        ("split", {None, "whitespace", "character"}),
        ("output_mode", {"int"}),
    ):
        if not isinstance(told[name], str | None) or told[name] not in known:
            raise DataError(
                f"{path}: its TextVectorization has {name}={told[name]!r}, which cannot be done "
                f"without TensorFlow (known are {', '.join(sorted(map(str, known)))}); import a "
                "model that takes what comes after it"
            )
    widths = tuple(range(1, ngrams + 1)) if isinstance(ngrams, int) else tuple(ngrams or (1,))
    standardize = told["standardize"] or ""
    return TextVectorization(
        file=VOCABULARY,
        lower="lower" in standardize,
        strip_punctuation="strip_punctuation" in standardize,
        split=told["split"],
        ngrams=widths,
        length=told["output_sequence_length"],
    )


def _of_signature(path: Path) -> _Source:
    """Of a SavedModel. Raises DataError."""
    from lmaas.training import quietly

    with quietly():
        import tensorflow as tf
    try:
        with quietly():
            loaded = tf.saved_model.load(str(path))
    except Exception as error:  # as above
        raise DataError(f"{path}: TensorFlow cannot load it: {_line(error)}") from error
    known = dict(loaded.signatures)
    name = next((one for one in (*_SIGNATURES, *known) if one in known), None)
    if name is None:
        raise DataError(f"{path}: a SavedModel without a signature; {_EXPORT}")
    function = known[name]
    taken = function.structured_input_signature[1]
    outputs = function.structured_outputs
    if len(outputs) != 1:
        listed = ", ".join(map(repr, outputs))
        raise DataError(f"{path}: its signature {name!r} gives {listed}, and one is expected")
    if any(spec.dtype == tf.string for spec in taken.values()):
        raise DataError(
            f"{path}: it takes strings, which ONNX cannot split into words; import the .keras file "
            "(model.save), of which the layer TextVectorization is known"
        )
    signature = [tf.TensorSpec(one.shape, one.dtype, _name(key)) for key, one in taken.items()]

    def run(*given: Any) -> Any:
        (output,) = function(**dict(zip(taken, given, strict=True))).values()
        return output

    return _Source(function=run, signature=signature, holds=loaded)


def _name(name: str) -> str:
    """An input's, without what TensorFlow adds to it."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name.partition(":")[0])


# ------------------------------------------------------------------- conversion


def _graph(path: Path, source: _Source) -> Graph:
    """Compared with the model that it was made of. Raises DataError."""
    from lmaas.training.networks.graph import converted

    try:
        made = converted(lambda *given: {"scores": source.function(*given)}, source.signature)
    except Exception as error:  # tf2onnx raises what it likes
        raise DataError(
            f"{path}: tf2onnx cannot convert it: {_line(error)}; it has an operator that ONNX does "
            "not have"
        ) from error
    graph = Graph(path, made.SerializeToString())
    arrays = _made_up(source)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = ort.session(graph.content, {}, options, ["CPUExecutionProvider"])
    names = [one.name for one in graph.inputs]
    (found,) = session.run(None, dict(zip(names, arrays, strict=True)))
    _check(path, found, np.asarray(source.function(*arrays)), "made-up inputs")
    return graph


def _made_up(source: _Source) -> list[Arrays]:
    chance = np.random.default_rng(17)
    arrays = []
    for spec in source.signature:
        shape = [_ROWS, *(side or _FREE for side in spec.shape[1:])]
        dtype = spec.dtype.as_numpy_dtype
        if np.issubdtype(dtype, np.integer):
            arrays.append(chance.integers(0, source.ids or 2, shape).astype(dtype))
        else:
            arrays.append(chance.normal(size=shape).astype(dtype))
    return arrays


def _check(path: Path, found: Arrays, expected: Arrays, what: str) -> None:
    """Raises DataError when they differ."""
    off = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    if not float(off.max()) <= TOLERANCE:
        raise DataError(
            f"{path}: the converted model differs from Keras by {off.max():.2g} on {what}; it has "
            "a layer that tf2onnx does not convert rightly"
        )


def _line(error: Exception) -> str:
    """What was raised: of the many lines of a function that TensorFlow has traced, the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1 if lines[0] == 'in user code:' else 0]}"[:500]


# ------------------------------------------------------------------- texts


def _of_texts(graph: Graph, source: _Source, options: Options) -> Proposal:
    """Of a model that begins with a TextVectorization."""
    words = source.words
    assert words is not None
    output = heads.scores_output(graph, options)
    labels, notes = heads.labels(graph, output, options)
    head, guessed = heads.head(graph, output, labels, options)
    (taken,) = graph.inputs

    def equals_keras(runtime: Runtime) -> list[str]:
        """Texts through all of it, each alone, as a text's score depends on no other then."""
        from lmaas.broker_config.messages import Item

        for text in _TEXTS:
            given = runtime.scores([Item(id="", text=text)])
            raw = words.whole([text])
            _check(graph.path, given, runtime.head.scores([raw], 1), repr(text[:40]))
        return []

    return Proposal(
        path=graph.path,
        name=graph.path.stem,
        architecture="Keras",
        files={**graph.files(), VOCABULARY: msgspec.json.encode(words.vocabulary)},
        labels=labels,
        inputs=[Input(name=taken.name, dtype=taken.dtype, shape=[None, words.how.length])],
        preprocessing=msgspec.to_builtins(words.how),
        head=head,
        batching=_BATCHING,
        notes=[*notes, *guessed, "texts are split as its own TextVectorization does it"],
        warnings=graph.warnings(),
        checks=(equals_keras,),
    )
