from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

class Plan:
    @property
    def largest_id(self) -> int: ...
    @property
    def needs_history(self) -> bool: ...
    def __init__(
        self,
        *,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        typical_p: float,
        epsilon_cutoff: float,
        eta_cutoff: float,
        repetition_penalty: float,
        frequency_penalty: float,
        presence_penalty: float,
        no_repeat_ngram: int,
        logit_bias: tuple[tuple[int, float], ...],
        banned_ids: tuple[int, ...],
        forced_ids: tuple[int, ...],
        end_ids: tuple[int, ...],
        min_length: int,
        max_length: int | None,
    ) -> None: ...

def rows(logits: ArrayLike) -> NDArray[Any]: ...
def greedy(logits: ArrayLike) -> Any: ...
def draw(
    logits: ArrayLike,
    plan: Plan,
    bit_generator: np.random.BitGenerator,
    history: NDArray[np.int64] | None = None,
    offsets: NDArray[np.int64] | None = None,
) -> Any: ...
def log_probabilities(
    logits: ArrayLike,
    plan: Plan,
    history: NDArray[np.int64] | None = None,
    offsets: NDArray[np.int64] | None = None,
) -> NDArray[np.floating[Any]]: ...
def score(
    logits: ArrayLike, ids: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]: ...
