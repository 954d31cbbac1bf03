"""`lmaas broker certs`: a private authority, and certificates of it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, OptionError

if TYPE_CHECKING:
    from lmaas.broker_config.certificates import Authority, Use


@click.command("certs")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("localhost", "127.0.0.1", "::1"),
    help="Name or address of the broker and of the gateway; repeat for more.  [this machine]",
)
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME",
    default=("operator", "worker", "producer", "gateway", "monitor"),
    help="User of the broker that gets a certificate; repeat for more.  "
    "[operator, worker, producer, gateway, monitor]",
)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Until expiry."
)
def command(folder: Path, hosts: tuple[str, ...], users: tuple[str, ...], days: int) -> None:
    """Make an authority in FOLDER, and certificates for the broker, its users and HTTP.

    Nothing that is there is overwritten: a certificate that has expired is made anew once it and
    its key are deleted, by the same authority.
    """
    if problem := extras.lacking("cryptography"):
        raise OptionError(problem)
    for user in users:
        if "/" in user or user.startswith("."):
            raise OptionError(f"--user {user!r} would be no plain name of a file")
    from lmaas.broker_config.certificates import Authority

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error
    authority = Authority.at(folder)
    click.echo(f"{folder / 'ca.pem'}: the authority (tls_ca); keep ca.key to yourself")
    for name in ("broker", "http"):
        _issue(authority, folder, name, name, days, "server", hosts)
    for user in users:
        _issue(authority, folder, f"user-{user}", user, days, "client")
    click.echo(_CONFIGURATION.format(folder=folder.absolute()))


def _issue(
    authority: Authority,
    folder: Path,
    file: str,
    name: str,
    days: int,
    use: Use,
    hosts: tuple[str, ...] = (),
) -> None:
    from lmaas.broker_config.certificates import Pair

    pair = Pair.named(folder, file)
    expires = pair.expires()
    kept = expires is not None
    expires = expires or authority.issue(pair, name, days, use, hosts)
    state = "expired" if expires < datetime.datetime.now(datetime.UTC) else "expires"
    click.echo(f"{pair.certificate}: {'kept, ' if kept else ''}{state} {expires:%Y-%m-%d}")
    if _were_named("hosts") and (lacking := pair.lacks(hosts)):
        click.echo(
            f"{pair.certificate}: not for {', '.join(lacking)}: delete it and {pair.key}, and run "
            "this again with every --host",
            err=True,
        )


def _were_named(option: str) -> bool:
    """Whether the caller has given this option, and not its default."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not ParameterSource.DEFAULT


_CONFIGURATION = """
In rabbitmq.conf (the plugin rabbitmq_auth_mechanism_ssl, and an own copy of broker.key, which the
broker has to read):
  listeners.tcp = none
  listeners.ssl.default = 5671
  ssl_options.cacertfile = {folder}/ca.pem
  ssl_options.certfile = {folder}/broker.pem
  ssl_options.keyfile = {folder}/broker.key
  ssl_options.verify = verify_peer
  ssl_options.fail_if_no_peer_cert = true
  ssl_options.versions.1 = tlsv1.3
  ssl_options.versions.2 = tlsv1.2
  auth_mechanisms.1 = EXTERNAL
  ssl_cert_login_from = common_name
For a worker:
  LMAAS_BROKER_URL=amqps://HOST:5671/ LMAAS_BROKER_AUTH=certificate LMAAS_BROKER_USER=worker
  LMAAS_TLS_CA={folder}/ca.pem
  LMAAS_TLS_CERTIFICATE={folder}/user-worker.pem LMAAS_TLS_KEY={folder}/user-worker.key\
"""
