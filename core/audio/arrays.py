"""The array type that audio flows in."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
"""float32, shape (channels, samples), nominal range -1..1 and never clipped inside the engine."""
