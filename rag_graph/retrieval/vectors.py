"""What an embedding model makes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""One vector, float32 [dimension], or some, [count, dimension]."""
