"""LMaaS: AI classifiers as a service over RabbitMQ.

The public interface; everything else may change between minor versions.
"""

import importlib.metadata

from lmaas.broker_config.errors import (
    BrokerError,
    BrokerRefused,
    BrokerSilent,
    BrokerUnavailable,
    Busy,
    DataError,
    ItemFailed,
    JobError,
    LimitReached,
    LmaasError,
    LocalNodeError,
    MessageError,
    ModelDamaged,
    ModelError,
    ModelNotFound,
    SettingsError,
    TimeLimitExceeded,
    TopologyMismatch,
    TrainingError,
    Unroutable,
    WorkerStuck,
)
from lmaas.broker_config.messages import (
    Item,
    ItemError,
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
from lmaas.producer.batch import Jobs, Progress
from lmaas.producer.client import Client, FileClient
from lmaas.producer.journal import JobEntry
from lmaas.producer.sync import SyncClient

__version__ = importlib.metadata.version("lmaas")

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
    "Jobs",
    "LimitReached",
    "LmaasError",
    "LocalNodeError",
    "MessageError",
    "ModelDamaged",
    "ModelError",
    "ModelNotFound",
    "Names",
    "Options",
    "Progress",
    "Reply",
    "Request",
    "Result",
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
