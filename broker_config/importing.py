"""Puts definitions into a broker that runs: over its management, or by `rabbitmqctl`."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

import msgspec

from lmaas.broker_config.errors import BrokerError, BrokerRefused, BrokerUnavailable, SettingsError
from lmaas.broker_config.private_files import write_private

#: Seconds; `rabbitmqctl` starts an Erlang VM for it, which is over a minute on a busy machine.
TIMEOUT: Final = 180.0


def over_http(url: str, definitions: dict[str, Any]) -> None:
    """By the management plugin at http[s]://user:password@host:15672, as an administrator.

    Raises SettingsError when the URL is wrong, BrokerUnavailable, and BrokerRefused.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its words may have a piece of the password
        host, port, parts = None, None, urllib.parse.urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.path:
        raise SettingsError(
            "the URL of the management should look like http://user:password@host:15672; in user "
            "and password write `/` as %2F, `@` as %40, `:` as %3A, `?` as %3F, `#` as %23, `%` as "
            "%25"
        )
    shown = f"[{host}]" if ":" in host else host
    place = f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    login = f"{_unquoted(parts.username)}:{_unquoted(parts.password)}"
    request = urllib.request.Request(  # noqa: S310 - http and https alone, see above
        f"{place}/api/definitions",
        msgspec.json.encode(definitions),
        {
            "Authorization": f"Basic {base64.b64encode(login.encode()).decode()}",
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        with error:
            raise BrokerRefused(_refusal(place, error)) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise BrokerUnavailable(
            f"no management at {place}: {reason}; `rabbitmq-plugins enable rabbitmq_management` "
            "there, or run this on the broker's machine without the URL"
        ) from error


def _unquoted(text: str | None) -> str:
    return urllib.parse.unquote(text or "guest")


def _refusal(place: str, error: urllib.error.HTTPError) -> str:
    if error.code in {401, 403}:
        return (
            f"{place} refused user or password, or the user is no administrator (HTTP {error.code})"
        )
    words = " ".join(error.read(2000).decode(errors="replace").split())
    return f"{place} refused the definitions (HTTP {error.code}): {words[:300]}"


def _hand_over(path: Path) -> None:
    """To the broker's own user, which packaged `rabbitmqctl` become when root runs them."""
    if os.geteuid() == 0:
        with contextlib.suppress(LookupError):  # there is no such user
            shutil.chown(path, "rabbitmq")
            path.parent.chmod(0o711)


def by_rabbitmqctl(definitions: dict[str, Any]) -> None:
    """On the broker's machine. Raises BrokerError."""
    program = shutil.which("rabbitmqctl")
    if program is None:
        raise BrokerError(
            "rabbitmqctl is not installed here: run this on the broker's machine, name its "
            "management by LMAAS_MANAGEMENT_URL=http://user:password@host:15672, or import there "
            "what `lmaas broker definitions --passwords-file FILE` prints"
        )
    try:
        # A file, because RabbitMQ 4.0 waits for ever for the end of a pipe.
        with tempfile.TemporaryDirectory(prefix="lmaas-users-") as folder:
            path = Path(folder, "definitions.json")
            write_private(path, msgspec.json.encode(definitions))
            _hand_over(path)
            done = subprocess.run(
                [program, "-q", "import_definitions", str(path)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerError(f"{program} import_definitions failed: {error}") from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
        raise BrokerError(
            f"{program} import_definitions failed: {words[:300]} (it needs the rights of the "
            "broker's own user: try `sudo`)"
        )
