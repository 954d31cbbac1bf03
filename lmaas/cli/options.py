"""Options that are settings: `--flag` beats `LMAAS_X` beats the TOML file."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.topology import MAX_MODEL_NAME, is_model_name

if TYPE_CHECKING:
    from lmaas.workers.signing import SigningKey

F = TypeVar("F", bound=Callable[..., Any])


def setting(name: str, flag: str | None = None, *, help: str, **kwargs: Any) -> Callable[[F], F]:  # noqa: A002
    """An option for the field `name` of Settings.

    Click only shows the environment variable; `Settings.load` reads it, with the TOML file.
    """
    flag = flag or "--" + name.replace("_", "-")
    return click.option(
        flag,
        name,
        default=None,
        show_default=False,
        envvar=f"LMAAS_{name.upper()}",
        show_envvar=True,
        help=help,
        **kwargs,
    )


def models(function: F) -> F:
    """Folders of models: `--models` once for each, or several in one with `os.pathsep` between."""
    return setting(
        "models",
        help=f"Folder of models; repeat for more, or separate by {os.pathsep!r}.",
        multiple=True,
        type=click.Path(),
        callback=lambda _context, _option, given: os.pathsep.join(given) or None,
    )(function)


def broker(function: F) -> F:
    """The options of every command that talks to a broker."""
    for option in (
        setting("queue_type", help="classic or quorum.", type=click.Choice(["classic", "quorum"])),
        setting("prefix", help="First part of every queue name."),
        setting("broker_url", "--broker", help="amqp[s]://user:password@host:port/vhost"),
    ):
        function = option(function)
    return function


def lanes_of(help: str) -> Callable[[F], F]:  # noqa: A002
    """The option for models that have, or get, lanes on the broker."""
    return click.option(
        "--model", "models", multiple=True, metavar="NAME", help=help, callback=_model_names
    )


def _model_names(_context: Any, _option: Any, given: tuple[str, ...]) -> tuple[str, ...]:
    for name in given:
        if not is_model_name(name):
            raise click.BadParameter(
                f"{name!r} cannot be a model's name: that is a folder's, without /, of at most "
                f"{MAX_MODEL_NAME} bytes"
            )
    return given


pair_column = click.option(
    "--pair-column", help="Column with second texts, for models that judge two texts together."
)


min_score = click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help="What has a lower score gets the label `unsure`; of a multi-label model the score that a "
    "label needs; else as the model says.",
)


def of_files(command: F) -> F:
    """The options that say where the contents of files are: `bytes_column`, `path_column`,
    `outside`.
    """
    for option in (
        click.option(
            "--outside",
            is_flag=True,
            help="Read files outside of the folder, or of the table's, too.",
        ),
        click.option("--path-column", help="The column with paths of files: the items."),
        click.option("--bytes-column", help="Of Parquet: the column with bytes: the items."),
    ):
        command = option(command)
    return command


def only(sources: tuple[str, ...]) -> str:
    """The input of a command. Several come of a pattern that the shell has read."""
    if len(sources) > 1:
        raise click.UsageError(
            f"one input, and not {len(sources):,}; of a folder, or a pattern in quotes "
            "('reviews/*.txt'), each file is an item"
        )
    return sources[0]


def names(listed: str | None) -> tuple[str, ...] | None:
    """Columns as in `--keep a,b`."""
    if listed is None:
        return None
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def encoding(_context: click.Context, _option: click.Parameter, name: str) -> str:
    """The callback of an option that names an encoding; raises UsageError when there is none."""
    from lmaas.producer.tables import Dialect  # what reads no file does without

    try:
        Dialect(encoding=name)
    except DataError as error:
        raise click.UsageError(str(error)) from error
    return name


def dialect(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how an input file is written; the command gets a Dialect, `dialect`."""

    @functools.wraps(command)
    def with_dialect(
        *args: Any,
        delimiter: str | None,
        encoding: str | None,
        quotes: bool | None,
        sheet: str | None,
        **kwargs: Any,
    ) -> Any:
        from lmaas.producer.tables import Dialect  # what reads no file does without

        try:
            named = Dialect(delimiter, encoding, quotes, sheet)
        except DataError as error:
            raise click.UsageError(str(error)) from error
        return command(*args, dialect=named, **kwargs)

    options = (
        click.option("--delimiter", help="Between columns of CSV and TSV; else found, TSV: tab."),
        click.option(
            "--encoding", help="cp1252, utf-16, ...; else by the byte order mark, or UTF-8."
        ),
        click.option(
            "--quotes/--no-quotes",
            default=None,
            show_default=False,
            help="Whether quotes may enclose values; else yes in CSV and UTF-16, no in TSV.",
        ),
        click.option("--sheet", help="Of .xlsx, by its name; else the first."),
    )
    decorated: Callable[..., Any] = with_dialect
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def _signing_key(
    _context: click.Context, _option: click.Parameter, path: Path | None
) -> SigningKey | None:
    """Read before anything is done. Raises DataError."""
    if path is None:
        return None
    if problem := extras.lacking("cryptography"):
        raise OptionError(problem)
    from lmaas.workers.signing import SigningKey

    return SigningKey.read(path)


#: A private key, with which what the command has made or changed is signed.
sign = click.option(
    "--sign",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_signing_key,
    help="Sign it with the private key in FILE (see `lmaas models keys`).",
)
#: The same, of a command that does nothing else.
key = click.option(
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_signing_key,
    required=True,
    help="The private key (see `lmaas models keys`).",
)


def quantize(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options for smaller numbers; the command gets a Quantize or None, `quantize`."""

    @functools.wraps(command)
    def with_quantize(
        *args: Any, quantize: Any, quantize_limit: float, force: bool, **kwargs: Any
    ) -> Any:
        if quantize is None:
            return command(*args, quantize=None, **kwargs)
        from lmaas.training.recipe import Quantize

        wanted = Quantize(kind=quantize, limit=quantize_limit, force=force)
        return command(*args, quantize=wanted, **kwargs)

    options = (
        click.option(
            "--quantize",
            type=click.Choice(["int8", "fp16"]),
            help="Smaller numbers in the graph, if little is lost and it is faster here.",
        ),
        click.option(
            "--quantize-limit",
            type=click.FloatRange(0, 1),
            default=0.005,
            show_default=True,
            help="Share of right answers that may be lost by that, or of labels that may change.",
        ),
        click.option("--force", is_flag=True, help="Keep what loses more, or is no faster."),
    )
    decorated: Callable[..., Any] = with_quantize
    for option in reversed(options):
        decorated = option(decorated)
    return decorated
