"""Start values of parameters: Keras's defaults."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["glorot_uniform", "orthogonal", "uniform"]


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Return values uniform within ``sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio 2010)."""
    limit = np.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape)


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Return a random matrix whose shorter side is orthonormal (Saxe, McClelland and Ganguli 2013)."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # the decomposition's own signs are not uniformly distributed
    return q if rows >= columns else q.T


def uniform(rng: np.random.Generator, shape: tuple[int, ...], limit: float = 0.05) -> NDArray[np.float64]:
    """Return values uniform within +- `limit`."""
    return rng.uniform(-limit, limit, shape)
