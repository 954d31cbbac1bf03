"""The options of `lmaas train` that say what is learnt from, and how; each group is one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lmaas.broker_config import folders
from lmaas.broker_config.messages import LABEL_SEPARATOR
from lmaas.cli import options
from lmaas.producer.tables import Dialect
from lmaas.producer.tables.places import FORMATS

if TYPE_CHECKING:
    from lmaas.training.datasets.dataset import Dataset
    from lmaas.training.recipe import Recipe

_Command = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is learnt from, and how it is to be read: the options, by their names."""

    #: None: IMDB, from its authors.
    data: Path | None
    test_data: Path | None
    hold_out: str | None
    text_column: str | None
    bytes_column: str | None
    path_column: str | None
    outside: bool
    label_column: str | None
    normalize_labels: bool
    multi_label: bool
    label_separator: str | None
    file_format: str | None
    dialect: Dialect

    def __post_init__(self) -> None:
        """Raises UsageError for options that do not go together."""
        if self.test_data and not self.data:
            raise click.UsageError("--test-data goes with --data; IMDB has a test split of its own")
        named = {
            "--bytes-column": self.bytes_column,
            "--path-column": self.path_column,
            "--text-column": self.text_column,
        }
        given = [option for option, column in named.items() if column is not None]
        if len(given) > 1:
            raise click.UsageError(f"{' and '.join(given)} say what is learnt from; give one")
        if (self.bytes_column or self.path_column) and not self.data:
            raise click.UsageError(f"{given[0]} goes with --data; IMDB is no table")
        if self.test_data and self.hold_out:
            raise click.UsageError(
                "--test-data and --hold-out both say what to test with; give one"
            )

    def __str__(self) -> str:
        return str(self.data or "IMDB, from its authors")

    def read(self) -> Dataset:
        """Raises DataError."""
        from lmaas.training import imdb
        from lmaas.training.datasets.loading import load_dataset
        from lmaas.training.media_tables import Contents

        contents = None
        if self.bytes_column is not None or self.path_column is not None:
            contents = Contents(data=self.bytes_column, path=self.path_column, outside=self.outside)
        return load_dataset(
            self.data or imdb.download(_cache()),
            test=self.test_data,
            text=self.text_column,
            label=self.label_column,
            format=self.file_format,
            dialect=self.dialect,
            normalize=self.normalize_labels,
            hold_out=self.hold_out,
            separator=self.label_separator or (LABEL_SEPARATOR if self.multi_label else None),
            contents=contents,
        )

    def is_imdb(self, dataset: Dataset) -> bool:
        """Whether the data set is that of IMDB's authors, in their archive or folder."""
        data = self.data
        archived = data is None or data.is_dir() or data.name.endswith((".tar.gz", ".tgz"))
        return dataset.kind == "text" and dataset.name == "imdb" and archived


def _cache() -> Path:
    return folders.needed(folders.cache(), "a download", "give --data, or set XDG_CACHE_HOME")


def _recipe(
    *,
    encoder: Path | None,
    pooling: str | None,
    unfreeze: int | None,
    runs: bool | None,
    epochs: int | None,
    batch: int | None,
    image_size: int | None,
    no_mirror: bool,
    activation: str | None,
    optimizer: str | None,
    loss: str | None,
    learning_rate: float | None,
    seed: int | None,
) -> Recipe:
    """Of the options that were given. Raises UsageError for those that do not go together."""
    from lmaas.training.recipe import Recipe

    if (unfreeze or pooling) and not encoder:
        raise click.UsageError("--pooling and --unfreeze go with --encoder")
    values: dict[str, Any] = {
        "encoder": str(encoder or ""),
        "pooling": pooling,
        "unfreeze": unfreeze,
        "runs": runs,
        "epochs": epochs,
        "batch": batch,
        "side": image_size,
        "mirrored": not no_mirror,
        "activation": activation,
        "optimizer": optimizer,
        "loss": loss,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    return Recipe(**{name: value for name, value in values.items() if value is not None})


def _grouped(name: str, make: Callable[..., Any], *given: Any) -> Callable[[_Command], _Command]:
    """A decorator: of what these options say the command gets one value, `name`."""
    parts = list(inspect.signature(make).parameters)

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_group(**values: Any) -> Any:
            own = {part: values.pop(part) for part in parts}
            return command(**{name: make(**own)}, **values)

        decorated: _Command = with_group
        for option in reversed(given):
            decorated = option(decorated)
        return decorated

    return decorate


#: The command gets a Source, `source`.
of_data: Final = _grouped(
    "source",
    Source,
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Any file that `lmaas classify` reads, a folder or archive with a folder of pictures "
        "or sounds for each class, or the archive or folder of IMDB or of the Free Spoken Digit "
        "Dataset.  [IMDB, downloaded]",
    ),
    click.option(
        "--test-data", type=click.Path(path_type=Path), help="File or folder with the test split."
    ),
    click.option(
        "--hold-out",
        metavar="PATTERN",
        help="Test with the pictures or sounds whose names match, and train on all others: "
        "'*_anna_*'.",
    ),
    click.option("--text-column", help="Column with the texts.  [text]", show_envvar=True),
    options.of_files,
    click.option(
        "--label-column", help="Column with the labels.  [label, or the other one of two]"
    ),
    click.option(
        "--normalize-labels",
        is_flag=True,
        help="Labels that differ only in case or blanks become the most frequent of them.",
    ),
    click.option(
        "--multi-label",
        is_flag=True,
        help="A row may have several labels, `a;b` in a cell, or none. A column of lists, in JSON "
        "Lines or Parquet, is so by itself.",
    ),
    click.option(
        "--label-separator", metavar="TEXT", help="What is between several labels of a cell.  [;]"
    ),
    click.option("--format", "file_format", type=click.Choice(sorted(set(FORMATS.values())))),
    options.dialect,
)
#: The command gets a Recipe, `recipe`.
of_recipe: Final = _grouped(
    "recipe",
    _recipe,
    click.option(
        "--encoder",
        type=click.Path(path_type=Path),
        help="Pretrained encoder of the BERT family: a folder, or its name on the Hugging Face "
        "hub, perhaps with @REVISION. For pictures a model with model.onnx, or a version of "
        "LMaaS.",
    ),
    click.option(
        "--pooling",
        type=click.Choice(["mean", "cls"]),
        help="One row a text: the mean of its tokens', or that of [CLS].  [as its folder says]",
    ),
    click.option(
        "--unfreeze",
        metavar="N",
        type=click.IntRange(1),
        help="Train the last N blocks of the encoder as well; more than it has: all of it. Takes "
        "minutes to hours.",
    ),
    click.option(
        "--runs/--no-runs",
        default=None,
        help="Whether ngram and gap learn from single sentences and runs of 2 or 3 as well.  "
        "[if no validation text is lost by it; of IMDB they do]",
    ),
    click.option("--epochs", type=click.IntRange(1), help="At most so many."),
    click.option("--batch", type=click.IntRange(1), help="Texts, pictures or sounds a step."),
    click.option("--image-size", type=click.IntRange(8, 512), help="Pixels a side of pictures."),
    click.option(
        "--no-mirror", is_flag=True, help="Pictures mean something else in a mirror, as digits do."
    ),
    click.option("--activation", type=click.Choice(["sigmoid", "relu", "tanh"]), help="[relu]"),
    click.option("--optimizer", type=click.Choice(["sgd", "adam"]), help="[adam]"),
    click.option(
        "--loss",
        type=click.Choice(["crossentropy", "mse"]),
        help="mse is the squared error of the probabilities.  [crossentropy]",
    ),
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, min_open=True),
        help="[0.001; with sgd 0.1; on an encoder 0.03; of pictures 0.003]",
    ),
    click.option("--seed", type=int, help="Decides every random choice."),
)
