"""Start values of parameters: Keras's defaults. Without a generator only their shapes count, and they are zeros."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["glorot_uniform", "orthogonal", "uniform"]


def glorot_uniform(
    rng: np.random.Generator | None, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> NDArray[np.float64]:
    """Return values uniform within ``sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio 2010)."""
    return uniform(rng, shape, np.sqrt(6.0 / (fan_in + fan_out)))


def orthogonal(rng: np.random.Generator | None, rows: int, columns: int) -> NDArray[np.float64]:
    """Return a random matrix whose shorter side is orthonormal (Saxe, McClelland and Ganguli 2013)."""
    if rng is None:
        return np.zeros((rows, columns))
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # the decomposition's own signs are not uniformly distributed
    return q if rows >= columns else q.T


def uniform(rng: np.random.Generator | None, shape: tuple[int, ...], limit: float = 0.05) -> NDArray[np.float64]:
    """Return values uniform within +- `limit`."""
    return np.zeros(shape) if rng is None else rng.uniform(-limit, limit, shape)
