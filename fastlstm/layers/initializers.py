"""Start values of parameters, by Keras's names. Without a generator only their shapes count, and they are zeros."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

__all__ = ["INITIALIZERS", "checked_initializer", "glorot_uniform", "initial", "orthogonal", "uniform"]

Rng = np.random.Generator | None


def glorot_uniform(rng: Rng, shape: tuple[int, ...], fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Return values uniform within ``sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio 2010)."""
    return uniform(rng, shape, np.sqrt(6.0 / (fan_in + fan_out)))


def orthogonal(rng: Rng, rows: int, columns: int) -> NDArray[np.float64]:
    """Return a random matrix whose shorter side is orthonormal (Saxe, McClelland and Ganguli 2013)."""
    if rng is None:
        return np.zeros((rows, columns))
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # the decomposition's own signs are not uniformly distributed
    return q if rows >= columns else q.T


def uniform(rng: Rng, shape: tuple[int, ...], limit: float = 0.05) -> NDArray[np.float64]:
    """Return values uniform within +- `limit`."""
    return np.zeros(shape) if rng is None else rng.uniform(-limit, limit, shape)


def _normal(rng: Rng, shape: tuple[int, ...], deviation: float = 0.05) -> NDArray[np.float64]:
    return np.zeros(shape) if rng is None else rng.normal(0.0, deviation, shape)


def _orthogonal(rng: Rng, shape: tuple[int, ...], fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Return a matrix (rows, all other axes) as `orthogonal` makes it, in this shape."""
    return np.zeros(shape) if len(shape) < 2 else orthogonal(rng, shape[0], math.prod(shape[1:])).reshape(shape)


def _identity(rng: Rng, shape: tuple[int, ...], fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Return the identity for each gate: of (G * K, K), G of them."""
    eye = np.eye(shape[-1])
    return np.zeros(shape) if len(shape) < 2 else np.tile(eye, (-(-shape[0] // len(eye)), 1))[: shape[0]]


INITIALIZERS: dict[str, Callable[[Any, tuple[int, ...], int, int], NDArray[np.float64]]] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": lambda rng, shape, fan_in, fan_out: _normal(rng, shape, np.sqrt(2.0 / (fan_in + fan_out))),
    "he_uniform": lambda rng, shape, fan_in, fan_out: uniform(rng, shape, np.sqrt(6.0 / fan_in)),
    "he_normal": lambda rng, shape, fan_in, fan_out: _normal(rng, shape, np.sqrt(2.0 / fan_in)),
    "lecun_uniform": lambda rng, shape, fan_in, fan_out: uniform(rng, shape, np.sqrt(3.0 / fan_in)),
    "lecun_normal": lambda rng, shape, fan_in, fan_out: _normal(rng, shape, np.sqrt(1.0 / fan_in)),
    "random_uniform": lambda rng, shape, fan_in, fan_out: uniform(rng, shape),
    "random_normal": lambda rng, shape, fan_in, fan_out: _normal(rng, shape),
    "orthogonal": _orthogonal,
    "identity": _identity,
    "zeros": lambda rng, shape, fan_in, fan_out: np.zeros(shape),
    "ones": lambda rng, shape, fan_in, fan_out: np.ones(shape),
}
"""Keras's initializers. Fans count a weight's columns and rows, of all gates together, as in Keras."""


def checked_initializer(kind: str, word: str, name: object) -> str:
    """Return the initializer's name that was passed as `word`; raise OptionError for one that is not known."""
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise OptionError(f"{kind}: {word}={name!r}; expected one of {', '.join(INITIALIZERS)}")
    return name


def initial(name: str, rng: Rng, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return start values for a parameter (rows, columns), (rows,), or (filters, features, taps) of a convolution."""
    return INITIALIZERS[name](rng, shape, *_fans(shape))


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many values go into each unit of a parameter, and how many units each value goes to."""
    if len(shape) < 3:
        return shape[-1], shape[0]
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps
