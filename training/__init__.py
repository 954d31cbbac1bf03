"""Trains classifiers and exports them into the model repository.

`training.datasets` reads examples, `training.train.train` does the rest. TensorFlow is imported by
the modules that need it (they call `quietly` first), never by this one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep TensorFlow's start-up chatter off the terminal; what it wrote comes out on an error.

    Its C++ side writes to the file descriptor, before any of its settings is looked at. What it
    warns of later, as of a network that is one of several in a process, is nothing to a user.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except BaseException:
            chatter.seek(0)
            os.write(terminal, chatter.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
