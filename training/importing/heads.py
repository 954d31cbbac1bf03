"""What the outputs of a graph mean: which one has the scores, and what makes them probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lmaas.broker_config.errors import DataError
from lmaas.training.importing.graph import Graph, Port
from lmaas.training.importing.proposal import HEADS, Options, Output

#: Names of outputs with scores, the likeliest first.
_NAMES: Final = ("logits", "scores", "probabilities", "output")
_PROBABILITIES: Final[dict[str, Output]] = {"Softmax": "probabilities", "Sigmoid": "independent"}


def scores_output(graph: Graph, options: Options) -> Port:
    """The output with the scores, [rows, labels]. Raises DataError."""
    known = {one.name: one for one in graph.outputs}
    listed = ", ".join(map(str, graph.outputs))
    if options.output is not None:
        if options.output not in known:
            raise DataError(f"{graph.path}: no output {options.output!r} (there are: {listed})")
        return known[options.output]
    fitting = [
        one
        for one in graph.outputs
        if one.dtype.startswith("float") and (one.shape is None or len(one.shape) == 2)
    ]
    named = [known[name] for name in _NAMES if name in known and known[name] in fitting]
    if len(fitting) == 1 or named:
        return (named or fitting)[0]
    if fitting:
        raise DataError(
            f"{graph.path}: which output has the scores? Name it with --output (there are: "
            f"{listed})"
        )
    advice = ""
    if any(one.shape is not None and len(one.shape) == 3 for one in graph.outputs):
        advice = (
            "; a row a token is what an encoder without a classifier gives: "
            "`lmaas train NAME --data FILE --encoder FOLDER` makes a classifier of one"
        )
    raise DataError(
        f"{graph.path}: no output has scores, float [rows, labels] (there are: {listed}){advice}"
    )


def head(
    graph: Graph,
    output: Port,
    labels: Sequence[str],
    options: Options,
    otherwise: Output = "softmax",
    why: str = "",
) -> tuple[dict[str, Any], list[str]]:
    """The manifest's part of that name, and what was guessed.

    `otherwise` is what an output is that does not end with an activation, and `why`.
    """
    ends = graph.ends_in(output.name)
    second_only = _size(output) == 1 and len(labels) == 2
    if second_only:
        otherwise, why = "sigmoid", "one score says how much the second of two labels is right"
    kind = options.scores or _PROBABILITIES.get(ends, otherwise)
    found = {"kind": "scores", **HEADS[kind]}
    if second_only:
        found |= {"second_only": True, "meaning": "values" if kind == "values" else "exclusive"}
    if len(graph.outputs) > 1:
        found["output"] = output.name
    if options.scores:
        return found, []
    because = f"the graph ends with {ends}" if ends in _PROBABILITIES else why
    return found, [f"scores: {WORDS[kind]}{because and f' ({because})'}; --scores says otherwise"]


def _size(output: Port) -> int | None:
    """How many scores a row has, where the graph says it."""
    return output.shape[-1] if output.shape else None


WORDS: Final[dict[Output, str]] = {
    "softmax": "logits, of which softmax makes probabilities",
    "sigmoid": "logits, of which sigmoid makes a probability a label",
    "probabilities": "probabilities, together 1",
    "independent": "a probability a label",
    "values": "values that are no probabilities",
}


def labels(
    graph: Graph, output: Port, options: Options, known: Sequence[str] = (), where: str = ""
) -> tuple[list[str], list[str]]:
    """Those of the options, or the known ones, or numbers; and what was guessed.

    Raises DataError when their number is not that of the output.
    """
    size = _size(output)
    given = list(options.labels or known)
    source = "--labels" if options.labels else where
    if not given and size is None:
        raise DataError(
            f"{graph.path}: its output {output} does not say how many labels there are; name them "
            "with --labels FILE or --labels a,b,c"
        )
    found = given or [str(number) for number in range(size or 0)]
    notes = []
    if not given:
        notes = [f"labels: the numbers 0 to {len(found) - 1}; --labels names them"]
    if not all(label.strip() for label in found):
        raise DataError(f"{source}: a label is empty; give others with --labels")
    if len(set(found)) < len(found):
        twice = next(label for label in found if found.count(label) > 1)
        raise DataError(f"{source}: the label {twice!r} is there twice; --labels gives others")
    if size is not None and size != len(found) and (size, len(found)) != (1, 2):
        raise DataError(
            f"{graph.path}: its output {output} has {size} scores, and {source} has {len(found)} "
            f"labels ({', '.join(found[:5])}{', …' * (len(found) > 5)}); give {size} with --labels"
        )
    return found, notes
