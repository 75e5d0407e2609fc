"""Names for the arrays that everything here takes and gives: one entry for each run."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
