"""What is told of texts that a data set has twice."""

from __future__ import annotations

from lmaas.training import duplicates


def test_texts_of_the_test_that_were_learnt_are_counted() -> None:
    assert duplicates.shared(["one", "two"], ["three"]) is None
    told = duplicates.shared(["One ", "two"], ["one", "three", "ONE"])
    assert told is not None
    assert told.startswith("2 of the 3 texts of the test are in the training too")


def test_texts_with_two_labels_are_shown() -> None:
    assert duplicates.contradicting(["a", "a", "b"], ["x", "x", "y"]) is None
    told = duplicates.contradicting(["a\nb", "A\nb ", "b"], ["x", "z", "y"])
    assert told is not None
    assert told.startswith("1 text has more than one label")
    assert told.endswith("'A b' ('x', 'z')")
    many = duplicates.contradicting([f"{i % 5}" for i in range(10)], list("abcdefghij"))
    assert many is not None
    assert many.startswith("5 texts have")
    assert many.endswith(", ...")
