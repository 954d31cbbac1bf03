"""`lmaas.testing`: canned answers, errors, delays, what is recorded; its fixture elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmaas
from lmaas import testing
from lmaas.broker_config.codes import Code
from tests.integration.lanes import LIMIT, MODELS

FORMS: list[tuple[Any, str, float, dict[str, float]]] = [
    ("good", "good", 1.0, {"good": 1.0}),
    (("good", 0.75), "good", 0.75, {"good": 0.75}),
    ({"bad": 0.2, "good": 0.8}, "good", 0.8, {"good": 0.8, "bad": 0.2}),
]


@pytest.mark.parametrize(("answer", "label", "score", "scores"), FORMS)
async def test_forms_of_an_answer(
    answer: Any, label: str, score: float, scores: dict[str, float]
) -> None:
    answers: list[Any] = [{"a film": answer}, lambda _: answer]
    for each in answers:
        async with testing.Client(each) as client:
            result = await client.classify("any-model", "a film", top_k=2)
            assert (result.label, result.score, result.scores) == (label, score, scores)
            assert (await client.classify("any-model", "a film")).scores is None


async def test_several_labels() -> None:
    async with testing.Client({"a film": ["good", "long"], "none": []}) as client:
        result = await client.classify("m", "a film", top_k=1)
        assert (result.labels, result.label, result.scores) == (
            ["good", "long"],
            "good",
            {"good": 1},
        )
        result = await client.classify("m", "none")
        assert (result.labels, result.label, result.score) == ([], None, 0)


async def test_below_the_least_score_it_is_unsure() -> None:
    async with testing.Client({"a film": ("good", 0.75)}) as client:
        labels = [
            (await client.classify("m", "a film", min_score=least)).label
            for least in (None, 0, 0.7, 0.8, 1)
        ]
        assert labels == ["good", "good", "good", "unsure", "unsure"]
        wrong: list[Any] = [2, -0.1, "0.5", float("nan")]
        for least in wrong:
            with pytest.raises(lmaas.MessageError, match="it must be a number from 0 to 1"):
                await client.classify("m", "a film", min_score=least)


async def test_errors_of_items_and_of_calls() -> None:
    answers: dict[str, testing.Answer] = {
        "fine": "good",
        "large": lmaas.ItemError(code=Code.OUT_OF_MEMORY, message="no room"),
        "busy": lmaas.Busy("full", retry_after=7),
        "away": lmaas.BrokerUnavailable("the broker is gone"),
        "slow": lmaas.TimeLimitExceeded("no answer"),
    }
    async with testing.Client(answers, pack_items=1) as client:
        results = [r async for r in client.classify_many("m", ["fine", "large", "", "fine"])]
        assert [r.label or (r.error and r.error.code) for r in results] == [
            "good",
            "out_of_memory",
            "empty_text",
            "good",
        ]
        with pytest.raises(lmaas.ItemFailed, match="no room"):
            await client.classify("m", "large")
        for text in ("busy", "away", "slow"):
            with pytest.raises(type(answers[text])):
                await client.classify("m", text)
            with pytest.raises(type(answers[text])):
                await anext(client.classify_many("m", [text]))


async def test_what_the_test_has_forgotten_fails_it() -> None:
    async with testing.Client({"known": "good"}) as client:
        with pytest.raises(AssertionError, match="no answer for the text 'unknown'"):
            await client.classify("m", "unknown")
    async with testing.Client(lambda _: 7) as client:  # type: ignore[arg-type, return-value]
        with pytest.raises(TypeError, match="7 is no answer"):
            await client.classify("m", "text")
    async with testing.Client(lambda text: str(1 / len(text[1:]))) as client:
        with pytest.raises(ZeroDivisionError):
            await client.classify("m", "x")


async def test_calls_are_recorded_and_everything_may_change_meanwhile() -> None:
    async with testing.Client({"a": "good"}, serves=["m"]) as client:
        await client.classify("m", "a", version="3", top_k=1)
        assert client.calls == [testing.Call("m", "a", version="3", top_k=1)]
        await client.classify("m", "", errors="return")
        with pytest.raises(lmaas.ModelNotFound, match=r"'other' \(served here: m\)"):
            await client.classify("other", "a")
        assert len(client.calls) == 1
        client.service.answers = lambda text: text.upper()
        client.service.serves = ["other"]
        assert (await client.classify("other", "b")).label == "B"
        client.service.delay = 60
        with pytest.raises(lmaas.TimeLimitExceeded):
            await client.classify("other", "b", timeout=0.05)
    assert [call.text for call in client.calls] == ["a", "b", "b"]


VALUES = {"ids": lmaas.Tensor(shape=[1], datatype="INT8", data=b"x")}


async def test_items_of_every_kind_have_answers_and_are_recorded() -> None:
    items = [
        lmaas.Item(id="a", text="a film"),
        lmaas.Item(id="b", text="a film", text_pair="a book"),
        lmaas.Item(id="c", data=b"png", media_type="image/png"),
    ]
    answers = {"a film": "good", ("a film", "a book"): "alike", b"png": ("cat", 0.75)}
    async with testing.Client(answers) as client:
        results = [result async for result in client.classify_many("m", items)]
        assert [(one.id, one.label) for one in results] == [
            ("a", "good"),
            ("b", "alike"),
            ("c", "cat"),
        ]
        single = [(await client.classify("m", item)).id for item in items]
        assert single == ["a", "b", "c"]
        assert client.calls[3:] == client.calls[:3]
        assert client.calls[:3] == [
            testing.Call("m", "a film"),
            testing.Call("m", ("a film", "a book")),
            testing.Call("m", b"png", media_type="image/png"),
        ]
        assert [call.text for call in client.calls[:3]] == ["a film", "a film", None]
        with pytest.raises(AssertionError, match=r"no answer for the content b'jpg'"):
            await client.classify("m", lmaas.Item(id="d", data=b"jpg"))
        with pytest.raises(AssertionError, match=r"tensors .* give it a function"):
            await client.classify("m", lmaas.Item(id="e", tensors=VALUES))
        client.service.answers = ",".join  # of the names of tensors
        assert (await client.classify("m", lmaas.Item(id="e", tensors=VALUES))).label == "ids"
        assert client.calls[-1].content == VALUES


def test_clients_share_a_service() -> None:
    service = testing.Service(lambda _: "good")
    first, second = testing.SyncClient(service), testing.SyncClient(service)
    first.classify("m", "a")
    second.classify("m", "b")
    assert [call.text for call in first.calls] == ["a", "b"]
    assert isinstance(first, lmaas.SyncClient)
    first.close()
    second.close()


async def test_without_answers_the_models_that_there_are_are_served(tmp_path: Path) -> None:
    async with testing.Client(models=str(tmp_path)) as client:
        with pytest.raises(lmaas.ModelNotFound, match=r"'nope' \(served here: sentiment\)"):
            await client.classify("nope", "a")


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    testing.models._answerer.cache_clear()  # what is loaded stays
    monkeypatch.setitem(sys.modules, "lmaas.workers.answering", None)
    async with testing.Client(models=str(MODELS)) as client:
        with pytest.raises(lmaas.LmaasError, match="install lmaas with its extra `worker`"):
            await client.classify("sentiment", "a")


# ----------------------------------------------------------------- the fixture

Pytest = Callable[[str], Any]


@pytest.fixture
def stranger(tmp_path: Path) -> Pytest:
    """Runs a stranger's test file with pytest, in a folder of his own."""

    async def run(content: str) -> str:
        (tmp_path / "test_shop.py").write_text(textwrap.dedent(content))
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio",
            cwd=tmp_path, env={**os.environ, "LMAAS_MODELS": str(MODELS)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(2 * LIMIT):
            out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    return run


async def test_code_that_makes_its_own_clients_gets_the_service(stranger: Pytest) -> None:
    told = await stranger("""
        import asyncio, lmaas, pytest

        def shop(text):
            with lmaas.SyncClient() as client:
                return client.classify("sentiment", text).label

        async def web(text):
            async with lmaas.Client() as client:
                return (await client.classify("sentiment", text)).label

        def test_model(lmaas_service):
            assert shop("a wonderful, moving film") == "positive"

        def test_canned(lmaas_service):
            lmaas_service.answers = {"a": "x", "b": "y", "c": lmaas.Busy("full")}
            assert shop("a") == "x"
            assert asyncio.run(web("b")) == "y"
            with pytest.raises(lmaas.Busy):
                shop("c")
            assert [call.text for call in lmaas_service.calls] == ["a", "b", "c"]

        def test_afterwards_clients_are_real():
            with pytest.raises(lmaas.BrokerUnavailable):
                with lmaas.SyncClient(broker_url="amqp://127.0.0.1:1/", connect_timeout=0.2):
                    pass
    """)
    assert "3 passed" in told


async def test_a_run_that_does_not_use_it_imports_nothing(stranger: Pytest) -> None:
    told = await stranger("""
        import sys

        def test_nothing():
            ours = {name for name in sys.modules if name.partition(".")[0] == "lmaas"}
            assert ours <= {
                "lmaas", "lmaas.pytest_plugin", "lmaas.broker_config", "lmaas.broker_config.errors"
            }
            assert not {"aio_pika", "numpy", "msgspec", "onnxruntime"} & set(sys.modules)
    """)
    assert "1 passed" in told
