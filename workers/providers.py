"""Where models run: ONNX Runtime's execution providers, by their names or by short ones.

ONNX Runtime itself goes on without a provider that it does not have, or that cannot start, and says
so in its log: models would be slow, and nobody would know why. Here that is an error.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from lmaas.broker_config.errors import SettingsError
from lmaas.workers.ort import onnxruntime

CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_TENSORRT: Final = "TensorrtExecutionProvider"
_OPENVINO: Final = "OpenVINOExecutionProvider"
#: One of these packages is there at a time: they have the same files.
_INSTEAD: Final = (
    "another package, in the place of this one: pip uninstall onnxruntime; pip install '{}' "
    "(docs/models.md, Providers)"
)
#: In ONNX Runtime's words for libraries that a provider lacks, where they are an exception.
_LIBRARIES: Final = "GPU requirements page"
#: By the names that users may give.
SHORT: Final = {"cpu": CPU, "cuda": _CUDA, "tensorrt": _TENSORRT, "openvino": _OPENVINO}


def named(providers: Sequence[str]) -> list[str]:
    """By ONNX Runtime's names, each once. Raises SettingsError for what is none, and for none."""
    found = dict.fromkeys(SHORT.get(name.lower(), name) for name in providers)
    known = onnxruntime.get_all_providers()
    for name in found:
        if name not in known:
            raise SettingsError(
                f"providers: {name!r} is none; give {', '.join(SHORT)}, or a name that ONNX "
                f"Runtime has: {', '.join(known)}"
            )
    if not found:
        raise SettingsError("providers: none is named; give cpu, or leave it out")
    return list(found)


def check(providers: Sequence[str], available: Iterable[str] | None = None) -> None:
    """Raises SettingsError when the installed package lacks one, and says which has it."""
    has = onnxruntime.get_available_providers() if available is None else list(available)
    for name in providers:
        if name not in has:
            raise SettingsError(
                f"providers: onnxruntime {onnxruntime.__version__}, as it is installed here, has "
                f"{', '.join(has)}; {name} {_advice(name)}"
            )


def _advice(name: str) -> str:
    if name in (_CUDA, _TENSORRT):
        return f"comes with {_INSTEAD.format('onnxruntime-gpu[cuda,cudnn]')}"
    if name == _OPENVINO:
        return f"comes with {_INSTEAD.format('onnxruntime-openvino')}"
    return "is in none that LMaaS knows of; another build of onnxruntime may have it"


def prepare(providers: Sequence[str]) -> None:
    """Load CUDA's libraries from Python's packages, if there are such."""
    if {_CUDA, _TENSORRT} & set(providers):
        with contextlib.redirect_stdout(sys.stderr):  # where it says what it does not find
            onnxruntime.preload_dlls()


def check_started(providers: Sequence[str], started: Sequence[str]) -> None:
    """Raises SettingsError when a session has not all of the providers that it should have."""
    for name in providers:
        if name not in started:
            raise _not_started(name)


def check_error(providers: Sequence[str], error: Exception) -> None:
    """Raises SettingsError when it is not the model that an exception is over."""
    if _LIBRARIES in str(error):
        raise _not_started(providers[0]) from error


def _not_started(name: str) -> SettingsError:
    return SettingsError(
        f"providers: {name} cannot start here: the device, its driver or its libraries are missing "
        "(ONNX Runtime may have said more above); to run models on the processor instead, set "
        "providers to cpu"
    )
