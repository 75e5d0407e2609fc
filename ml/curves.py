"""How probabilities relate to what happened, as points that a page can draw.

Reliability diagrams: DeGroot and Fienberg, The Statistician 32 (1983), ten bins of equal width as in
`ml.metrics.calibration_error`.
"""

from datetime import UTC, datetime

import numpy as np

from ml.arrays import Flags, Floats
from ml.figures import Bin, Curves, Day, Decile

BINS = 10
DECILES = 10


def curves(
    *,
    failed: Flags,
    probability: Floats,
    flagged: Flags,
    started_at: Floats,
) -> Curves:
    """The points of one predictor on runs that it has not seen, one entry of each array for a run.

    `started_at` is in seconds since the epoch; days are UTC.
    """
    return Curves(
        calibration=_calibration(failed, probability),
        deciles=_deciles(failed, probability),
        days=_days(failed, flagged, started_at),
    )


def _calibration(failed: Flags, probability: Floats) -> tuple[Bin, ...]:
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    found = []
    for at in range(BINS):
        here = place == at
        if rows := int(here.sum()):
            said, happened = float(probability[here].mean()), float(failed[here].mean())
            found.append(Bin(predicted=said, observed=happened, rows=rows))
    return tuple(found)


def _deciles(failed: Flags, probability: Floats) -> tuple[Decile, ...]:
    order = np.argsort(probability, kind="stable")
    return tuple(
        Decile(least=float(probability[part[0]]), rows=len(part), failures=int(failed[part].sum()))
        for part in np.array_split(order, DECILES)
        if len(part)
    )


def _days(failed: Flags, flagged: Flags, started_at: Floats) -> tuple[Day, ...]:
    number = (started_at // 86_400).astype(np.int64)
    found = []
    for each in np.unique(number):
        here = number == each
        found.append(
            Day(
                day=datetime.fromtimestamp(int(each) * 86_400, UTC).date().isoformat(),
                rows=int(here.sum()),
                failures=int((here & failed).sum()),
                flagged=int((here & flagged).sum()),
                found=int((here & flagged & failed).sum()),
            )
        )
    return tuple(found)
