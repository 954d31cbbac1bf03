"""What Keras and TensorFlow raise, told as LMaaS tells its errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lmaas.broker_config.errors import LmaasError, TrainingError
from lmaas.training import quietly

with quietly():
    import tensorflow as tf


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """What Keras and TensorFlow raise, as a TrainingError; theirs go over many lines."""
    try:
        yield
    except LmaasError:
        raise
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise TrainingError(
            "there is not enough memory; use smaller batches (--batch) or fewer labels or texts"
        ) from error
    except (tf.errors.OpError, ValueError, TypeError, RuntimeError) as error:
        words = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        raise TrainingError(f"the training failed: {words} (--debug shows where)") from error
