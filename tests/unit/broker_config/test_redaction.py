"""The user's function says what may be shown; what is wrong with it is told at the start."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lmaas.broker_config.definitions import policies
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.messages import Item, ItemError, Request, Tensor
from lmaas.broker_config.redaction import WITHHELD, Redaction
from lmaas.broker_config.settings import Settings
from lmaas.cli.gateway import command as gateway
from lmaas.cli.worker import command as worker


def hide(text: str) -> str:
    return text.replace("Ann", "***")


def fails(text: str) -> str:
    return text[0]


def fails_later(text: str) -> str:
    return "" if not text else text[9_999]


def is_none(text: str) -> None:
    pass


def unspeakable(text: str) -> str:
    return text and "\ud800"


def of(name: str) -> Redaction:
    return Redaction(Settings(redact=f"{__name__}:{name}"))


def test_without_a_function_everything_stays() -> None:
    redaction, error = Redaction(Settings()), ItemError(code="x", message="Ann")
    assert (redaction.is_used, redaction.text("Ann"), redaction.error(error)) == (
        False, "Ann", error,
    )  # fmt: skip


def test_ids_texts_and_errors_go_through_it_and_bytes_go() -> None:
    redaction, error = of("hide"), ItemError(code="x", message="of Ann")
    hidden = ItemError(code="x", message="of ***")
    assert redaction.is_used
    assert redaction.error(error) == hidden
    tensors = {"a": Tensor(shape=[1], datatype="BOOL", data=b"\1")}
    request = Request(
        model="Ann",
        version="2",
        items=[
            Item(id="Ann-1", text="Ann", text_pair="of Ann"),
            Item(id="1", data=b"Ann", media_type="image/png"),
            Item(id="2", tensors=tensors),
            Item(id="3", text="Ann", error=error),
            Item(id="4", text="Ann"),
        ],
    )
    assert redaction.request(request, {4: error}) == Request(
        model="Ann",
        version="2",
        items=[
            Item(id="***-1", text="***", text_pair="of ***"),
            Item(id="1", media_type="image/png"),
            Item(id="2"),
            Item(id="3", text="***", error=hidden),
            Item(id="4", error=hidden),
        ],
    )


@pytest.mark.parametrize("name", ["fails_later", "unspeakable"])
def test_what_it_fails_over_is_withheld(name: str) -> None:
    assert of(name).text("Ann") == WITHHELD


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("hide", "must look like package.module:function"),
        (":hide", "must look like package.module:function"),
        ("nosuch.module:hide", "cannot be imported"),
        (f"{__name__}:nothing", "does not have"),
        (f"{__name__}:fails", "fails over an empty text: IndexError"),
        (f"{__name__}:is_none", "returns NoneType"),
        (f"{__name__}:WITHHELD", "fails over an empty text: TypeError"),
    ],
)
def test_a_wrong_function_ends_the_start(name: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Redaction(Settings(redact=name))
    for command in (worker, gateway):
        started = CliRunner().invoke(command, [], env={"LMAAS_REDACT": name})
        assert isinstance(started.exception, SettingsError)
        assert complaint in str(started.exception)


def test_how_long_dead_letters_are_kept_is_a_policy_for_the_broker() -> None:
    assert policies(Settings()) == {}
    [policy] = policies(Settings(prefix="a-b", keep_dead_letters=2.5), "v")["policies"]
    assert policy == {
        "vhost": "v",
        "name": "a-b.v1.dead",
        "pattern": r"^a\-b\.v1\.dead$",
        "apply-to": "queues",
        "definition": {"message-ttl": 2500},
        "priority": 0,
    }
    with pytest.raises(SettingsError, match="keep_dead_letters"):
        Settings.load(keep_dead_letters=50 * 86_400)
