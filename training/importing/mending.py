"""Where skl2onnx writes another function than the one that scikit-learn computes: put right.

Each of these is known by what stands in the graph, so that a graph of a version that writes it
rightly is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import onnx
from onnx import helper, numpy_helper

#: What StringNormalizer asks the system for when nothing is said, which small systems lack, and
#: what all have. Both lower letters of all alphabets.
_LOCALE: Final = b"en_US.UTF-8"
_EVERYWHERE: Final = "C.UTF-8"
#: What skl2onnx writes for scikit-learn's own pattern, and what that means: a word is two letters,
#: digits or underscores at least, of any alphabet.
_WORDS: Final = b"[a-zA-Z0-9_]+"
_AS_SCIKIT_LEARN: Final = r"[\pL\pN_][\pL\pN_]+"
_PASSING: Final = frozenset({"Cast", "Flatten", "Identity", "Reshape"})


#: The nodes that take what is called so.
_Uses = Mapping[str, list[Any]]


def mended(model: onnx.ModelProto) -> list[str]:
    """Of the graph, which is changed in place: what was changed, a line each."""
    graph = model.graph
    uses: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    for node in _all(graph):
        if node.op_type == "StringNormalizer" and _value(node, "locale", _LOCALE) == _LOCALE:
            _set(node, "locale", _EVERYWHERE)
    notes = []
    if sum(_keeps_texts(node, uses) for node in graph.node):
        notes.append("its list of stop words dropped whole texts, and is left out")
    if sum(_has_long_words(node, uses) for node in graph.node):
        notes.append(
            "words are two characters at least, of any alphabet, as scikit-learn has them; "
            f"skl2onnx wrote {_WORDS.decode()}"
        )
    if _dampens(graph, uses):
        notes.append(
            "sublinear_tf is 1 + log(count), as scikit-learn has it; skl2onnx wrote log(1 + count)"
        )
    return notes


def _keeps_texts(node: Any, uses: _Uses) -> bool:
    """Whether it left out texts that are stop words, with their rows; it no longer does."""
    drops = node.op_type == "StringNormalizer" and _value(node, "stopwords", [])
    if not drops or not _after(node, uses, "Tokenizer"):
        return False
    _unset(node, "stopwords")
    return True


def _has_long_words(node: Any, uses: _Uses) -> bool:
    """Whether it made words of one character that no vocabulary after it has; it no longer does."""
    if node.op_type != "Tokenizer" or _value(node, "tokenexp", b"") != _WORDS:
        return False
    pools = [_value(one, "pool_strings", []) for one in _after(node, uses, "TfIdfVectorizer")]
    if not pools or any(len(word.decode()) == 1 for pool in pools for word in pool):
        return False
    _set(node, "tokenexp", _AS_SCIKIT_LEARN)
    return True


def _dampens(graph: Any, uses: _Uses) -> bool:
    """Whether log(1 + count) was in there; log(max(count, 1)) + min(count, 1) is in its place.

    That is 0 of 0, and 1 + log(count) of all other counts.
    """
    constants = {one.name: one for one in graph.initializer}
    instead: dict[str, list[Any]] = {}
    for node in graph.node:
        if node.op_type != "TfIdfVectorizer":
            continue
        for add in _after(node, uses, "Add"):
            (made,) = add.output
            ones = [name for name in add.input if _is_one(constants.get(name))]
            logs = uses.get(made, [])
            if len(ones) == 1 and [one.op_type for one in logs] == ["Log"]:
                (counts,) = set(add.input) - set(ones)
                (result,) = logs[0].output
                instead[made] = []
                instead[result] = [
                    helper.make_node("Max", [counts, ones[0]], [f"{made}_most"]),
                    helper.make_node("Log", [f"{made}_most"], [f"{made}_log"]),
                    helper.make_node("Min", [counts, ones[0]], [f"{made}_any"]),
                    helper.make_node("Add", [f"{made}_log", f"{made}_any"], [result]),
                ]
    nodes = [new for old in graph.node for new in instead.get(old.output[0], [old])]
    del graph.node[:]
    graph.node.extend(nodes)
    return bool(instead)


def _is_one(constant: Any) -> bool:
    return constant is not None and bool((numpy_helper.to_array(constant) == 1).all())


# ------------------------------------------------------------------- nodes


def _all(graph: Any) -> Iterator[Any]:
    """Its nodes and those of the graphs inside of them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all(attribute.g)


def _after(node: Any, uses: _Uses, kind: str) -> list[Any]:
    """The nodes of a kind that take what it makes, also through those that pass it on."""
    found = []
    left = list(node.output)
    while left:
        for one in uses.get(left.pop(), []):
            if one.op_type == kind:
                found.append(one)
            elif one.op_type in _PASSING:
                left += one.output
    return found


def _value(node: Any, name: str, otherwise: Any) -> Any:
    for one in node.attribute:
        if one.name == name:
            return helper.get_attribute_value(one)
    return otherwise


def _set(node: Any, name: str, value: Any) -> None:
    _unset(node, name)
    node.attribute.append(helper.make_attribute(name, value))


def _unset(node: Any, name: str) -> None:
    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
