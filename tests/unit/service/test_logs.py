"""Lines of the log: each says its action, and as JSON all that is known."""

from __future__ import annotations

import ast
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.settings import Settings
from lmaas.service.logs import JsonLines, TextLines

ROOT = Path(__file__).parents[3]
PACKAGES = ("broker_config", "producer", "service", "workers", "training", "lmaas")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a method of a logger, with its place."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=level)):
                        if level in LEVELS and name in {"log", "logger", "logging"}:
                            yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def has_action(call: ast.Call) -> bool:
    extra = next((word.value for word in call.keywords if word.arg == "extra"), None)
    return extra is not None and any(
        isinstance(key, ast.Constant) and key.value == "action"
        for node in ast.walk(extra)
        if isinstance(node, ast.Dict)
        for key in node.keys
    )


def test_every_line_has_an_action() -> None:
    found = list(calls())
    assert len(found) > 15, "the search finds nothing any more"
    assert [place for place, call in found if not has_action(call)] == []


def test_a_line_without_an_action_would_be_seen() -> None:
    (bare, other) = ast.parse("log.info('x')\nlog.info('x', extra={'job': 1})").body
    for line in (bare, other):
        assert isinstance(line, ast.Expr)
        assert isinstance(line.value, ast.Call)
        assert not has_action(line.value)


def formatted(message: str, *arguments: object, **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord(
        "lmaas.workers.x", logging.WARNING, "x.py", 1, message, arguments, None
    )
    record.created = 1_700_000_000.0625
    vars(record).update(extra)
    line = JsonLines().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_of_json_has_all_that_was_told() -> None:
    line = formatted("%d went\nwrong", 3, action="dead_lettered", job="night", chunk=7, trace="ab")
    assert line.pop("process") > 0
    assert line == {
        "time": "2023-11-14T22:13:20.062Z",
        "level": "WARNING",
        "logger": "lmaas.workers.x",
        "action": "dead_lettered",
        "message": "3 went\nwrong",
        "job": "night",
        "chunk": 7,
        "trace": "ab",
    }


def test_what_json_does_not_know_is_told_in_words() -> None:
    line = formatted("x", action="a", path=Path("/p"), job="\ud800", many={1: b"\xff"})
    assert line["path"] == "/p"
    assert line["job"] == "\ud800"


def test_a_traceback_is_a_field() -> None:
    try:
        raise ValueError("of this")
    except ValueError:
        record = logging.LogRecord(
            "workers", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info()
        )
    line = json.loads(JsonLines().format(record))
    assert line["message"] == "failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: of this")


def hide(text: str) -> str:
    return text.replace("of this", "of ***")


@pytest.mark.parametrize("lines", [TextLines, JsonLines])
def test_a_traceback_has_what_may_be_shown(lines: type[TextLines]) -> None:
    try:
        raise ValueError("of this")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info())
    line = lines(Redaction(Settings(redact=f"{__name__}:hide"))).format(record)
    assert ("ValueError: of ***" in line, "of this" in line) == (True, False)


@pytest.mark.parametrize("package", PACKAGES)
def test_loggers_are_called_log(package: str) -> None:
    """Else the search above would miss some."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Assign(
                    targets=[ast.Name(id=name)],
                    value=ast.Call(func=ast.Attribute(attr="getLogger"), args=[ast.Name()]),
                ):
                    assert name == "log", path
