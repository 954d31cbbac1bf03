"""Settings as one typed value: arguments > environment `LMAAS_*` > TOML file > defaults."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import unquote

import msgspec

from lmaas.broker_config import folders, layers
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.rights import Role
from lmaas.broker_config.scheduling import Balance, Policy
from lmaas.broker_config.topology import (
    JOB_RESULTS_MS,
    RETRY_DELAY,
    RETRY_DELAYS,
    Names,
    QueueType,
)

#: host:port/vhost?query
_PLACE: Final = re.compile(
    r"[^:/?#]*(:\d*)?([/?#].*)?|\[[\da-fA-F:.]*\](:\d*)?([/?#].*)?", re.DOTALL
)

LogFormat = Literal["text", "json"]

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Bytes = Annotated[int, msgspec.Meta(ge=1)]
_Delay = Annotated[str, msgspec.Meta(pattern=RETRY_DELAY, examples=["500ms", "5s", "2m"])]
#: Bytes of UTF-8, at most, and those of an item beside its text, at most and on average.
BYTES_A_CHARACTER: Final = 4
BESIDE_THE_TEXT: Final = 1024
#: Bytes of an item's data at most: of a photo as a phone makes it, and so few that base64 of it
#: fits into a message of 16 MiB.
DATA_BYTES: Final = 10 * 1024 * 1024
#: Seconds: RabbitMQ has 32 bits for the milliseconds of a message's life.
MOST_KEPT: Final = 49 * 24 * 3600
#: AMQP has 16 bits for a prefetch.
_MOST_AHEAD: Final = 65_535


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. The environment name of `x` is `LMAAS_X`."""

    #: Where RabbitMQ is: amqp[s]://user:password@host:port/vhost; several, separated by commas.
    broker_url: str = "amqp://guest:guest@localhost:5672/"
    #: The broker's name of the user that logs in; none: the one in broker_url, as is most often so.
    #: Who logs in by certificate has to give it.
    broker_user: str = ""
    #: Installations with different prefixes share a broker without seeing each other.
    prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]+$")] = "lmaas"
    #: "classic" (RabbitMQ 3.10 and later) or "quorum" (clusters).
    queue_type: QueueType = "classic"
    #: PEM files for amqps: the authority that signed the broker, and a client certificate.
    tls_ca: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    #: File with the password, which broker_url then does not have; read anew for each connection.
    broker_password_file: str | None = None
    #: Command that prints the password, in its place: a list of words, or one text that is split as
    #: a shell does; no shell runs it. A token (JWT) is asked for anew before it expires.
    broker_password_command: str | tuple[str, ...] = ()
    #: What the broker knows the user by: the "password" of broker_url, or the "certificate" of
    #: tls_certificate (EXTERNAL; the plugin rabbitmq_auth_mechanism_ssl).
    broker_auth: Literal["password", "certificate"] = "password"
    #: File of the keys that bodies are sealed with, one a line: an id, and 32 bytes in base64; the
    #: first one seals, each one opens (see docs/security.md). None: bodies are not sealed.
    payload_keys: str | None = None
    #: With `payload_keys`: whether what is not sealed is taken too, while keys are introduced.
    accept_unsealed: bool = False
    #: Seconds to wait for a broker that is not up yet.
    connect_timeout: _Positive = 30.0
    #: Seconds for a whole publish, from the call to the broker's confirm.
    publish_timeout: _Positive = 30.0
    #: Seconds between AMQP heartbeats.
    heartbeat: _Count = 15

    #: Seconds that a caller waits for an answer.
    timeout: _Positive = 60.0
    #: Seconds that a single call waits for others to share its message.
    linger: Annotated[float, msgspec.Meta(ge=0)] = 0.002
    #: A pack that the client makes is full with this many items, bytes of their content, or seconds
    #: that it is expected to take.
    pack_items: _Count = 256
    pack_bytes: _Bytes = 512 * 1024
    pack_seconds: _Positive = 1.0
    #: Packs of one caller that are on their way at a time.
    window: _Count = 32

    #: Bytes of one item's texts or tensors; a larger one gets an error.
    max_item_bytes: _Bytes = 1024 * 1024
    #: Bytes of one item's data, as of a picture or a sound; 0: 10 MiB, or `max_item_bytes` where
    #: that is more. With all else that a pack has this fits into a message of RabbitMQ 4.
    max_data_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Items of one pack that a client publishes and a worker accepts.
    max_pack_items: _Count = 4096
    #: Bytes of the body of a pack that a client publishes and a worker accepts; 0: somewhat more
    #: than any that a client with these settings makes, 14.5 MiB by default.
    max_pack_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Bytes of one message; 0: as many as the broker's version takes if nobody has set it
    #: otherwise there (128 MiB before 4.0, 16 MiB since).
    max_message_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0

    #: Folders with models, the one that new models are written to first: a list, or one text
    #: with `os.pathsep` between them; none: the user's own. See `model_folders`.
    models: str | tuple[str, ...] = ()
    #: Bytes of the files of versions that stay loaded beside the one of each model that answers by
    #: default: those that requests name, and those before a switch.
    model_memory: Annotated[int, msgspec.Meta(ge=0)] = 1024 * 1024 * 1024
    #: Public keys, a PEM file or a folder of `.pub` and `.pem`: only versions that one of them
    #: signed are served. See docs/security.md.
    model_keys: str | None = None
    #: File in which workers keep the moment of the newest signature that they served, so that none
    #: serves older ones after a restart; without, each process knows what it served itself.
    model_marks: str | None = None
    #: Bytes of all files of a version; a larger one is not loaded.
    max_model_bytes: _Count = 8 * 1024 * 1024 * 1024
    #: Worker processes; in-process bulk uses as many. 0: as was measured of the models that are
    #: served (see lmaas.workers.parallelism), of most of them one a core.
    processes: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    #: Threads of an ONNX session; 0: as was measured of its model, of most of them 1.
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    #: ONNX Runtime's execution providers, best first: its names for them, or cpu, cuda, tensorrt,
    #: openvino (see lmaas.workers.providers).
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    #: How packs are ordered: "fifo", "sjf" or "srtf" (see lmaas.broker_config.scheduling).
    policy: Policy = "srtf"
    #: Seconds of estimated work that a second of waiting makes up for; with 0 long work may
    #: wait for ever while there is shorter.
    ageing: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.15
    #: Seconds after which work that a worker has done for a tenant counts a third: while several
    #: tenants wait, waiting counts for those who have had no more than the average of them (see
    #: lmaas.workers.shares). 0: it counts for all alike.
    tenant_memory: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    #: Users of the broker who ask for others, as the gateway's does: workers believe them for whom.
    gateway_users: tuple[str, ...] = ("gateway",)
    #: Seconds by which the clocks of clients and workers may differ.
    clock_skew: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    #: Which worker gets a pack: "prefetch", "round_robin" or "random" (see
    #: lmaas.broker_config.scheduling).
    balance: Balance = "prefetch"
    #: Packs that the broker hands to a worker ahead, for each lane; 0: as the worker's measured
    #: times ask for.
    prefetch: Annotated[int, msgspec.Meta(ge=0, le=_MOST_AHEAD)] = 0
    #: Packs that may wait in a lane, about; clients publish no more, and their callers get Busy.
    max_waiting: _Count = 1_000_000
    #: Padded units of one batch at most (tokens, for texts); 0: as the model's manifest says.
    batch_units: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Seconds that one run of a model may take; who takes longer is ended, with its process.
    pack_timeout: _Positive = 60.0
    #: Tries of a pack whose failure may pass, as when memory was short; see broker_config.retry.
    max_attempts: _Count = 4
    #: How long such a pack waits before its second try, its third, and so on; the last one is for
    #: all later tries. Each has a queue on the broker, so workers and clients have the same ones.
    retry_delays: Annotated[tuple[_Delay, ...], msgspec.Meta(min_length=1)] = RETRY_DELAYS
    #: A function, package.module:function, that gets a text and returns what of it workers and the
    #: gateway may log, and workers may put into dead letters; None: all of it. See docs/privacy.md.
    redact: str | None = None
    #: Seconds after which the broker drops a dead letter, counted from its worker's dead-lettering;
    #: 0: never. RabbitMQ takes 49 days at most. See docs/privacy.md.
    keep_dead_letters: Annotated[float, msgspec.Meta(ge=0, le=MOST_KEPT)] = 0.0
    #: Seconds after which the broker drops the results of a batch job that nobody has asked for.
    keep_results: Annotated[float, msgspec.Meta(gt=0, le=JOB_RESULTS_MS / 1000)] = (
        JOB_RESULTS_MS / 1000
    )
    #: Seconds that a worker that was told to stop may take to finish what it holds.
    drain_timeout: _Positive = 25.0
    #: Where workers tell their health and metrics, over HTTP: the i-th process, from 0, at the port
    #: `health_port + i`; nowhere with port 0.
    health_host: str = "127.0.0.1"
    health_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    #: Lines of the log of workers: "text" for people, "json" for machines.
    log_format: LogFormat = "text"

    @property
    def names(self) -> Names:
        return Names(self.prefix, self.user)

    @property
    def user(self) -> str:
        """The broker's name of the user that logs in. Raises SettingsError: see `login`."""
        return self.broker_user or login(self.broker_url)

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Where models are looked for, in this order; what comes with LMaaS is always the last."""
        looked_at: dict[str, Path] = {}
        for folder in (self._written, *self.named_models, folders.SHIPPED_MODELS):
            if folder is not None:
                looked_at.setdefault(os.path.realpath(folder), folder)
        return tuple(looked_at.values())

    @property
    def new_models(self) -> Path:
        """The folder that new models are written to. Raises SettingsError without any."""
        return folders.needed(self._written, "models", "name one with --models or LMAAS_MODELS")

    @property
    def named_models(self) -> list[Path]:
        """The folders that were named."""
        named = self.models.split(os.pathsep) if isinstance(self.models, str) else self.models
        return [Path(name) for name in named if name]

    @property
    def _written(self) -> Path | None:
        return next(iter(self.named_models), folders.models())

    @property
    def largest_pack(self) -> int:
        """Bytes of the body of a pack: what is set, or derived from the other limits.

        A text's bytes are counted as characters when packs are cut; an item may come on top.
        """
        texts = BYTES_A_CHARACTER * (self.pack_bytes + self.max_item_bytes)
        data = self.pack_bytes + self.largest_data
        return self.max_pack_bytes or max(texts, data) + BESIDE_THE_TEXT * self.max_pack_items

    @property
    def largest_data(self) -> int:
        """Bytes of an item's data at most: what is set, or the larger of two limits."""
        return self.max_data_bytes or max(DATA_BYTES, self.max_item_bytes)

    @property
    def broker(self) -> str:
        """The broker without its password, for people and logs."""
        return masked(self.broker_url)

    def __repr__(self) -> str:
        shown = {  # the words of a command may have a secret
            "broker_url": self.broker,
            "broker_password_command": self.broker_password_command and "***",
        }
        pairs = ((name, shown.get(name, getattr(self, name))) for name in self.__struct_fields__)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in pairs)})"

    @classmethod
    def load(cls, role: Role = "producer", /, **arguments: Any) -> Self:
        """All layers together; an argument that is None counts as not given.

        By its `role` a program logs in to the private broker of `lmaas up`, if that runs and no
        other layer names a broker.
        Variables of the environment that nobody reads are told by a warning in the log.
        Raises SettingsError naming the setting and where it was set.
        """
        return cls(**layers.together(cls, arguments, role=role))


def hosts(broker_url: str) -> list[str]:
    """The URLs in a setting `broker_url`: a comma separates them only where another one begins."""
    return [part.strip() for part in re.split(r",(?=\s*amqps?://)", broker_url)]


@functools.lru_cache
def login(broker_url: str) -> str:
    """The user that a URL, or each of several, logs in. Raises SettingsError when they differ."""
    logins = [one.partition("://")[2].rpartition("@")[0] for one in hosts(broker_url)]
    users = {unquote(one.partition(":")[0]) or "guest" for one in logins}
    if len(users) > 1:
        raise SettingsError(
            f"the hosts of broker_url {masked(broker_url)!r} have different users; it must be one "
            "user, because its queues have its name (or set broker_user, if they are the same)"
        )
    return users.pop()


def masked(url: str) -> str:
    """One or several URLs, right or wrong, with `***` for whatever may be of a password.

    Nothing is parsed: the password is looked for as people write it, with any character in it.
    """
    return ",".join(_masked_one(part) for part in hosts(url))


def _masked_one(url: str) -> str:
    scheme, is_url, rest = url.partition("://")
    if not is_url:
        _, at, place = url.rpartition("@")
        return f"***@{place}" if at else "(not a URL)"
    login, at, place = rest.rpartition("@")
    user, has_password, _ = login.partition(":")
    if at:
        return f"{scheme}://{user}:***@{place}" if has_password else url
    # Without a login there is no password, unless what follows the host is no port.
    return url if _PLACE.fullmatch(rest) else f"{scheme}://***"
