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
    counts = {f"{case}{i}": 3 for i in range(9) for case in "aA"}
    (note,) = labels.notes(counts)
    assert "'A0' (3), 'a0' (3); 'A1' (3), 'a1' (3); " in note
    assert "and 4 more" in note


def test_labels_that_can_be_used_need_no_note() -> None:
    counts = {f"label {i}": 3 for i in range(labels.MANY)}
    labels.check(counts, "x")
    assert labels.notes(counts) == []
    (note,) = labels.notes(counts | {"one more": 3})
    assert note.startswith("1,001 different labels")


@pytest.mark.parametrize("counts", [{"a": 5}, {"a": 1, "b": 1}, {str(i): 1 for i in range(99)}])
def test_labels_that_cannot_be_learnt(counts: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"^x\.csv: .*--label-column"):
        labels.check(counts, "x.csv")


def test_half_as_many_labels_as_rows_is_enough() -> None:
    labels.check({"a": 1, "b": 3}, "x")
