"""Models of the Hugging Face hub by their names, by its own client library.

What has been downloaded stays in that library's cache, where it is looked for when there is no
connection. `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` mean what they mean there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import advice

#: What an encoder for `lmaas train` is made of.
ENCODER: Final = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)
#: What an import takes beside the graph, and the graphs that it looks for.
DESCRIPTIONS: Final = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
GRAPHS: Final = ("model.onnx", "onnx/model.onnx")
#: OWNER/NAME, perhaps a graph in it, perhaps a branch, a tag or a commit; the oldest models have a
#: NAME alone.
_NAME: Final = re.compile(
    r"(?P<repo>([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*)(?P<file>/[\w./-]+\.onnx)?(@(?P<revision>[\w./-]+))?"
)
#: Names of files that a model can be in; a repository is called otherwise.
_FILES: Final = (
    ".onnx", ".ort", ".keras", ".h5", ".json", ".bin", ".pt", ".safetensors", ".txt", ".zip",
)  # fmt: skip
#: Where the library's cache has a commit of a model.
_SNAPSHOT: Final = re.compile(r"/models--([^/]+)/snapshots/([0-9a-f]{40})(?=/|$)")


@dataclass(frozen=True, slots=True)
class Name:
    """Of a model on the hub."""

    repo: str
    #: A graph in it; None: where they usually are.
    file: str | None
    #: A branch, a tag or a commit; None: the newest commit.
    revision: str | None

    def __str__(self) -> str:
        return self.repo


def name_of(given: Path) -> Name | None:
    """What the hub may have under these words; None of what is here, or can be no such name."""
    found = _NAME.fullmatch(str(given))
    if found is None or given.exists() or Path(given.parts[0]).exists():
        return None
    if found["repo"].endswith(_FILES):
        return None
    return Name(found["repo"], found["file"] and found["file"][1:], found["revision"])


def encoder(given: Path) -> Path:
    """The folder of an encoder that was named by its own path or by its name on the hub.

    Raises DataError when the hub does not have it, or cannot be asked.
    """
    name = name_of(given)
    return _there(given) if name is None else downloaded(name, ENCODER)


def graph(given: Path) -> Path:
    """The same of a model with an ONNX graph: its folder, or its graph if that was named."""
    name = name_of(given)
    if name is None:
        return _there(given)
    graphs = GRAPHS if name.file is None else (name.file,)
    weights = [f"{one}{end}" for one in graphs for end in ("_data*", ".data")]
    folder = downloaded(name, (*DESCRIPTIONS, *graphs, *weights))
    return folder if name.file is None else folder / name.file


def _there(given: Path) -> Path:
    """Raises DataError when it is not."""
    if given.exists():
        return given
    raise DataError(
        advice.of_url(str(given))
        or f"{given}: there is no such file or folder, and it is no name on the Hugging Face hub "
        "(OWNER/NAME)"
    )


def downloaded(name: Name, files: Sequence[str]) -> Path:
    """The folder in the library's cache that has these files of it, as far as there are such.

    Raises DataError.
    """
    if problem := extras.lacking("huggingface_hub"):
        raise DataError(
            f"{name}: there is no such folder here; to look for it on the hub, {problem}"
        )
    silent = os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when it is imported, ...
    from huggingface_hub import constants, errors, snapshot_download

    if silent == "1":
        constants.HF_HUB_DISABLE_TELEMETRY = True  # ... which somebody may have done before

    there = f"{constants.ENDPOINT}/{name.repo}"
    try:
        folder = snapshot_download(name.repo, revision=name.revision, allow_patterns=list(files))
    except errors.GatedRepoError as error:
        raise DataError(
            f"{name}: its owner lets only some download it: ask for that at {there}, and set "
            "HF_TOKEN to your token"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"{name}: neither a folder here nor a model at {there} that anybody may read; of a "
            "private one set HF_TOKEN to a token that may read it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"{name}: {there} has no revision {name.revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise DataError(
            f"{name}: no folder here, not in the cache ({constants.HF_HUB_CACHE}), and "
            f"{constants.ENDPOINT} cannot be reached; connect, or give a folder"
        ) from error
    except Exception as error:  # also those of its HTTP library, which is another one by version
        told = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be downloaded from {there}: {told}") from error
    return Path(folder)


def called(folder: Path) -> str:
    """What a folder is called, for a record: its own name, or OWNER/NAME@COMMIT of the hub's."""
    repo, commit = origin(folder)
    return f"{repo}@{commit}" if commit else repo


def origin(folder: Path) -> tuple[str, str | None]:
    """OWNER/NAME and the commit, of a folder that the hub's library has downloaded; of any other
    its own name, as where it lies here says nothing elsewhere."""
    found = _SNAPSHOT.search(folder.resolve().as_posix())
    return (found[1].replace("--", "/", 1), found[2]) if found else (folder.resolve().name, None)
