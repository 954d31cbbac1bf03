"""The page of the evaluation: what is on it, and that nothing of the data can become HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.messages import Item
from lmaas.training.evaluate import evaluate
from lmaas.training.mistakes import CHARACTERS, MOST, mistakes
from lmaas.training.page import MATRIX, written
from lmaas.workers.manifest import MODEL, WORD_BATCHING, WORD_INPUTS, Manifest
from tests.gateway.chromium import browsing

HOSTILE = """<script>alert("1")</script> & '<img src=x onerror=alert(2)>' $title ${x}"""


class Read(HTMLParser):
    """Checks that every tag is closed; collects tags and texts."""

    VOID = ("meta", "img", "rect", "path", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def manifest(labels: list[str]) -> Manifest:
    return Manifest(
        name="m",
        version="3",
        labels=labels,
        inputs=WORD_INPUTS,
        preprocessing={"kind": "words"},
        head={"kind": "scores", "temperature": 1.25},
        batching=WORD_BATCHING,
        architecture="ngram",
        dataset={"name": HOSTILE, "train": 10, "validation": 2, "test": 3, "sha256": "ab" * 32},
        metrics={},
        code_version="0.1",
        created="2026-01-01T00:00:00Z",
        files={MODEL: ""},
        training={"versions": {"keras": "3.9"}, "seconds": 1.5},
    )


def page_of(labels: list[str], command: str = "", learning: bytes | None = None) -> Read:
    return Read(html_of(labels, command, learning))


def html_of(labels: list[str], command: str = "", learning: bytes | None = None) -> str:
    """Of a model that takes each item of label 0 for one of label 1, and is right otherwise."""
    truth = np.arange(len(labels) * 2, dtype=np.int32) % len(labels)
    scores = np.full((len(truth), len(labels)), 0.2 / (len(labels) - 1), np.float32)
    scores[np.arange(len(truth)), np.maximum(truth, 1)] = 0.8
    items = [Item(id=f"i{place}", text=f"{HOSTILE} {place}") for place in range(len(truth))]
    wrong = mistakes(scores, truth, labels, items)
    return written(manifest(labels), evaluate(scores, truth, labels), wrong, command, learning)


def test_what_is_in_the_data_stays_text() -> None:
    page = page_of([HOSTILE, "b", "c"], f"lmaas train {HOSTILE}")
    assert not {"script", "iframe", "link", "img"} & set(page.tags)
    assert page.text.count(HOSTILE) >= 5  # mistake, its label, matrix, classes, data, command
    assert f"{HOSTILE} 0" in page.text


def test_figures_and_facts_are_there() -> None:
    text = page_of(["no", "yes", "so"], "lmaas train m --data x.csv").text
    for told in (
        *("m 3", "6 examples", "66.67%", "calibration error", "lmaas train m --data x.csv"),
        *("1.25", "10 train, 2 validation, 3 test", "lmaas 0.1, keras 3.9", "ngram", "ab" * 32),
        *("no was called yes, 0.800", "min-score"),
    ):
        assert told in text, told


def test_many_classes_have_pairs_and_no_matrix() -> None:
    few, many = page_of([f"c{n}" for n in range(MATRIX)]), page_of([f"c{n}" for n in range(150)])
    assert "A row is a true class" in few.text
    assert "A row is a true class" not in many.text
    assert "The most confused pairs" in many.text


def test_learning_curves_are_in_the_page() -> None:
    assert "img" in page_of(["a", "b"], learning=b"png").tags


def test_the_surest_mistakes_come_first_and_are_cut() -> None:
    truth = np.zeros(200, np.int32)
    wrong = np.linspace(0.51, 0.99, 200, dtype=np.float32)
    items = [Item(id="x", text=f"{place} " + "\n long" * 900) for place in range(200)]
    found = mistakes(np.stack([1 - wrong, wrong], axis=1), truth, ["a", "b"], items)
    assert len(found) == MOST
    assert found[0].score == pytest.approx(0.99)
    assert found[0].shown.startswith("199 long long")
    assert len(found[0].shown) == CHARACTERS
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert (found[0].true, found[0].predicted) == ("a", "b")


def test_items_without_a_text_have_their_id_or_place() -> None:
    scores = np.array([[0.1, 0.9]] * 3, np.float32)
    items = [
        Item(id="a.png", data=b"x"),
        Item(id="", data=b"x"),
        Item(id="", text="a", text_pair="b"),
    ]
    found = mistakes(scores, np.zeros(3, np.int32), ["x", "y"], items)
    assert [each.shown for each in found] == ["a.png", "item 2 of the test", "a ‖ b"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
async def test_nothing_is_wider_than_the_window(tmp_path: Path, width: int, scheme: str) -> None:
    """In a real browser, whatever the names are; and nothing in them runs."""
    labels = [f"{HOSTILE} {'long' * 40}", *(f"class_{place}" for place in range(11))]
    file = tmp_path / "evaluation.html"
    file.write_text(html_of(labels, "lmaas train " + "x" * 300), encoding="utf-8")
    async with browsing(tmp_path / "browser") as page:
        await page.looks(width, scheme)
        await page.go(file.as_uri())
        assert await page.shows("document.querySelector('.mistakes li')?.textContent")
        assert await page.does("document.documentElement.scrollWidth <= innerWidth")
        assert await page.does("document.querySelectorAll('script, img').length") == 0
        assert page.complaints == []
