"""LMaaS: AI classifiers as a service over RabbitMQ.

The public interface; everything else may change between minor versions.
"""

import importlib
import typing as _typing

from lmaas.broker_config.errors import (
    BrokerError,
    BrokerRefused,
    BrokerSilent,
    BrokerUnavailable,
    Busy,
    DataError,
    ItemFailed,
    JobError,
    JobHeld,
    LimitReached,
    LmaasError,
    LocalNodeError,
    MessageError,
    ModelDamaged,
    ModelError,
    ModelNotFound,
    OptionError,
    PasswordUnavailable,
    SealError,
    SettingsError,
    TimeLimitExceeded,
    TopologyMismatch,
    TrainingError,
    Unroutable,
    WorkerStuck,
)

if _typing.TYPE_CHECKING:
    #: Of what is installed.
    __version__: str

    from lmaas.broker_config.messages import (
        Item,
        ItemError,
        ModelCard,
        Options,
        Reply,
        Request,
        Result,
        Tensor,
        Timings,
    )
    from lmaas.broker_config.settings import Settings
    from lmaas.broker_config.topology import Names
    from lmaas.producer.answers import Chunk
    from lmaas.producer.batch import Jobs
    from lmaas.producer.client import Client, FileClient
    from lmaas.producer.journal import JobEntry
    from lmaas.producer.progress import Progress
    from lmaas.producer.sync import SyncClient

#: Imported when they are asked for: every run of pytest imports `lmaas.pytest_plugin`, and should
#: not wait for what it does not use.
_HOMES = {
    "Chunk": "lmaas.producer.answers",
    "Client": "lmaas.producer.client",
    "FileClient": "lmaas.producer.client",
    "Item": "lmaas.broker_config.messages",
    "ItemError": "lmaas.broker_config.messages",
    "JobEntry": "lmaas.producer.journal",
    "Jobs": "lmaas.producer.batch",
    "ModelCard": "lmaas.broker_config.messages",
    "Names": "lmaas.broker_config.topology",
    "Options": "lmaas.broker_config.messages",
    "Progress": "lmaas.producer.progress",
    "Reply": "lmaas.broker_config.messages",
    "Request": "lmaas.broker_config.messages",
    "Result": "lmaas.broker_config.messages",
    "Settings": "lmaas.broker_config.settings",
    "SyncClient": "lmaas.producer.sync",
    "Tensor": "lmaas.broker_config.messages",
    "Timings": "lmaas.broker_config.messages",
}

__all__ = [
    "BrokerError",
    "BrokerRefused",
    "BrokerSilent",
    "BrokerUnavailable",
    "Busy",
    "Chunk",
    "Client",
    "DataError",
    "FileClient",
    "Item",
    "ItemError",
    "ItemFailed",
    "JobEntry",
    "JobError",
    "JobHeld",
    "Jobs",
    "LimitReached",
    "LmaasError",
    "LocalNodeError",
    "MessageError",
    "ModelCard",
    "ModelDamaged",
    "ModelError",
    "ModelNotFound",
    "Names",
    "OptionError",
    "Options",
    "PasswordUnavailable",
    "Progress",
    "Reply",
    "Request",
    "Result",
    "SealError",
    "Settings",
    "SettingsError",
    "SyncClient",
    "Tensor",
    "TimeLimitExceeded",
    "Timings",
    "TopologyMismatch",
    "TrainingError",
    "Unroutable",
    "WorkerStuck",
]

if not _typing.TYPE_CHECKING:  # a type checker knows all of them

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("lmaas")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
