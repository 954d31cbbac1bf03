"""Where log lines go: standard error, one line each, for people or as JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.settings import LogFormat

log = logging.getLogger(__name__)

#: A line for people.
_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
_MOMENT: Final = "%H:%M:%S"
#: What every record has; all else on one was given as `extra`.
_STANDARD: Final = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


class TextLines(logging.Formatter):
    """For people; a traceback is in lines of its own, as far as the setting `redact` lets it."""

    def __init__(self, redaction: Redaction | None) -> None:
        super().__init__(_FORMAT, _MOMENT)
        self._redaction = redaction

    def formatException(self, info: Any) -> str:  # noqa: N802 - as logging names it
        """Its last line may quote a text."""
        shown = super().formatException(info)
        return self._redaction.text(shown) if self._redaction else shown


class JsonLines(TextLines):
    """One object a line: time, level, logger, process, action, message, and what was told as extra.

    A traceback is in the field `exception`.
    """

    def __init__(self, redaction: Redaction | None = None) -> None:
        super().__init__(redaction)

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "action": getattr(record, "action", None),
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return _encode(line).decode()
        except UnicodeEncodeError:  # a lone surrogate, which JSON can have escaped only
            return json.dumps(line, default=str)


def complain(words: str) -> None:
    """Say why a command ends: in one line like the others."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        log.error("%s", words, extra={"action": "failed"})
    else:
        click.echo(f"error: {words}", err=True)


def configure(
    level: int = logging.WARNING,
    log_format: LogFormat = "text",
    redaction: Redaction | None = None,
) -> None:
    """Ours from `level` on; the AMQP library's own lines say twice what our errors say."""
    logging.basicConfig(format=_FORMAT, datefmt=_MOMENT)
    if log_format == "json" or (redaction is not None and redaction.is_used):
        lines = JsonLines if log_format == "json" else TextLines
        for handler in logging.getLogger().handlers:
            handler.setFormatter(lines(redaction))
    logging.getLogger("lmaas").setLevel(level)
    for library in ("aio_pika", "aiormq", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
