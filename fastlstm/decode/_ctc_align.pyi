import numpy as np
from numpy.typing import NDArray

def viterbi(
    log_probs: NDArray[np.float32] | NDArray[np.float64],
    ids: NDArray[np.int32],
    blank: int,
    path: NDArray[np.int32],
) -> float: ...
