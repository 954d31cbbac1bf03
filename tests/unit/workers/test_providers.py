"""Where models run, and what is said when they cannot run there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.settings import Settings
from lmaas.workers import ort, parallelism, providers
from lmaas.workers.models import Models
from lmaas.workers.plan import failure
from lmaas.workers.providers import CPU, SHORT, check, named
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

CUDA = "CUDAExecutionProvider"


def test_short_names_are_those_of_onnx_runtime() -> None:
    assert set(SHORT.values()) <= set(ort.onnxruntime.get_all_providers())
    assert named(("TensorRT", "cuda", CUDA, "CPU")) == [SHORT["tensorrt"], CUDA, CPU]


@pytest.mark.parametrize(
    ("asked", "told"),
    [(("cuda", "gpu"), "providers: 'gpu' is none; give cpu, cuda, tensorrt, openvino, or"),
     ((), "providers: none is named")],
)  # fmt: skip
def test_what_is_no_provider_is_told(asked: tuple[str, ...], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        named(asked)


@pytest.mark.parametrize(
    ("name", "package"),
    [("cuda", "onnxruntime-gpu"), ("tensorrt", "onnxruntime-gpu"),
     ("openvino", "onnxruntime-openvino")],
)  # fmt: skip
def test_the_package_that_has_it_is_named(name: str, package: str) -> None:
    with pytest.raises(SettingsError) as failed:
        check(named([name]), [CPU])
    words = str(failed.value)
    assert f"has {CPU}; {SHORT[name]} comes with" in words
    assert f"pip install '{package}" in words
    check(named(["cpu", name]), [SHORT[name], CPU])


def test_models_are_not_loaded_where_a_provider_is_not(
    worker_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort.onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(SettingsError, match=f"{CUDA} comes with"):
        Models(Settings(models=worker_settings.models, providers=("cuda", "cpu")))
    models = Models(Settings(models=worker_settings.models, providers=("cpu",)))
    assert models.load("sentiment")._session.get_providers() == [CPU]


def test_a_worker_ends_with_words(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "lmaas", "classify", "--text", "x"],
        env={"LMAAS_PROVIDERS": "vulkan", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert ended.returncode != 0
    assert ended.stderr.startswith("error: providers: 'vulkan' is none")


class _Fallen:
    """A session that ONNX Runtime has made without what was asked for."""

    def get_providers(self) -> list[str]:
        return [CPU]


@pytest.mark.parametrize("how", ["falls back", "says so"])
def test_a_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """ONNX Runtime goes on with the processor where CUDA cannot start, and raises for TensorRT."""

    def session(*_: object) -> _Fallen:
        if how == "says so":
            raise RuntimeError("Please install libraries as mentioned in the GPU requirements page")
        return _Fallen()

    monkeypatch.setattr(ort, "session", session)
    monkeypatch.setattr(providers.onnxruntime, "preload_dlls", lambda: None)
    version = Repository(Path(__file__).parents[3] / "models").find("sentiment")
    with pytest.raises(SettingsError, match=f"{CUDA} cannot start here"):
        Runtime(version, providers=[CUDA, CPU])


@pytest.mark.parametrize(
    ("words", "code"),
    [("CUDA failure 2: out of memory ; GPU=0", Code.OUT_OF_MEMORY),
     ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", Code.UNAVAILABLE),
     ("CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR", Code.UNAVAILABLE),
     ("Non-zero status code returned while running Gather node", Code.INTERNAL)],
)  # fmt: skip
def test_a_device_that_fails_is_no_fault_of_the_items(words: str, code: Code) -> None:
    assert failure(RuntimeError(words)).code == code


@pytest.mark.parametrize(
    ("asked", "processes"),
    [(("cuda", "cpu"), 1), (("cpu",), 8), (("CPUExecutionProvider",), 8)],
)
def test_a_gpu_is_served_by_one_process(asked: tuple[str, ...], processes: int) -> None:
    assert parallelism.processes(Settings(providers=asked), [], 8) == processes
    assert parallelism.processes(Settings(providers=asked, processes=3), [], 8) == 3
