"""The `lmaas` command: a group whose subcommands are imported when they are called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

import click

from broker_config.errors import LmaasError, SettingsError
from lmaas.cli import logs
from lmaas.cli.exits import Exit

#: Subcommand -> the line that `lmaas --help` shows. Each is `lmaas.cli.NAME.command`.
COMMANDS: Final = {
    "classify": "Classify texts, files or a pipe; in process or through the queue.",
    "submit": "Publish a file as a batch job and leave.",
    "jobs": "List, follow, collect and cancel batch jobs.",
    "worker": "Serve models from the queue.",
    "up": "Run a private broker and workers on this machine.",
    "train": "Train a model and export it to the repository.",
    "models": "List, show, import and verify models.",
    "broker": "Start, declare and inspect the broker.",
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
@click.version_option(package_name="lmaas")
def group(debug: bool) -> None:
    """AI classifiers as a service over RabbitMQ: short jobs first, nothing lost."""
    logs.configure()


def main() -> None:
    """Entry point: one line for an error, a traceback only with --debug."""
    debug = "--debug" in sys.argv or bool(os.environ.get("LMAAS_DEBUG"))
    try:
        code = group.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = Exit.INTERRUPTED
    except LmaasError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        code = Exit.USAGE if isinstance(error, SettingsError) else Exit.FAILED
    except BrokenPipeError:
        # The reader of our output left, as `head` does; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.FAILED
    except Exception as error:  # the last resort: a bug, told in one line
        if debug:
            raise
        click.echo(f"error: {type(error).__name__}: {error} (--debug shows where)", err=True)
        code = Exit.FAILED
    sys.exit(int(code or 0))
