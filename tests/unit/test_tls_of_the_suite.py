"""The suite's own switch to TLS, `tests.tls`."""

from __future__ import annotations

import os
from pathlib import Path

from lmaas.broker_config import node_folder
from lmaas.broker_config.local_node import LocalNode
from tests import tls


def told() -> tuple[bool, bool, str | None]:
    """Whether nodes listen by TLS, whether their URLs say so, and the authority."""
    listens = "listeners.ssl" in node_folder._CONFIGURATION
    return listens, LocalNode.url is not tls._URL, os.environ.get("SSL_CERT_FILE")


def test_nowhere_is_undone_step_by_step(tmp_path: Path) -> None:
    certificates = tls.Certificates(tmp_path)
    plain, by_tls = (False, False, None), (True, True, str(certificates.ca))
    with certificates.everywhere():
        assert told() == by_tls
        with tls.nowhere():
            assert told() == plain
            with tls.nowhere():
                assert told() == plain
            assert told() == plain
            with certificates.everywhere():
                assert told() == by_tls
            assert told() == plain
        assert told() == by_tls
