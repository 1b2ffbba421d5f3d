import numpy as np
from numpy.typing import NDArray

class Beam:
    labels: int
    width: int
    frames: int
    blank: int
    token_min_logp: float
    beam_min_logp: float
    scorers: object
    def __init__(
        self,
        labels: int,
        width: int,
        blank: int,
        token_min_logp: float,
        beam_min_logp: float,
        scorers: object,
    ) -> None: ...
    def reset(self) -> None: ...
    def clone(self) -> Beam: ...
    def push_float32(self, log_probs: NDArray[np.float32]) -> tuple[int, int, int]: ...
    def push_float64(self, log_probs: NDArray[np.float64]) -> tuple[int, int, int]: ...
    def results(
        self, n_best: int, final: bool
    ) -> list[tuple[float, float, list[int], list[int], list[int], list[float]]]: ...
    def memory(self) -> tuple[int, int, int, int]: ...
    def check(self) -> None: ...
