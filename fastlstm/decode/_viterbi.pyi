import numpy as np
from numpy.typing import NDArray

def best_path(
    scores: NDArray[np.float64],
    transitions: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
) -> tuple[float, NDArray[np.int64]]: ...
def n_best_paths(
    scores: NDArray[np.float64],
    transitions: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    k: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
def log_partition(
    scores: NDArray[np.float64],
    transitions: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
) -> float: ...
