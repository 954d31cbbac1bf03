"""LMaaS: AI classifiers as a service over RabbitMQ.

The public interface; everything else may change between minor versions.
"""

from broker_config.errors import (
    BrokerError,
    BrokerRefused,
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
from broker_config.messages import ItemError, Result
from broker_config.settings import Settings
from producer.batch import Jobs
from producer.client import Client
from producer.sync import SyncClient

__all__ = [
    "BrokerError",
    "BrokerRefused",
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
