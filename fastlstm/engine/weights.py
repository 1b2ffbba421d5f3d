"""The weights of a recurrence in the kernels' layout, and gradients back in torch's order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels import gemm
from ..kernels.recurrent import layout
from ..runtime import config
from ..runtime.pool import parallel_for
from ..runtime.workspace import aligned
from .geometry import Geometry
from .products import padded_bias, panels_of, panels_size

__all__ = [
    "BackwardWeights",
    "PackedWeights",
    "as_record",
    "in_panels",
    "in_torch_order",
    "pack_backward",
    "pack_weights",
    "rows_in_torch_order",
]

Params = Mapping[str, NDArray[Any]]
"""Parameters by torch's names: ``weight_ih_l0`` and so on; ``weight_hr_l0`` of a projection; the peephole weights
``weight_ci_l0``, ``weight_cf_l0``, ``weight_co_l0``."""


class PackedWeights(NamedTuple):
    """What inference and the forward pass read; `kernels.recurrent.sequence` says how it is laid out."""

    input: NDArray[Any]
    bias: NDArray[Any]
    recurrent: NDArray[Any]
    recurrent_bias: NDArray[Any]
    diagonals: NDArray[Any]
    second: NDArray[Any]


def as_record(weights: Sequence[NDArray[Any]]) -> PackedWeights:
    """Return weights as kernels of inference take them by name: a plain cell's are the first three."""
    none = weights[1][:0]
    return PackedWeights(*weights, *[none] * (6 - len(weights)))


class BackwardWeights(NamedTuple):
    """What BPTT reads besides; `kernels.recurrent.bptt` says how it is laid out."""

    transposed: NDArray[Any]
    diagonals: NDArray[Any]
    second: NDArray[Any]
    zeros: NDArray[Any]


def pack_weights(geometry: Geometry, params: Params) -> PackedWeights:
    """Return the parameters in the kernels' layout."""
    cell, units, dtype = geometry.cell, geometry.units, geometry.dtype
    weight_hh = params["weight_hh_l0"]
    recurrent_bias = second = np.empty(0, dtype)
    if "bias_ih_l0" in params:
        b_ih, b_hh = params["bias_ih_l0"], params["bias_hh_l0"]
    else:
        b_ih = b_hh = np.zeros(geometry.gates * units, dtype)
    if cell.is_apart:  # the last gate's recurrent product is multiplied before it meets the inputs
        of_inputs, of_products = b_ih + b_hh, np.zeros_like(b_hh)
        of_inputs[-units:], of_products[-units:] = b_ih[-units:], b_hh[-units:]
        bias, recurrent_bias = _in_blocks(geometry, of_inputs), _in_blocks(geometry, of_products)
    else:
        bias = _in_blocks(geometry, b_ih + b_hh)
    if cell.project:
        second, recurrent_bias = panels_of(params["weight_hr_l0"].T), padded_bias(None, geometry.h_features, dtype)
    if cell.reset_before:
        second, recurrent_bias = panels_of(weight_hh[-units:].T), padded_bias(None, units, dtype)
        weight_hh = _without_last_gate(weight_hh, units)
    return PackedWeights(
        _in_blocks(geometry, params["weight_ih_l0"]),
        bias,
        _in_blocks(geometry, weight_hh),
        recurrent_bias,
        _diagonals(geometry, params, scaled=True),
        second,
    )


def pack_backward(
    geometry: Geometry, params: Params, take: Callable[..., NDArray[Any]], recurrent: bool
) -> BackwardWeights:
    """Return what BPTT reads; without `recurrent`, of one step that goes back to nowhere, no recurrent weights.

    ``take(name, shape, dtype)`` gives the memory.
    """
    cell, units, dtype = geometry.cell, geometry.units, geometry.dtype
    zeros = padded_bias(None, max(units, geometry.features, geometry.h_features), dtype)
    transposed, second, weight_hh = zeros, zeros[:0], params["weight_hh_l0"]
    if cell.project:
        second = panels_of(params["weight_hr_l0"])
    if cell.reset_before:
        second, weight_hh = panels_of(weight_hh[-units:]), _without_last_gate(weight_hh, units)
    if recurrent:
        transposed = in_panels(geometry, weight_hh, take, "recurrent panels")
    return BackwardWeights(transposed, _diagonals(geometry, params, scaled=False), second, zeros)


def _without_last_gate(weight: NDArray[Any], units: int) -> NDArray[Any]:
    """Return a copy of a weight with zeros for its last gate, whose product is a stage of its own."""
    weight = weight.copy()
    weight[-units:] = 0.0
    return weight


def _diagonals(geometry: Geometry, params: Params, scaled: bool) -> NDArray[Any]:
    """Return the peephole weights, zeros for padding units; `scaled` in the units of the gates."""
    cell = geometry.cell
    values = np.zeros((len(cell.diagonals), geometry.padded_units), geometry.dtype)
    for row, gate in zip(values, cell.diagonals, strict=True):
        scale = cell.scales[cell.gates.index(gate)] if scaled else 1.0
        row[: geometry.units] = params[f"weight_c{gate}_l0"] * scale
    return values.reshape(-1)


def _in_blocks(geometry: Geometry, weight: NDArray[Any]) -> NDArray[Any]:
    """Return a weight (G * H, K), or a bias (G * H,), in blocks and in the units of the gates."""
    units = geometry.units
    k = weight.size // (geometry.gates * units)
    out = aligned((geometry.panels * geometry.panel_width * k,), weight.dtype)
    parallel_for(
        layout.pack_gates,
        *(np.ascontiguousarray(weight).reshape(-1), k, units, geometry.scales, out),
        count=geometry.panels,
        cost=config.TUNED.ns_per_copy * out.size,
    )
    return out


def in_panels(geometry: Geometry, weight: NDArray[Any], take: Callable[..., NDArray[Any]], name: str) -> NDArray[Any]:
    """Return a weight (G * H, K) as the right operand of a product over gates."""
    k, dtype = weight.shape[1], weight.dtype
    out = take(name, (panels_size(geometry.gate_columns, k, dtype),), dtype)
    parallel_for(
        layout.pack_gates_transposed,
        *(weight.reshape(-1), k, geometry.units, geometry.gates, out),
        count=gemm.panels(k, dtype),
        cost=config.TUNED.ns_per_copy * out.size,
    )
    return out


def in_torch_order(geometry: Geometry, blocks: NDArray[Any], out: NDArray[Any], first_column: int = 0) -> NDArray[Any]:
    """Write the rows (G * S, any) of a gradient in blocks to `out` (G * H, K), from this column on, and return it."""
    units, gates = geometry.units, geometry.gates
    row_stride = blocks.size // len(blocks)
    parallel_for(
        layout.unpack_gates,
        *(blocks.reshape(-1), first_column, row_stride, out.size // (gates * units), units, gates, out.reshape(-1)),
        count=geometry.padded_units // geometry.lanes,
        cost=config.TUNED.ns_per_copy * out.size,
    )
    return out


def rows_in_torch_order(geometry: Geometry, rows: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
    """Write rows (M, G * S) in blocks to `out` (M, G * H), and return it."""
    lanes, count, units, gates = geometry.lanes, len(rows), geometry.units, geometry.gates
    by_gate = out.reshape(count, gates, units)
    whole = units // lanes * lanes
    blocks = rows[:, : gates * whole].reshape(count, -1, gates, lanes).swapaxes(1, 2)
    by_gate[:, :, :whole] = blocks.reshape(count, gates, whole)
    by_gate[:, :, whole:] = rows[:, gates * whole :].reshape(count, gates, -1)[:, :, : units - whole]
    return out
