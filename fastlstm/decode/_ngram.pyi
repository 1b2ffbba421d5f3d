import numpy as np
from numpy.typing import NDArray

SLOT: np.dtype[np.void]

def pack_arcs(
    state: NDArray[np.int32],
    symbol: NDArray[np.int32],
    weight: NDArray[np.float32],
    target: NDArray[np.int32],
) -> NDArray[np.void]: ...
def child(slots: NDArray[np.void], state: int, symbol: int) -> int: ...

class NGramBuilder:
    def __init__(self, highest: int) -> None: ...
    def add(
        self, ids: NDArray[np.int32], weight: NDArray[np.float32], backoff: NDArray[np.float32], miss: float
    ) -> int: ...
    def finish(self) -> tuple[NDArray[np.void], NDArray[np.float32], NDArray[np.int32]]: ...

def score(
    slots: NDArray[np.void],
    backoff: NDArray[np.float32],
    suffix: NDArray[np.int32],
    miss: float,
    state: int,
    symbols: NDArray[np.int32],
    weights: NDArray[np.float64],
) -> int: ...
