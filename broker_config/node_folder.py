"""What lies in the folder of a private RabbitMQ, and how its server is told to stay in it.

`node.json` (what to know the next time), `rabbitmq.conf`, `definitions.json` (users of roles, with
hashes of their passwords), `conf.d/*.conf` (the user's own), `data/`, `log/`, `console.log` (what
the server wrote before its log was open). Passwords are in the first two only, which nobody else
can read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from lmaas.broker_config.errors import LocalNodeError
from lmaas.broker_config.masked import Masked
from lmaas.broker_config.passwords import made_up
from lmaas.broker_config.private_files import write_private
from lmaas.broker_config.rights import account, user_definitions, users
from lmaas.broker_config.topology import Names

#: May do everything there.
USER: Final = "lmaas"
#: For the balance "random"; it comes with the server.
PLUGIN: Final = "rabbitmq_random_exchange"

_RECORD: Final = "node.json"
_DEFINITIONS: Final = "definitions.json"
CONSOLE: Final = "console.log"
_DECORATION: Final = ("", "BOOT FAILED")

_CONFIGURATION: Final = """\
listeners.tcp.local = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
loopback_users.{user} = true
classic_queue.default_version = 2
# Bodies stay with their queues. The store that queues share for larger ones (by default from 4,096
# bytes on) can keep a queue waiting for ever after a restart of RabbitMQ 3.10.
queue_index_embed_msgs_below = 2000000
# The default, 50 MB, lets a node fill the disk; there, messages are lost.
disk_free_limit.absolute = 512MB
log.console = false
log.connection.level = warning
log.file.rotation.size = 5242880
log.file.rotation.count = 1
"""


class Record(Masked, msgspec.Struct, kw_only=True):
    """`node.json`: what has to be known of a folder the next time."""

    password: str
    #: User of a role -> password.
    passwords: dict[str, str] = {}
    #: The data are kept under it. Only the nodes of one epmd need different ones.
    name: str = "lmaas@localhost"
    amqp_port: int = 0
    distribution_port: int = 0
    epmd_port: int = 0
    #: Pid -> when it started, of the processes of the last start.
    processes: dict[int, str] = {}


def read_record(folder: Path) -> Record:
    """What the last start left, or a new record with a random password.

    Raises LocalNodeError when it is damaged.
    """
    path = folder / _RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record(password=made_up())
    except (OSError, msgspec.DecodeError) as error:
        raise LocalNodeError(
            f"{path} cannot be read ({error}); it holds the passwords of this folder's messages: "
            "restore it, or choose another folder"
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Whole or not at all."""
    write_private(folder / _RECORD, msgspec.json.encode(record))


def write_cookie(folder: Path, cookie: str) -> None:
    """The secret of a cluster; a node that is alone makes one for itself."""
    write_private(folder / ".erlang.cookie", cookie.encode())


def prepare(folder: Path, record: Record, prefix: str | None = None) -> None:
    """Writes all that the server reads at its start.

    It gets a user for each role in the installation of `prefix`, if that is given.
    """
    configuration = _CONFIGURATION.format(
        port=record.amqp_port, user=USER, password=record.password
    )
    if prefix is not None:
        record.passwords = {one.name: made_up() for one in users()} | record.passwords
    # The record is first: once the server has made its users, passwords must not be forgotten.
    write_record(folder, record)
    if prefix is not None:
        content = msgspec.json.encode(_definitions(record, Names(prefix)))
        write_private(folder / _DEFINITIONS, content)
        # The server runs in the folder.
        configuration += f"load_definitions = {_DEFINITIONS}\n"
    write_private(folder / "rabbitmq.conf", configuration.encode())
    (folder / "enabled_plugins").write_text(f"[{PLUGIN}].\n")
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / CONSOLE).write_bytes(b"")


def _definitions(record: Record, names: Names) -> dict[str, Any]:
    """Users and rights. A server that has definitions makes neither a user nor a vhost itself."""
    found = user_definitions(names, users(), record.passwords)
    found["vhosts"] = [{"name": "/"}]
    found["users"].append(account(USER, record.password, ["administrator"]))
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    found["permissions"].append({"user": USER, "vhost": "/", **everything})
    return found


def configure(folder: Path, name: str, configuration: str) -> None:
    """Puts a file of more configuration into `conf.d`, for the next start."""
    (folder / "conf.d").mkdir(parents=True, exist_ok=True)
    (folder / "conf.d" / f"{name}.conf").write_text(configuration)


def environment(folder: Path, record: Record) -> dict[str, str]:
    """The server's environment: nothing of the system's RabbitMQ, nor of the caller's Erlang."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RABBITMQ_", "ERL_", "LMAAS_"))
    }
    return inherited | {
        "HOME": str(folder),  # of the cookie
        "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": record.name,
        "RABBITMQ_DIST_PORT": str(record.distribution_port),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONFIG_FILES": str(folder / "conf.d" / "*.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # The script then becomes the VM, so that its pid is the VM's (with -noinput, as always).
        "RABBITMQ_ALLOW_INPUT": "1",
        "ERL_EPMD_PORT": str(record.epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # Ours is the only epmd: a VM that finds none must not leave a daemon behind.
        "ERL_FLAGS": "-start_epmd false",
        "ERL_CRASH_DUMP_SECONDS": "0",
    }


def console(folder: Path) -> str:
    """What the server of the last start has written to its console so far."""
    try:
        return (folder / CONSOLE).read_text(errors="replace")
    except OSError:
        return ""


def complaint(console: str) -> str:
    """The errors in a server's output from the first one on, which is the cause; else its end."""
    if re.search(r"\benospc\b|no space left on device", console):
        return "no space is left on the disk of its folder"
    lines = [line.strip() for line in console.splitlines() if line.strip(" =")]
    told = [line.partition("> ")[2].strip() for line in lines if "[error]" in line]
    if "BOOT FAILED" in lines and not told:
        told = lines[lines.index("BOOT FAILED") + 1 :]
    words = " ".join(line for line in told or lines[-3:] if line.strip(" =") not in _DECORATION)
    return words[:300]
