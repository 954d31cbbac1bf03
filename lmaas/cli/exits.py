"""Exit codes of the `lmaas` command, with names."""

from enum import IntEnum


class Exit(IntEnum):
    #: Everything that was asked for succeeded.
    OK = 0
    #: Nothing could be done, because of what is there and what is not: a file, a column, a model, a
    #: broker. The reason is on standard error.
    FAILED = 1
    #: The command line or a setting is wrong by itself, whatever files and brokers hold.
    USAGE = 2
    #: Some items were answered with an error, the others with a label.
    SOME_FAILED = 3
    #: Every item was answered with an error.
    ALL_FAILED = 4
    #: Stopped by Ctrl-C or a signal; `--resume` continues where that is possible.
    INTERRUPTED = 130


def of_items(total: int, failed: int) -> Exit:
    """The exit code of a command that answered `total` items, `failed` of them with an error."""
    if not failed:
        return Exit.OK
    return Exit.ALL_FAILED if failed == total else Exit.SOME_FAILED
