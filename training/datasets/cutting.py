"""How what has no split of its own is cut: by shares of each class, always the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

VALIDATION_SHARE = 0.1
#: Share of a table or folder without a test of its own.
TEST_SHARE = 0.1
#: So many validation texts tell two networks apart.
ENOUGH = 400
#: Decides which examples validation and test take; fixed, so that figures can be compared.
SPLIT_SEED = 17


def cut(
    labels: npt.NDArray[np.int32], share: float, run: int = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices that stay and indices that are cut: `share` of each class, in runs of neighbours.

    A class of three or more gives at least one, a smaller class none.
    """
    generator = np.random.default_rng(SPLIT_SEED)
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        runs = [members[i : i + run] for i in range(0, len(members), run)]
        shuffled = np.concatenate([runs[i] for i in generator.permutation(len(runs))])
        taken[shuffled[: max(round(share * len(members)), int(len(members) >= 3))]] = True
    return np.flatnonzero(~taken), np.flatnonzero(taken)
