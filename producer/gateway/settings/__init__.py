"""What can be set of the gateway: the section `[gateway]` of `lmaas.toml`, `LMAAS_GATEWAY_X`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import msgspec

from lmaas.broker_config import folders, layers
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.masked import Masked
from lmaas.producer.gateway.settings.callbacks import Callbacks, Endpoint
from lmaas.producer.gateway.settings.hooks import Hook

SECTION: Final = "gateway"
#: The SQLite file in the state folder.
STATE_FILE: Final = "state.sqlite"

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]

#: What models call that which is all right.
HARMLESS: Final = (
    "benign", "clean", "ham", "harmless", "neutral", "none", "normal", "ok", "positive", "safe",
)  # fmt: skip

#: Hosts that only the machine itself reaches.
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class GatewaySettings(
    Masked, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How the gateway is reached and what it lets in."""

    #: Where it listens.
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8080
    #: Whether callers need a key ("keys"), or whoever reaches it may do all ("open"), which is
    #: allowed only on a loopback address.
    access: Literal["keys", "open"] = "keys"
    #: Names by which browsers and clients may call it (the header Host), besides those of the
    #: address that it listens at; "*" for any, behind a proxy that checks them.
    allowed_hosts: tuple[str, ...] = ()
    #: PEM files of a certificate and its key: with them it speaks HTTPS, without them HTTP.
    tls_certificate: str | None = None
    tls_key: str | None = None
    #: Whether each request is told in the log, without its body.
    access_log: bool = False
    #: Where jobs, files and what was sent are kept: the folder holds the bodies and, without
    #: `database`, an SQLite file. None: the user's own.
    folder: str | None = None
    #: URL of PostgreSQL, which several gateways share: postgresql://user:password@host/name.
    database: str | None = None
    #: Seconds that `POST /v1/classify` waits before it makes a job of what is not answered.
    wait: _Positive = 30.0
    #: Seconds that a call may be expected to wait, as those before it show; one that would wait
    #: longer is answered 429 at once.
    busy_after: _Positive = 5.0
    #: Bytes of a JSON body, and items of one call; what is more goes into a job.
    max_body_bytes: _Count = 16 * 1024 * 1024
    max_call_items: _Count = 4096
    #: Seconds in which a body must end, or some of it must come: 1 KiB for each of them.
    body_timeout: _Positive = 30.0
    #: Seconds until a connection on which no request comes, or none that is complete, is closed;
    #: more than the proxy in front keeps its own.
    idle_timeout: _Positive = 75.0
    #: Webhooks that come in, at /hooks/NAME, and those that go out.
    hooks: dict[str, Hook] = {}
    endpoints: dict[str, Endpoint] = {}
    callbacks: Callbacks = Callbacks()
    #: Networks (10.0.0.0/8) that callbacks may go to, besides the public internet.
    allowed_networks: tuple[str, ...] = ()
    #: Bytes and rows of what is sent up as a job, decompressed.
    max_job_bytes: _Count = 16 * 1024**3
    max_job_items: _Count = 100_000_000
    #: Seconds for which results are kept after a job has ended.
    keep_results: _Positive = 7 * 24 * 3600.0
    #: Seconds for which files of batches are kept, unless their sender says otherwise, and batches.
    keep_files: _Positive = 30 * 24 * 3600.0
    #: Labels for which `/v1/moderations` flags nothing, in any case of letters.
    harmless_labels: tuple[str, ...] = HARMLESS

    @classmethod
    def load(cls, **arguments: Any) -> Self:
        """All layers together, as `Settings.load`. Raises SettingsError."""
        settings = cls(**layers.together(cls, arguments, SECTION))
        settings.check()
        return settings

    def check(self) -> None:
        """Raises SettingsError for what is right one by one and wrong together."""
        if self.tls_key and not self.tls_certificate:
            raise SettingsError("gateway.tls_key is set, and gateway.tls_certificate is not")
        if self.access == "open" and not is_loopback(self.host):
            raise SettingsError(
                f"the gateway would listen at {self.host} without keys, for everybody who reaches "
                'it: make keys (`lmaas gateway keys`) and leave access at "keys", or use a '
                "loopback address"
            )

    @property
    def state_folder(self) -> Path:
        """Where state is kept. Raises SettingsError without any folder."""
        if self.folder:
            return Path(self.folder)
        state = folders.needed(folders.state(), "the gateway's state", "set LMAAS_GATEWAY_FOLDER")
        return state / "gateway"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address of this name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK
