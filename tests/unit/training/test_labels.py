from __future__ import annotations

import pytest

from lmaas.broker_config.errors import DataError
from lmaas.training import labels


def test_look_alikes_differ_in_case_blanks_or_forms_of_characters() -> None:
    counts = {"sign up": 1, "Sign  Up": 2, "signup": 5, "caf\u00e9": 1, "cafe\u0301": 1, "cafe": 9}
    assert labels.look_alikes(counts) == [
        ["signup", "Sign  Up", "sign up"],
        ["cafe\u0301", "caf\u00e9"],
    ]
    assert labels.spellings(counts) == {
        "Sign  Up": "signup",
        "sign up": "signup",
        "caf\u00e9": "cafe\u0301",
    }


def test_the_note_has_the_first_groups_only() -> None:
    counts = {f"{case}{i}": 10 for i in range(9) for case in "aA"}
    (note,) = labels.notes(counts)
    assert "'A0' (10), 'a0' (10); 'A1' (10), 'a1' (10); " in note
    assert "and 4 more" in note


def test_labels_that_can_be_used_need_no_note() -> None:
    counts = {f"label {i}": 10 for i in range(labels.MANY)}
    labels.check(counts, "x")
    assert labels.notes(counts) == []
    (note,) = labels.notes(counts | {"one more": 10})
    assert note.startswith("1,001 different labels")


def test_labels_with_few_examples_are_told() -> None:
    (note,) = labels.notes({"a": 10, "b": 9, "c": 3, "d": 20})
    assert note == "2 labels have fewer than 10 examples, few to learn from: 'b' (9), 'c' (3)"


def test_a_label_that_rules_is_told() -> None:
    assert labels.notes({"a": 40, "b": 10}) == []
    (note,) = labels.notes({"a": 91, "b": 10})
    assert note.startswith("90% of the rows have the label 'a'")


@pytest.mark.parametrize("counts", [{"a": 5}, {"a": 1, "b": 1}, {str(i): 1 for i in range(99)}])
def test_labels_that_cannot_be_learnt(counts: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"^x\.csv: .*--label-column"):
        labels.check(counts, "x.csv")


def test_half_as_many_labels_as_rows_is_enough() -> None:
    labels.check({"a": 1, "b": 3}, "x")
