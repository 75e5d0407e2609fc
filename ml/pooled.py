"""Windows of several tenants as one set of rows: each is replayed alone, and only the rows are put together.

So the trees learn from all, while what was known of a line of work is each tenant's own: a project or a
person that two of them call the same shares nothing.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ml import replay
from ml.replay import Dataset


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Rows of several windows in the order in which they were judged, and how many came from where."""

    data: Dataset
    rows: Sequence[int]
    """Of each window, in the order in which they were given."""


def dataset(windows: Sequence[pa.Table]) -> Pooled:
    """The labelled attempts of all windows; the same windows in the same order give the same rows."""
    parts = [replay.dataset(table) for table in windows]
    rows = [len(part) for part in parts]
    if len(parts) == 1:
        return Pooled(data=parts[0], rows=rows)
    # stable: what was judged at the same moment stays in the order of the windows
    order = np.argsort(np.concatenate([part.judged_at for part in parts]), kind="stable")
    projects = [project for part in parts for project in part.projects]
    data = Dataset(
        x=np.concatenate([part.x for part in parts])[order],
        failed=np.concatenate([part.failed for part in parts])[order],
        judged_at=np.concatenate([part.judged_at for part in parts])[order],
        started_at=np.concatenate([part.started_at for part in parts])[order],
        finished_at=np.concatenate([part.finished_at for part in parts])[order],
        red_before=np.concatenate([part.red_before for part in parts])[order],
        has_history=np.concatenate([part.has_history for part in parts])[order],
        projects=[projects[int(place)] for place in order],
    )
    return Pooled(data=data, rows=rows)
