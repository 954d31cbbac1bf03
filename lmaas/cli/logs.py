"""Where log lines go: standard error, one line each."""

from __future__ import annotations

import logging


def configure(level: int = logging.WARNING) -> None:
    """Ours from `level` on; the AMQP library's own lines say twice what our errors say."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    for package in ("broker_config", "producer", "workers", "training", "lmaas"):
        logging.getLogger(package).setLevel(level)
    for library in ("aio_pika", "aiormq", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
