"""`lmaas dead` as a user runs it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON, MSGPACK, Item, Request, Tensor, encode
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import topology
from lmaas.cli.exits import Exit

IDS = [f"{number:032x}" for number in range(6)]
NASTY = "\x1b[31mred\x07 [bold]marked[/bold]"


def lmaas(settings: Settings, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        stdin=options.get("stdin", subprocess.DEVNULL),
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lmaas", "dead", *arguments]


def environment(settings: Settings) -> dict[str, str]:
    return os.environ | {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix}


def dead_lettered(number: int, error: Code, **properties: Any) -> aio_pika.Message:
    request = Request(
        model="sentiment", items=[Item(id="a", text="long " * 100), Item(id="b", text=NASTY)]
    )
    headers = Headers(
        attempt=5,
        error=error,
        reason=NASTY,
        worker="w1",
        parked_ms=1_700_000_000_000 + number * 1000,
    )
    given = {"content_type": MSGPACK, "headers": headers.table(), "message_id": IDS[number]}
    return aio_pika.Message(encode(request), **given | properties)


@pytest.fixture
def dead_letter_queue(settings: Settings) -> Settings:
    """Five of a worker's, the last of a model that nobody serves; one of nobody knows whom."""
    messages = [
        *((dead_lettered(number, Code.POISON), "sentiment.short") for number in range(3)),
        (dead_lettered(3, Code.TIME_LIMIT), "sentiment.huge"),
        (dead_lettered(4, Code.TIME_LIMIT), "nobody.huge"),
        (aio_pika.Message(b"\x00\x1b[2J", content_type=JSON, message_id="mine"), "elsewhere"),
    ]

    async def fill() -> None:
        async with (
            await aio_pika.connect(settings.broker_url) as connection,
            connection.channel() as channel,
        ):
            await declare(channel, topology(settings.names, models=["sentiment"]))
            dead = await channel.get_exchange(settings.names.dead)
            for message, key in messages:
                await dead.publish(message, key)

    asyncio.run(fill())
    return settings


def ids(settings: Settings, *filters: str) -> list[str]:
    listed = json.loads(lmaas(settings, "list", "--json", *filters).stdout)
    return [one["id"] for one in listed["parked"]]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_list_shows_the_newest_first_and_counts_everything(dead_letter_queue: Settings) -> None:
    listed = json.loads(lmaas(dead_letter_queue, "list", "--json").stdout)
    assert [one["message_id"] for one in listed["parked"]] == [*reversed(IDS[:5]), "mine"]
    assert listed["counts"] == [
        {"error": "poison", "model": "sentiment", "messages": 3, "items": 6},
        {"error": "time_limit", "model": "sentiment", "messages": 1, "items": 2},
        {"error": "time_limit", "model": "nobody", "messages": 1, "items": 2},
        {"error": "?", "model": "?", "messages": 1, "items": 0},
    ]
    limited = lmaas(dead_letter_queue, "list", "--limit", "2")
    assert (limited.returncode, limited.stderr) == (Exit.OK, "")
    assert [one in limited.stdout for one in IDS[:5]] == [False, False, False, True, True]
    assert "6 dead letters, the newest 2 above" in limited.stdout
    assert "poison" in limited.stdout
    assert "\x1b" not in limited.stdout


def test_list_takes_filters(dead_letter_queue: Settings) -> None:
    assert ids(dead_letter_queue, "--error", "poison") == IDS[2::-1]
    assert ids(dead_letter_queue, "--model", "nobody") == [IDS[4]]
    assert ids(dead_letter_queue, "--after", "2023-11-14", "--before", "2023-11-16") == IDS[4::-1]
    nothing = lmaas(dead_letter_queue, "list", "--job", "night")
    assert (nothing.returncode, nothing.stdout) == (
        Exit.OK,
        "no dead letter matches\n",
    )


def test_show_has_everything_and_no_control_characters(dead_letter_queue: Settings) -> None:
    shown = lmaas(dead_letter_queue, "show", IDS[3])
    assert shown.returncode == Exit.OK
    for word in (IDS[3], "time_limit", "sentiment.huge", "w1", "[bold]marked[/bold]", "long long"):
        assert word in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "long " * 30 not in shown.stdout
    whole = json.loads(lmaas(dead_letter_queue, "show", IDS[3], "--json").stdout)
    assert whole["body"]["items"] == [
        {"id": "a", "text": "long " * 100},
        {"id": "b", "text": NASTY},
    ]


def test_show_has_every_kind_of_item(settings: Settings) -> None:
    tensors = {
        "ids": Tensor(shape=[1, 2], datatype="INT16", data=b"1234"),
        "\x1b[2J": Tensor(shape=[], datatype="INT8", data=b"1"),
    }
    items = [
        Item(id="two", text="first text", text_pair="second text"),
        Item(id="picture", data=b"x" * 1_234, media_type="image/png"),
        Item(id="bytes", data=b"x"),
        Item(id="values", tensors=tensors),
        Item(id="short", tensors={"ids": Tensor(shape=[3], datatype="INT8", data=b"")}),
    ]
    dead_letter(settings, encode(Request(model="m", items=items)), MSGPACK)
    shown = lmaas(settings, "show", "odd")
    assert shown.returncode == Exit.OK, shown.stderr
    lines = [[cell.strip() for cell in line.split("│")[1:3]] for line in shown.stdout.splitlines()]
    contents = [line for line in lines if len(line) == 2]
    assert contents[:6] == [
        ["two", "first text"],
        ["", "second text"],
        ["picture", "image/png, 1,234 bytes"],
        ["bytes", "data, 1 bytes"],
        ["values", "ids: INT16[1, 2], 4 bytes"],
        ["", "\N{REPLACEMENT CHARACTER}[2J: INT8[], 1 bytes"],
    ]
    assert contents[6][0] == "short"
    assert contents[6][1].startswith("invalid_item: tensor 'ids': its data has 0 bytes")


def dead_letter(settings: Settings, body: bytes, content_type: str) -> None:
    """One message with the id "odd"."""

    async def fill() -> None:
        async with (
            await aio_pika.connect(settings.broker_url) as connection,
            connection.channel() as channel,
        ):
            await declare(channel, topology(settings.names))
            dead = await channel.get_exchange(settings.names.dead)
            message = aio_pika.Message(body, content_type=content_type, message_id="odd")
            await dead.publish(message, "elsewhere")

    asyncio.run(fill())


def test_show_takes_what_is_no_request(dead_letter_queue: Settings) -> None:
    shown = lmaas(dead_letter_queue, "show", "mine")
    assert (shown.returncode, "not a request" in shown.stdout) == (Exit.OK, True)
    assert "\x1b" not in shown.stdout
    whole = json.loads(lmaas(dead_letter_queue, "show", "mine", "--json").stdout)
    assert base64.b64decode(whole["body_base64"]) == b"\x00\x1b[2J"


#: Runs the command with room for what it imports and some pages, and not for many items.
BOUNDED = """
import resource, sys
from lmaas import cli
from lmaas.cli import dead
before = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (before + (600 << 20), -1))
cli.main()
"""


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_dead_letter_of_a_million_items_takes_no_gigabytes(
    settings: Settings, flags: tuple[str, ...]
) -> None:
    body = b'{"model": "m", "items": [%b]}' % b",".join([b'{"id":""}'] * 3_000_000)
    dead_letter(settings, body, JSON)
    shown = subprocess.run(
        [sys.executable, "-c", BOUNDED, "dead", "show", "odd", *flags],
        env=environment(settings), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert shown.returncode == Exit.OK, shown.stderr
    if flags:
        assert base64.b64decode(json.loads(shown.stdout)["body_base64"]) == body
    else:
        assert "the limit is" in shown.stdout
        assert len(shown.stdout) < 3000


def test_an_id_that_is_not_dead_lettered_is_one_line(dead_letter_queue: Settings) -> None:
    shown = lmaas(dead_letter_queue, "show", "nope")
    assert shown.returncode == Exit.FAILED
    (line,) = shown.stderr.splitlines()
    assert "no dead letter 'nope'" in line
    replayed = lmaas(dead_letter_queue, "replay", "nope")
    assert replayed.returncode == Exit.FAILED
    assert "'nope' is no dead letter" in replayed.stderr


def test_replay_sends_what_it_can_and_says_what_stays(dead_letter_queue: Settings) -> None:
    assert lmaas(dead_letter_queue, "replay", IDS[0], IDS[1]).returncode == Exit.OK
    assert set(ids(dead_letter_queue)) & set(IDS) == set(IDS[2:5])
    rest = lmaas(dead_letter_queue, "replay", "--all")
    assert rest.returncode == Exit.SOME_FAILED
    assert rest.stderr.splitlines() == [
        "2 messages replayed",
        "1 stay dead letters: no queue takes 'elsewhere'; start a worker of that model first",
        "1 stay dead letters: no queue takes 'nobody.huge'; start a worker of that model first",
    ]
    assert lmaas(dead_letter_queue, "replay", "--all").returncode == Exit.FAILED
    assert len(ids(dead_letter_queue)) == 2


@pytest.mark.parametrize("arguments", [[], ["--all", "--error", "poison"], ["--all", IDS[0]]])
@pytest.mark.parametrize("verb", [["replay"], ["purge", "--yes"]])
def test_it_must_be_said_which(
    settings: Settings, verb: Sequence[str], arguments: list[str]
) -> None:
    refused = lmaas(settings, *verb, *arguments)
    assert refused.returncode == Exit.USAGE
    assert "or else --all" in refused.stderr


def test_purge_needs_a_yes_in_a_pipe(dead_letter_queue: Settings) -> None:
    refused = lmaas(dead_letter_queue, "purge", "--all")
    assert (refused.returncode, "--yes" in refused.stderr) == (Exit.USAGE, True)
    assert len(ids(dead_letter_queue)) == 6
    dropped = lmaas(dead_letter_queue, "purge", "--error", "poison", "--yes")
    assert (dropped.returncode, dropped.stderr) == (Exit.OK, "3 messages dropped\n")
    assert len(ids(dead_letter_queue)) == 3
    assert lmaas(dead_letter_queue, "purge", "--all", "--yes").returncode == Exit.OK
    assert ids(dead_letter_queue) == []


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", 6), (b"y\n", 3)])
def test_purge_asks_on_a_terminal(dead_letter_queue: Settings, answer: bytes, left: int) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        asked = lmaas(dead_letter_queue, "purge", "--error", "poison", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "drop 3 dead letters for good?" in asked.stderr
    assert asked.returncode == (Exit.OK if left == 3 else Exit.INTERRUPTED)
    assert len(ids(dead_letter_queue)) == left


def test_export_keeps_everything(dead_letter_queue: Settings, tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    written = lmaas(dead_letter_queue, "export", "-o", str(path), "--model", "sentiment")
    assert (written.returncode, written.stderr) == (Exit.OK, f"{path}: 4 messages\n")
    exported = lines(path.read_text())
    assert [one["id"] for one in exported] == IDS[:4]
    assert exported[0]["headers"]["lmaas-error"] == "poison"
    piped = lmaas(dead_letter_queue, "export", "-o", "-")
    assert [one["message_id"] for one in lines(piped.stdout)] == [*IDS[:5], "mine"]
    assert list(tmp_path.glob("*.partial*")) == []
    assert len(ids(dead_letter_queue)) == 6


def test_an_export_that_cannot_be_written_is_one_line(
    dead_letter_queue: Settings, tmp_path: Path
) -> None:
    refused = lmaas(dead_letter_queue, "export", "-o", str(tmp_path / "no" / "dead.jsonl"))
    assert refused.returncode == Exit.FAILED
    assert len(refused.stderr.splitlines()) == 1


def test_a_broker_that_is_away_is_one_line(settings: Settings) -> None:
    began = time.monotonic()
    refused = subprocess.run(
        command("list"),
        env=os.environ | {"LMAAS_BROKER_URL": "amqp://127.0.0.1:1/", "LMAAS_CONNECT_TIMEOUT": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert refused.returncode == Exit.FAILED
    assert refused.stderr.splitlines()[-1].startswith("error: no broker at")
    assert time.monotonic() - began < 120
