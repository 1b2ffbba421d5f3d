"""The LSTM's steps with a mask on ``h_prev``: one kernel call a step, the mask applied between.

``a = W_ih x + b + W_hh (mask * h_prev)``: a rare path, so it borrows the kernels of whole sequences for single steps.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import lstm as kernels
from ..kernels.lstm_back import backward
from .products import times

__all__ = ["backward_masked", "forward_masked"]


def _steps(batch_sizes: NDArray[np.int64]) -> list[tuple[slice, slice]]:
    """Return, for each step, the rows of ``hidden`` before it and after it (row n is h0 of sequence n)."""
    starts = np.concatenate(([0], batch_sizes[0] + np.concatenate(([0], np.cumsum(batch_sizes)))))
    return [
        (slice(starts[t], starts[t] + n), slice(starts[t + 1], starts[t + 1] + n)) for t, n in enumerate(batch_sizes)
    ]


def forward_masked(
    gates: NDArray[Any],
    hidden: NDArray[Any],
    cells: NDArray[Any],
    batch_sizes: NDArray[np.int64],
    recurrent: NDArray[Any],
    mask: NDArray[Any],
) -> None:
    """Do what ``kernels.lstm.forward`` does with ``h_prev`` masked; `mask` is (N, H)."""
    count = int(batch_sizes[0])
    for before, after in _steps(batch_sizes):
        n = before.stop - before.start
        h = np.concatenate([hidden[before] * mask[:n], hidden[after]])
        c = np.concatenate([cells[before], cells[after]])
        rows = slice(after.start - count, after.stop - count)
        kernels.forward(gates[rows], h, c, mask.shape[1], np.array([n]), recurrent, 0, n)
        hidden[after], cells[after] = h[n:], c[n:]


def backward_masked(
    gates: NDArray[Any],
    dy: NDArray[Any],
    batch_sizes: NDArray[np.int64],
    hidden: NDArray[Any],
    cells: NDArray[Any],
    dc: NDArray[Any],
    transposed: NDArray[Any],
    zeros: NDArray[Any],
    mask: NDArray[Any],
    dh0: NDArray[Any],
) -> NDArray[Any]:
    """Do what ``kernels.lstm_back.backward`` does with ``h_prev`` masked, and fill `dh0` (N, H).

    Returns ``hidden`` with every h masked: what the recurrent products read.
    """
    count = int(batch_sizes[0])
    masked = np.empty_like(hidden)
    through = np.zeros_like(dh0)  # gradient of h by way of the step after
    for before, after in reversed(_steps(batch_sizes)):
        n = before.stop - before.start
        masked[before] = hidden[before] * mask[:n]
        rows = slice(after.start - count, after.stop - count)
        dh = dy[rows] + through[:n]
        c = np.concatenate([cells[before], cells[after]])
        backward(gates[rows], dh, mask.shape[1], np.array([n]), c, dc, transposed, np.zeros_like(dc), 0, n)
        times(gates[rows], transposed, zeros, through[:n])
        through[:n] *= mask[:n]
    dh0[...] = through
    return masked
