"""Sealed bodies: what opens, what does not, and that the format is what docs/security.md says."""

from __future__ import annotations

import base64
import copy
import json
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config import sealing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SealError
from lmaas.broker_config.sealing import Keyring, Label, PayloadKey, line_of_new_key, parsed
from lmaas.broker_config.topology import user_word

EXAMPLE = Path(__file__).parents[3] / "examples" / "sealed.mjs"
SECURITY = Path(__file__).parents[3] / "docs" / "security.md"
LABEL = Label("request", "sentiment", "lmaas.v1.results.client.c", "id-1", "application/json")
FIRST, SECOND = PayloadKey("first", bytes(range(32))), PayloadKey("second", bytes(32))


def refused(ring: Keyring, body: bytes, key: str | None = "first", label: Label = LABEL) -> str:
    with pytest.raises(SealError) as caught:
        ring.open(body, key, label)
    return caught.value.code


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_what_was_sealed_opens_where_it_belongs(body: bytes, model: str, name: str) -> None:
    label = Label("reply", model, "q", name, "application/msgpack")
    sealed = Keyring([FIRST]).seal(body, label)
    assert len(sealed.body) == len(body) + sealing.OVERHEAD
    assert Keyring([SECOND, FIRST]).open(sealed.body, sealed.key, label) == body


@pytest.mark.parametrize("place", range(len(LABEL)))
def test_what_was_sealed_opens_nowhere_else(place: int) -> None:
    ring = Keyring([FIRST])
    body = ring.seal(b"text", LABEL).body
    other = LABEL._replace(**{Label._fields[place]: "reply" if place == 0 else "other"})
    assert refused(ring, body, label=other) == Code.SEAL_BROKEN


def test_parts_of_a_label_do_not_run_into_each_other() -> None:
    ring = Keyring([FIRST])
    body = ring.seal(b"text", Label("request", "ab", "c")).body
    assert refused(ring, body, label=Label("request", "a", "bc")) == Code.SEAL_BROKEN


def test_no_bit_of_a_body_can_be_changed_and_no_byte_cut() -> None:
    ring = Keyring([FIRST])
    body = ring.seal(b"some text", LABEL).body
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1
        assert refused(ring, bytes(changed)) == Code.SEAL_BROKEN
        assert refused(ring, body[:place]) == Code.SEAL_BROKEN


def test_a_key_that_is_not_there_is_told_from_a_wrong_one() -> None:
    body = Keyring([FIRST]).seal(b"text", LABEL).body
    assert refused(Keyring([SECOND]), body) == Code.KEY_UNKNOWN
    assert refused(Keyring([SECOND]), body, key=None) == Code.KEY_UNKNOWN
    assert refused(Keyring([PayloadKey("first", bytes(32))]), body) == Code.SEAL_BROKEN
    assert refused(Keyring([FIRST, SECOND]), body, key="second") == Code.SEAL_BROKEN


def test_the_first_key_seals_unless_another_one_is_named() -> None:
    ring = Keyring([FIRST, SECOND])
    assert ring.seal(b"", LABEL).key == "first"
    assert ring.seal(b"", LABEL, "second").key == "second"
    assert ring.seal(b"", LABEL, "gone").key == "first"


def test_no_two_bodies_of_many_threads_share_a_nonce() -> None:
    ring = Keyring([FIRST])
    with ThreadPoolExecutor(4) as threads:
        heads = [*threads.map(lambda _: ring.seal(b"x", LABEL).body[:29], range(2_000))]
    assert len(set(heads)) == 2_000


def test_a_forked_process_has_a_salt_of_its_own() -> None:
    ring = Keyring([FIRST])
    ours = ring.seal(b"x", LABEL).body
    reading, writing = os.pipe()

    def sealed() -> None:
        os.write(writing, ring.seal(b"x", LABEL).body)

    child = multiprocessing.get_context("fork").Process(target=sealed)
    child.start()
    child.join(120)
    theirs = os.read(reading, 1000)
    assert ours[1:17] == ring.seal(b"x", LABEL).body[1:17] != theirs[1:17]
    assert ring.open(theirs, "first", LABEL) == b"x"


def test_derived_keys_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "REMEMBERED", 2)
    ring = Keyring([FIRST])
    bodies = [Keyring([FIRST]).seal(b"x", LABEL).body for _ in range(3)]
    assert [ring.open(body, "first", LABEL) for body in bodies * 2] == [b"x"] * 6
    assert len(ring._ciphers) == 2
    before = list(ring._ciphers)
    assert refused(ring, bodies[0][:-1]) == Code.SEAL_BROKEN  # what is forged takes nobody's place
    assert list(ring._ciphers) == before


def test_a_digest_depends_on_the_key() -> None:
    ring = Keyring([FIRST, SECOND])
    assert ring.digest_key("first") == ring.digest_key("gone") != ring.digest_key("second")


def test_a_key_is_neither_printed_nor_pickled_nor_copied() -> None:
    secret = base64.b64encode(bytes(range(32))).decode()
    for one in (FIRST, Keyring([FIRST])):
        assert secret not in f"{one!r}{one}"
        assert repr(bytes(range(32))) not in f"{one!r}{one}"
        with pytest.raises(TypeError):
            pickle.dumps(one)
        with pytest.raises(TypeError):
            copy.deepcopy(one)


def test_a_file_of_keys() -> None:
    lines = f"# ours\n\n{line_of_new_key('b')}  {line_of_new_key('a.1')}"
    assert [key.id for key in parsed(lines)] == ["b", "a.1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no key in it"),
        ("# nothing", "there is no key in it"),
        ("alone", "line 1: expected KEYID and 32 bytes in base64"),
        ("a b c", "line 1: expected KEYID"),
        ("a s3cret!", "line 1: the key is no base64"),
        ("a c2VjcmV0", "line 1: a key has 32 bytes, not 6"),
        ("ü " + "A" * 43 + "=", "line 1: a key id has 1 to 64"),
        (("a " + "A" * 43 + "=\n") * 2, "line 2: the key id 'a' is there twice"),
    ],
)
def test_a_file_that_is_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        parsed(text)
    assert not {"s3cret", "c2VjcmV0"} & set(str(caught.value).split())


def test_the_vector_of_the_docs() -> None:
    """Others can build what docs/security.md describes."""
    rows = re.findall(
        r"^\| (.+?) \| `(.*)` \|$", SECURITY.read_text(encoding="utf-8"), re.MULTILINE
    )
    told = dict(rows)
    key = PayloadKey(told["key id"], base64.b64decode(told["payload key (base64)"]))
    label = Label(
        told["direction"],  # type: ignore[arg-type]
        told["model"],
        told["queue"],
        told["correlation id"],
        told["content type"],
    )
    sealed = bytes.fromhex(told["sealed body (hex)"])
    assert sealing.associated(key.id, label) == bytes.fromhex(told["associated data (hex)"])
    assert key.derived(sealing.PAYLOAD, sealed[1:17]) == bytes.fromhex(told["derived key (hex)"])
    assert Keyring([key]).open(sealed, key.id, label) == told["body"].encode()


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")
def test_the_example_in_javascript_seals_and_opens_the_same() -> None:
    label = {
        "direction": LABEL.direction,
        "model": LABEL.model,
        "queue": LABEL.queue,
        "correlationId": LABEL.id,
        "contentType": LABEL.content_type,
    }
    ours = Keyring([FIRST]).seal("Grüße".encode(), LABEL).body
    script = f"""
        import {{ keysOf, open, seal }} from {json.dumps(EXAMPLE.as_uri())};
        const keys = keysOf({json.dumps(line_of(FIRST))});
        const label = {json.dumps(label)}, secret = keys.get("first");
        const opened = open(Buffer.from("{ours.hex()}", "hex"), "first", secret, label);
        console.log(seal(opened, "first", secret, label).toString("hex"));
        const swapped = {{ ...label, model: "other" }};
        try {{ open(Buffer.from("{ours.hex()}", "hex"), "first", secret, swapped); }}
        catch (error) {{ console.log("refused"); }}
    """
    command = ["node", "--input-type=module", "--eval", script, "example"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    theirs, refused = done.stdout.split()
    assert Keyring([FIRST]).open(bytes.fromhex(theirs), "first", LABEL) == "Grüße".encode()
    assert refused == "refused"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")
def test_the_example_in_javascript_names_the_queues_of_its_user() -> None:
    users = ["shop", "a.b", "*.#~", "ü x", "!'()*", "a:2Eb"]
    script = f"""
        import {{ wordOf }} from {json.dumps(EXAMPLE.as_uri())};
        console.log(JSON.stringify({json.dumps(users)}.map(wordOf)));
    """
    command = ["node", "--input-type=module", "--eval", script, "example"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert json.loads(done.stdout) == [user_word(user) for user in users]


def line_of(key: PayloadKey) -> str:
    return f"{key.id} {base64.b64encode(key._secret).decode()}\n"
