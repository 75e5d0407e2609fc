"""How sure a measured number is: bootstrap intervals over blocks of rows that belong together.

Percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), §13; blocks (days, say),
since failures come in clusters and rows of one cluster are no independent observations: Künsch, Annals of
Statistics 17 (1989).
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]


def bootstrap(
    statistic: Callable[[Rows], float],
    blocks: Sequence[Hashable],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of `statistic`, which gets the numbers of the drawn rows; `blocks` names each row's block.

    Draws for which the statistic is not a number (no failure was drawn, say) do not count.
    """
    members: dict[Hashable, list[int]] = {}
    for row, block in enumerate(blocks):
        members.setdefault(block, []).append(row)
    groups = [np.array(rows, dtype=np.intp) for rows in members.values()]
    chance = np.random.default_rng(seed)
    found = [
        statistic(np.concatenate([groups[each] for each in chance.integers(len(groups), size=len(groups))]))
        for _ in range(draws)
    ]
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
