"""The LSTM's weights in the kernels' layout and back: blocks of units with their four gates side by side."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import gates, gemm, team
from ..kernels.scratch import aligned
from ..simd.host import REGISTERS
from .products import NS_PER_COPY, panels_size

__all__ = ["in_blocks", "in_panels", "in_torchs_order", "rows_in_torchs_order", "span_of", "stride_of"]


def stride_of(units: int, dtype: np.dtype[Any]) -> int:
    """Return the units up to whole registers: B * L."""
    lanes = REGISTERS.lanes(dtype.itemsize)
    return -(-units // lanes) * lanes


def span_of(units: int, dtype: np.dtype[Any]) -> int:
    """Return the units up to halves of a register, S: a row of gates has four times as many columns."""
    return gates.span_of(units, REGISTERS.lanes(dtype.itemsize))


def in_blocks(weight: NDArray[Any], units: int) -> NDArray[Any]:
    """Return a weight (4H, K), or a bias (4H,), in blocks and in the units of the gates."""
    k, width = weight.size // (4 * units), 4 * stride_of(units, weight.dtype)
    out = aligned((width * k,), weight.dtype)
    team.share(
        gates.pack_gates,
        *(weight.reshape(-1), k, units, gates.GATE_UNITS, out),
        count=width // gemm.panel_width(weight.dtype),
        cost=NS_PER_COPY * out.size,
    )
    return out


def in_panels(weight: NDArray[Any], units: int, take: Any, *key: Any) -> NDArray[Any]:
    """Return a weight (4H, K) as the right operand of a product over gates; `take` gives the memory."""
    k, dtype = weight.shape[1], weight.dtype
    out: NDArray[Any] = take(*key, shape=(panels_size(4 * span_of(units, dtype), k, dtype),), dtype=dtype)
    team.share(
        gates.pack_gates_transposed,
        *(weight.reshape(-1), k, units, out),
        count=gemm.panels(k, dtype),
        cost=NS_PER_COPY * out.size,
    )
    return out


def in_torchs_order(blocks: NDArray[Any], units: int, out: NDArray[Any], first_column: int = 0) -> NDArray[Any]:
    """Write the rows (4 * S, any) of a gradient in blocks to `out` (4H, K), from this column on, and return it."""
    stride = blocks.size // len(blocks)
    team.share(
        gates.unpack_gates,
        *(blocks.reshape(-1), first_column, stride, out.size // (4 * units), units, out.reshape(-1)),
        count=4 * stride_of(units, out.dtype) // gemm.panel_width(out.dtype),
        cost=NS_PER_COPY * out.size,
    )
    return out


def rows_in_torchs_order(rows: NDArray[Any], units: int, out: NDArray[Any]) -> NDArray[Any]:
    """Write rows (M, 4 * S) in blocks to `out` (M, 4H), and return it."""
    lanes, count = REGISTERS.lanes(rows.itemsize), len(rows)
    by_gate = out.reshape(count, 4, units)
    whole = units // lanes * lanes
    blocks = rows[:, : 4 * whole].reshape(count, -1, 4, lanes).swapaxes(1, 2)
    by_gate[:, :, :whole] = blocks.reshape(count, 4, whole)
    by_gate[:, :, whole:] = rows[:, 4 * whole :].reshape(count, 4, -1)[:, :, : units - whole]
    return out
