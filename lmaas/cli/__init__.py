"""The `lmaas` command: a group whose subcommands are imported when they are called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Final

import click

from lmaas.broker_config import environment
from lmaas.broker_config.errors import LmaasError, OptionError, SettingsError
from lmaas.broker_config.extras import EXTRAS, missing
from lmaas.broker_config.settings import Settings
from lmaas.cli import descriptors, first_process, streams
from lmaas.cli.exits import Exit
from lmaas.producer.gateway.settings import SECTION, GatewaySettings
from lmaas.service import logs

#: Subcommand -> the line that `lmaas --help` shows. Each is `lmaas.cli.NAME.command`.
COMMANDS: Final = {
    "classify": "Classify texts, files or a pipe; in process or through the queue.",
    "submit": "Publish a file as a batch job and leave.",
    "jobs": "List, show, collect and cancel batch jobs.",
    "dead": "List, show, replay, export and purge what could not be answered.",
    "purge": "Remove what is older than a time, or about one person, everywhere.",
    "worker": "Serve models from the queue.",
    "gateway": "Serve HTTP: calls, jobs, webhooks.",
    "up": "Run a private broker, workers and HTTP on this machine.",
    "train": "Train a model and export it to the repository.",
    "models": "List, show, import and verify models.",
    "bench": "Measure the broker and the workers that are running.",
    "broker": "Start, declare and inspect the broker.",
    "keys": "Make and rotate the keys that payloads are sealed with.",
}


class _LazyGroup(click.Group):
    """Importing every command at every start would cost a worker a third of its start-up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"lmaas.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={
        "auto_envvar_prefix": "LMAAS",
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
)
@click.option("--debug", is_flag=True, help="Show tracebacks.", show_envvar=True)
@click.version_option(package_name="lmaas", prog_name="lmaas")
def group(debug: bool) -> None:
    """AI classifiers as a service over RabbitMQ: short jobs first, nothing lost."""
    logs.configure()
    descriptors.ensure()
    of_gateway = (f"{SECTION}_{name}" for name in GatewaySettings.__struct_fields__)
    environment.look((*Settings.__struct_fields__, *of_gateway), _is_option)


def _is_option(variable: str) -> bool:
    """Whether an option of a command has this variable; imports that command."""
    if not environment.may_be_an_option(variable):
        return False
    name = variable.removeprefix(environment.PREFIX).partition("_")[0].lower()
    command = importlib.import_module(f"lmaas.cli.{name}").command
    return variable in _variables(command, environment.PREFIX + name.upper())


def _variables(command: click.Command, prefix: str) -> set[str]:
    """Those that click reads for its options, and for those of its subcommands."""
    names = {f"{prefix}_{(option.name or '').upper()}" for option in command.params}
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            names |= _variables(each, f"{prefix}_{name.replace('-', '_').upper()}")
    return names


def main() -> None:
    """Entry point: one line for an error, a traceback only with --debug."""
    streams.prepare()
    first_process.stand_in()
    debug = "--debug" in sys.argv or bool(os.environ.get("LMAAS_DEBUG"))
    try:
        code = group.main(standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        streams.discard()
        if debug and not isinstance(error, click.ClickException):
            raise
        code = _told(error)
    sys.exit(int(code or 0))


def _told(error: BaseException) -> int:
    """Say what went wrong in one line; the exit code."""
    match error:
        case click.ClickException():
            error.show()
            return Exit.USAGE
        case click.Abort() | KeyboardInterrupt():
            click.echo("interrupted", err=True)
            return Exit.INTERRUPTED
        case LmaasError():
            logs.complain(str(error))
            wrong = isinstance(error, SettingsError | OptionError)
            return Exit.USAGE if wrong else Exit.FAILED
        case BrokenPipeError():
            pass  # the reader of our output left, as `head` does
        case ModuleNotFoundError() if (package := (error.name or "").partition(".")[0]) in EXTRAS:
            logs.complain(missing(package))
        case OSError():
            logs.complain(_refused(error))
        case _:  # the last resort: a bug
            logs.complain(f"{type(error).__name__}: {error} (--debug shows where)")
    return Exit.FAILED


def _refused(error: OSError) -> str:
    """What the system did not do, with what, and why."""
    words = error.strerror or str(error)
    if error.filename is not None:
        words = f"{os.fsdecode(error.filename)}: {words}"
    if error.errno == errno.EMFILE:
        words += f"; {descriptors.limit()}"
    return words
