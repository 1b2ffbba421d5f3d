"""The training passes of an LSTM: forward, which keeps what BPTT reads, and BPTT itself."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..kernels import lstm as kernels
from ..kernels import team
from ..kernels.embedding import gather, scatter_add
from ..kernels.lstm_back import backward as back_through_time
from . import shared_units
from .base import Gradients, OfTable, Run
from .gate_layout import in_panels, in_torchs_order, rows_in_torchs_order
from .products import SAME_ROWS, better_together, gradient_of_weight, padded_bias, times
from .recurrent_dropout import backward_masked, forward_masked

if TYPE_CHECKING:
    from .lstm import LSTM

__all__ = ["LSTMCache", "backward", "forward", "put_c0"]


class LSTMCache(NamedTuple):
    """What BPTT needs of a forward pass, in packed order."""

    x: Packed  # input, after dropout
    hidden: NDArray[Any]  # (N + M, H), row n is h0
    cells: NDArray[Any]  # (N + M, B * L)
    gates: NDArray[Any]  # (M, 4 * S)
    input_mask: NDArray[Any] | None  # (M, D)
    recurrent_mask: NDArray[Any] | None  # (N, H)


def put_c0(cells: NDArray[Any], c0: NDArray[Any] | None) -> None:
    """Fill the first rows of ``cells``: `c0` (None: zeros), zeros for padding units."""
    cells[...] = 0.0
    if c0 is not None:
        cells[:, : c0.shape[1]] = c0


def forward(
    layer: "LSTM", x: Packed, hidden: NDArray[Any], c0: NDArray[Any] | None, run: Run
) -> tuple[NDArray[Any], LSTMCache]:
    """Run all steps: write `hidden` (N + M, H), whose first N rows are h0; return the final c and what BPTT reads."""
    count, stride, units, take = x.sequences, layer.stride, layer.units, run.scratch.take
    weights, columns = layer.packed(), 4 * layer.span
    gates = take(layer, "gates", shape=(x.total, columns), dtype=layer.dtype)
    cells = take(layer, "cells", shape=(count + x.total, stride), dtype=layer.dtype)
    put_c0(cells[:count], c0)
    input_mask = recurrent_mask = None
    cost = shared_units.cost_of(x.total, units, 0)
    # by shapes alone, not by how many cores there are: a folded batch adds up its gradients in another order
    lookup = None if layer.dropout else layer.foldable(x)
    shared = (
        lookup is None
        and not layer.recurrent_dropout
        and shared_units.worth_it(count, len(x.batch_sizes), units, stride, cost)
    )
    if lookup is not None:
        table = take(layer, "table", shape=(len(lookup.table), columns), dtype=layer.dtype)
        times(lookup.table, weights.input, weights.bias, table)
        team.share(gather, table, lookup.ids, gates, count=x.total, cost=0.1 * gates.size)
    else:
        rows = x.rows_in(lambda shape: take(layer, "x", shape=shape, dtype=layer.dtype))
        if layer.dropout:
            input_mask = _mask(layer, run, count, x.features, layer.dropout)[x.sequence_of_row]
            rows = rows * input_mask
        x = x.with_rows(rows)
        if not shared:
            times(rows, weights.input, weights.bias, gates)
    if shared:
        shared_units.forward(x, hidden, cells, units, weights, gates, cost)
    elif layer.recurrent_dropout:
        recurrent_mask = _mask(layer, run, count, units, layer.recurrent_dropout)
        forward_masked(gates, hidden, cells, x.batch_sizes, weights.recurrent, recurrent_mask)
    else:
        team.share(
            kernels.forward,
            *(gates, hidden, cells, units, x.batch_sizes, weights.recurrent),
            count=count,
            cost=cost,
            weights=None if x.dense else x.lengths,
        )
    cache = LSTMCache(x, hidden, cells, gates, input_mask, recurrent_mask)
    return x.last_of(cells[count:])[:, :units], cache


def _mask(layer: "LSTM", run: Run, count: int, features: int, rate: float) -> NDArray[Any]:
    """Return an inverted dropout mask for each sequence: 0, or ``1 / (1 - rate)``."""
    kept = run.rng.random((count, features)) >= rate
    mask: NDArray[Any] = kept.astype(layer.dtype) / layer.dtype.type(1.0 - rate)
    return mask


def backward(
    layer: "LSTM",
    dy: NDArray[Any],
    d_state: tuple[NDArray[Any], NDArray[Any]] | None,
    cache: LSTMCache,
    run: Run,
    of_state: bool,
) -> tuple[NDArray[Any] | OfTable, tuple[NDArray[Any], NDArray[Any]] | None, Gradients]:
    """Do what `LSTM.backward_steps` says."""
    x, hidden, cells, gates, input_mask, recurrent_mask = cache
    take, units, stride, dtype = run.scratch.take, layer.units, layer.stride, layer.dtype
    count, width = x.sequences, 4 * layer.span
    dc = take(layer, "dc", shape=(count, stride), dtype=dtype)
    dh = take(layer, "dh", shape=(count, stride), dtype=dtype)
    dc[...] = dh[...] = 0.0
    dy = np.ascontiguousarray(dy)
    if d_state is not None:
        d_h, dc[:, :units] = d_state
        dy = dy.copy()
        dy[x.last_rows] += d_h
    zeros = padded_bias(None, max(units, x.features), dtype)
    transposed = zeros  # one step goes back to nowhere
    if of_state or recurrent_mask is not None or len(x.batch_sizes) > 1:
        transposed = in_panels(layer.params["weight_hh_l0"], units, take, layer, "recurrent")
    dh0 = take(layer, "dh0", shape=(count, units), dtype=dtype)
    before = hidden  # what the recurrent product read
    cost = shared_units.cost_of(x.total, units, 0)
    if recurrent_mask is None:
        if shared_units.worth_it(count, len(x.batch_sizes), units, stride, cost):
            da = take(layer, "da", shape=gates.shape, dtype=dtype)
            dcs = take(layer, "dcs", shape=(x.total, stride), dtype=dtype)
            shared_units.backward(gates, dy, units, x.batch_sizes, cells, dc, transposed, da, dcs, cost)
            gates, dc = da, dcs[:count]
        else:
            team.share(
                back_through_time,
                *(gates, dy, units, x.batch_sizes, cells, dc, transposed, dh),
                count=count,
                cost=cost,
                weights=None if x.dense else x.lengths,
            )
        if of_state:
            times(gates[:count], transposed, zeros, dh0)
    else:
        before = backward_masked(gates, dy, x.batch_sizes, hidden, cells, dc, transposed, zeros, recurrent_mask, dh0)

    if x.lookup is None:
        of_inputs, inputs = gates, x.rows
    else:  # what was added up from a table's rows is first added up by these rows
        inputs = x.lookup.table
        of_inputs = take(layer, "of table", shape=(len(inputs), width), dtype=dtype)
        of_inputs[...] = 0.0
        team.share(scatter_add, gates, x.lookup.ids, of_inputs, count=width, cost=0.5 * gates.size)
    few = x.lookup is None and 4 * x.total <= min(units, x.features)
    left, left_hh = of_inputs, gates
    if few:  # to turn them into torch's order is less than to turn the gradients
        out = take(layer, "rows", shape=(x.total, 4 * units), dtype=dtype)
        left = left_hh = rows_in_torchs_order(gates, units, out)
    rows_before, features = _rows_before(x), inputs.shape[1]
    if x.lookup is None and not few and better_together(features + units, dtype):
        dw_ih, db = gradient_of_weight(
            gates, inputs, SAME_ROWS, run, layer, "both", sums=True, beside=(before, rows_before)
        )
        dw_hh, first_of_hh = dw_ih, features
    else:
        dw_ih, db = gradient_of_weight(left, inputs, SAME_ROWS, run, layer, "ih", sums=True)
        dw_hh, _ = gradient_of_weight(left_hh, before, rows_before, run, layer, "hh", sums=False)
        first_of_hh = 0
    gradients = {"weight_ih_l0": dw_ih, "weight_hh_l0": dw_hh, "bias_ih_l0": db}
    if not few:
        for name, blocks in gradients.items():
            out = take(layer, name, shape=layer.params[name].shape, dtype=dtype)
            gradients[name] = in_torchs_order(blocks, units, out, first_of_hh if name == "weight_hh_l0" else 0)
    gradients["bias_hh_l0"] = gradients["bias_ih_l0"]  # equation 0: both are added alike

    columns = in_panels(layer.params["weight_ih_l0"], units, take, layer, "input")
    dx = take(layer, "dx", shape=inputs.shape, dtype=dtype)
    times(of_inputs, columns, zeros, dx)
    d_start = (dh0, dc[:, :units]) if of_state else None
    if x.lookup is not None:
        return OfTable(dx), d_start, gradients
    if input_mask is not None:
        dx *= input_mask
    if layer.go_backwards:
        dx = x.with_rows(dx).reversed().rows
    return dx, d_start, gradients


def _rows_before(x: Packed) -> NDArray[np.int64]:
    """Return the row of ``hidden`` that holds h before each row of the batch; empty if that is the row itself."""
    if x.dense:  # the N rows of h0 shift everything by one step
        return SAME_ROWS
    starts = np.concatenate(([0], x.sequences + x.offsets[:-2]))
    rows: NDArray[np.int64] = x.sequence_of_row + np.repeat(starts, x.batch_sizes)
    return rows
