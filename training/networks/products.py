"""Products of a sparse matrix with dense ones, with NumPy alone."""

from __future__ import annotations

from typing import Final

import numpy as np

from lmaas.workers.preprocess.ngrams import Floats, Numbers, Sparse

#: Numbers of a block, which then stays in the processor's cache.
BLOCK: Final = 1 << 17


class Products:
    """Multiplies with a sparse matrix, [rows, columns], and with its transpose."""

    def __init__(self, matrix: Sparse, columns: int) -> None:
        rows = np.repeat(np.arange(len(matrix)), np.diff(matrix.bounds))
        order = np.argsort(matrix.columns, kind="stable")
        counts = np.bincount(matrix.columns, minlength=columns)
        bounds = np.append(0, np.cumsum(counts)).astype(np.int64)
        self._matrix = matrix
        self._transpose = Sparse(bounds, rows[order], matrix.values[order])

    def times(self, dense: Floats) -> Floats:
        """See `product`."""
        return product(self._matrix, dense)

    def transposed(self, dense: Floats) -> Floats:
        """[rows, n] to [columns, n]."""
        return product(self._transpose, dense)


def product(matrix: Sparse, dense: Floats) -> Floats:
    """[columns, n] to [rows, n]."""
    result = np.zeros((len(matrix), dense.shape[1]), np.float32)
    filled = np.flatnonzero(np.diff(matrix.bounds))
    for rows in _blocks(filled, matrix.bounds, BLOCK // dense.shape[1]):
        first, last = matrix.bounds[rows[0]], matrix.bounds[rows[-1] + 1]
        terms = dense[matrix.columns[first:last]]
        terms *= matrix.values[first:last, None]
        result[rows] = np.add.reduceat(terms, matrix.bounds[rows] - first, axis=0)
    return result


def _blocks(filled: Numbers, bounds: Numbers, most: int) -> list[Numbers]:
    """The rows that are not empty, in runs of about `most` entries, at least a row each."""
    if not filled.size:
        return []
    run = bounds[filled] // max(most, 1)
    return np.split(filled, np.flatnonzero(np.diff(run)) + 1)
