"""Every error that LMaaS raises, in one tree.

    LmaasError
    ├── SettingsError            a setting is missing, unknown or out of range
    ├── MessageError             a body on the queue does not keep the contract
    │   └── SealError            a body cannot be opened, or is not sealed
    ├── BrokerError
    │   ├── BrokerUnavailable    nothing answered in time
    │   │   ├── BrokerSilent     a connection lives, and a method got no answer
    │   │   ├── LimitReached     the broker has as many connections, channels or queues as it may
    │   │   └── PasswordUnavailable  broker_password_command gave none
    │   ├── BrokerRefused        credentials, virtual host or TLS were refused
    │   ├── TopologyMismatch     the broker has a queue or exchange otherwise
    │   ├── Unroutable           no queue takes the message (an unknown model)
    │   ├── Busy                 a lane is full: try again after `retry_after` seconds
    │   └── LocalNodeError       a private RabbitMQ could not be started
    ├── TimeLimitExceeded        no answer within the caller's time limit
    ├── ItemFailed               one item could not be classified
    ├── JobError                 an unknown, cancelled or unfinished job
    │   └── JobHeld              somebody else is collecting the job
    ├── WorkerStuck              a worker cannot finish: only a new process helps
    ├── ModelError
    │   ├── ModelNotFound        no such model or version in the repository
    │   └── ModelDamaged         a file of a model is missing or was changed
    ├── DataError                an input or output file cannot be used
    └── TrainingError            training or export did not succeed

A caller who wants to handle all of them writes::

    try:
        result = await client.classify("sentiment", text)
    except lmaas.LmaasError as error:
        log.warning("not classified: %s", error)
"""

from __future__ import annotations


class LmaasError(Exception):
    """Something went wrong in LMaaS."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__ or type(self).__name__)


class SettingsError(LmaasError):
    """A setting is missing, unknown or out of range."""


class MessageError(LmaasError):
    """A message body does not keep the contract."""


class SealError(MessageError):
    """A body cannot be opened with the payload keys that are here, or is not sealed.

    `code` says why, as in `lmaas.broker_config.codes.Code`.
    """

    def __init__(self, message: str | None = None, code: str = "seal_broken") -> None:
        super().__init__(message)
        self.code = code


class BrokerError(LmaasError):
    """The broker could not do what was asked."""


class BrokerUnavailable(BrokerError):
    """The broker did not answer in time."""


class BrokerSilent(BrokerUnavailable):
    """The broker did not answer a method in time, although its connection lives."""


class LimitReached(BrokerUnavailable):
    """The broker has as many connections, channels or queues as somebody allowed there."""


class PasswordUnavailable(BrokerUnavailable):
    """The command for the broker's password gave none; it may the next time."""


class BrokerRefused(BrokerError):
    """The broker refused the credentials, the virtual host or TLS."""


class TopologyMismatch(BrokerError):
    """The broker has a queue or an exchange with other arguments."""


class Unroutable(BrokerError):
    """No queue on the broker takes this message."""


class Busy(BrokerError):
    """A lane has as many packs waiting as it may.

    `retry_after` says in how many seconds it may be worth to try again.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LocalNodeError(BrokerError):
    """A private RabbitMQ could not be started."""


class TimeLimitExceeded(LmaasError):
    """No answer came within the time limit."""


class ItemFailed(LmaasError):
    """One item could not be classified.

    `item_id` and `code` say which one and why; codes are in `lmaas.broker_config.codes.Code`.
    """

    def __init__(self, item_id: str, code: str, message: str) -> None:
        super().__init__(f"item {item_id!r}: {message}")
        self.item_id = item_id
        self.code = code


class JobError(LmaasError):
    """The job is unknown, was cancelled, or is not finished."""


class JobHeld(JobError):
    """Somebody else is collecting the job's results at this moment."""


class WorkerStuck(LmaasError):
    """A worker cannot finish what it has begun; a thread cannot be stopped, only its process."""


class ModelError(LmaasError):
    """A model cannot be used."""


class ModelNotFound(ModelError):
    """There is no such model or version in the repository."""


class ModelDamaged(ModelError):
    """A file of the model is missing or was changed."""


class DataError(LmaasError):
    """An input or output file cannot be used."""


class OptionError(DataError):
    """What was asked for cannot be, whatever the files hold, as options that exclude each other."""


class TrainingError(LmaasError):
    """Training or export did not succeed."""
