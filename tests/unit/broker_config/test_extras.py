"""What is advised when an optional package is missing, by the way LMaaS was installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lmaas.broker_config import extras

CHECKOUT = Path(__file__).parents[3]


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, direct_url: str | None) -> None:
    """As if this were a wheel in `folder`, come from there."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return direct_url

    place = folder / "site-packages" / "lmaas" / "broker_config" / "extras.py"
    monkeypatch.setattr(extras, "__file__", str(place))
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Distribution())


def test_in_a_checkout_make_installs_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(CHECKOUT / ".venv"))
    assert extras.missing("pyarrow") == f"pyarrow is missing: run `make setup` in {CHECKOUT}"


def test_what_no_python_as_new_can_have_is_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 8, "final", 0))
    assert extras.missing("keras") == (
        "there is no TensorFlow for Python 3.14 yet: train with Python 3.11 to 3.13"
    )
    assert extras.missing("onnx").startswith("onnx is missing: ")


def test_a_checkout_that_is_installed_elsewhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert extras.command("files") == f"pip install -e '{CHECKOUT}[files]'"


@pytest.mark.parametrize(
    ("direct_url", "advice"),
    [
        (
            '{"url": "file:///dist/lmaas-1-py3-none-any.whl", "archive_info": {}}',
            "pip install 'lmaas[worker] @ file:///dist/lmaas-1-py3-none-any.whl'",
        ),
        (
            '{"url": "https://host/lmaas.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}',
            "pip install 'lmaas[worker] @ git+https://host/lmaas.git'",
        ),
        (None, "pip install 'lmaas[worker]', from where you got lmaas"),
        ("junk", "pip install 'lmaas[worker]', from where you got lmaas"),
    ],
)
def test_a_wheel_is_installed_again_from_where_it_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, direct_url: Any, advice: str
) -> None:
    installed(monkeypatch, tmp_path, direct_url)
    assert extras.command("worker") == advice


def test_the_first_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extras.lacking("numpy") is None
    monkeypatch.setitem(extras.EXTRAS, "not_there_at_all", "files")
    assert (extras.lacking("numpy", "not_there_at_all") or "").startswith("not_there_at_all is mis")
