"""The LSTM's weights in the kernels' layout and back: blocks of units with their four gates side by side."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import gates, gemm, team
from ..kernels.scratch import aligned
from ..simd.host import REGISTERS
from .products import NS_PER_COPY, panels_size

__all__ = ["in_blocks", "in_panels", "in_torchs_order", "rows_in_torchs_order", "stride_of"]


def stride_of(units: int, dtype: np.dtype[Any]) -> int:
    """Return the units up to whole registers: B * L."""
    lanes = REGISTERS.lanes(dtype.itemsize)
    return -(-units // lanes) * lanes


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
    out: NDArray[Any] = take(*key, shape=(panels_size(4 * stride_of(units, dtype), k, dtype),), dtype=dtype)
    team.share(
        gates.pack_gates_transposed,
        *(weight.reshape(-1), k, units, out),
        count=gemm.panels(k, dtype),
        cost=NS_PER_COPY * out.size,
    )
    return out


def in_torchs_order(blocks: NDArray[Any], units: int, out: NDArray[Any]) -> NDArray[Any]:
    """Write the rows (B * 4 * L, K) of a gradient in blocks to `out` (4H, K), and return it."""
    width = 4 * stride_of(units, out.dtype)
    team.share(
        gates.unpack_gates,
        *(blocks.reshape(-1), blocks.size // width, units, out.reshape(-1)),
        count=width // gemm.panel_width(out.dtype),
        cost=NS_PER_COPY * blocks.size,
    )
    return out


def rows_in_torchs_order(rows: NDArray[Any], units: int, out: NDArray[Any]) -> NDArray[Any]:
    """Write rows (M, B * 4 * L) in blocks to `out` (M, 4H), and return it."""
    lanes = REGISTERS.lanes(rows.itemsize)
    by_gate = rows.reshape(len(rows), -1, 4, lanes).swapaxes(1, 2).reshape(len(rows), 4, -1)
    np.copyto(out.reshape(len(rows), 4, units), by_gate[:, :, :units])
    return out
