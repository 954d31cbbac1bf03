"""LMaaS: AI classifiers as a service over RabbitMQ.

The public interface; everything else may change between minor versions.
"""

from lmaas.broker_config.errors import (
    BrokerError,
    BrokerRefused,
    BrokerSilent,
    BrokerUnavailable,
    Busy,
    DataError,
    ItemFailed,
    JobError,
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
from lmaas.broker_config.messages import ItemError, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.sync import SyncClient

__all__ = [
    "BrokerError",
    "BrokerRefused",
    "BrokerSilent",
    "BrokerUnavailable",
    "Busy",
    "Client",
    "DataError",
    "ItemError",
    "ItemFailed",
    "JobError",
    "Jobs",
    "LmaasError",
    "LocalNodeError",
    "MessageError",
    "ModelDamaged",
    "ModelError",
    "ModelNotFound",
    "Result",
    "Settings",
    "SettingsError",
    "SyncClient",
    "TimeLimitExceeded",
    "TopologyMismatch",
    "TrainingError",
    "Unroutable",
    "WorkerStuck",
]
