"""What each code means: one table, complete, and of one mind."""

from __future__ import annotations

import pytest

from lmaas.broker_config.codes import MEANINGS, Code, meaning
from lmaas.broker_config.errors import LmaasError, MessageError, ModelNotFound
from lmaas.broker_config.messages import ItemError
from lmaas.producer.client import refusal


def test_every_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Code)


@pytest.mark.parametrize("code", list(Code))
def test_whose_fault_it_is_is_the_same_for_http_and_for_dead_letters(code: Code) -> None:
    found = meaning(code)
    assert found is MEANINGS[code]
    assert 400 <= found.status < 600
    # Who sent what cannot be classified is told so, and nobody else has to look at it.
    assert not (found.dead_lettered and found.status < 500)
    assert found.dead_lettered or not found.transient


def test_a_code_that_is_newer_than_we_are_fails_for_good() -> None:
    found = meaning("of_next_year")
    assert (found.status, found.transient, found.dead_lettered) == (500, False, False)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (Code.UNKNOWN_MODEL, ModelNotFound, "the model is not there"),
        (Code.MALFORMED, MessageError, "the worker refused the pack: the model is not there"),
        ("of_next_year", LmaasError, "the worker refused the pack: the model is not there"),
    ],
)
def test_a_pack_that_was_refused_raises_what_its_code_means(
    code: str, kind: type[LmaasError], words: str
) -> None:
    error = refusal(ItemError(code=code, message="the model is not there"))
    assert type(error) is kind
    assert str(error) == words
