"""The training passes of a recurrence: forward, which keeps what BPTT reads, and BPTT itself."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..data.packed import Packed
from ..kernels.embedding import gather
from ..kernels.recurrent.bptt import backward_loops
from ..kernels.recurrent.sequence import sequence_loops
from ..runtime import config
from ..runtime.pool import num_chunks, parallel_for
from ..runtime.workspace import Frame
from . import unit_parallel
from .context import Gradients, PassContext, TableGradient
from .geometry import BatchShape
from .plan import few_sequences
from .products import SAME_ROWS, fit_together, gradient_of_weight, rows_of, times
from .recurrence import Recurrence, State, projectable
from .rows import add_to_rows
from .weights import BackwardWeights, in_panels, in_torch_order, pack_backward, rows_in_torch_order

__all__ = ["RecurrentCache", "backward", "forward"]


class RecurrentCache(NamedTuple):
    """What BPTT needs of a forward pass, in packed order. Its arrays are the frame's: `backward` gives them back."""

    x: Packed  # input, after dropout
    batch: BatchShape
    hidden: NDArray[Any]  # (N + M, P), row n is h0
    cells: NDArray[Any]  # (N + M, B * L), or (0, B * L)
    gates: NDArray[Any]  # (M, G * S)
    apart: NDArray[Any]  # (M, A)
    input_mask: NDArray[Any] | None  # (M, D)
    mask: NDArray[Any]  # (N, P) of h_prev in the recurrent product; (0, P): none
    masked: NDArray[Any]  # (N + M, P): h times its mask, before each row; (0, P): none
    frame: Frame


def _shares_units(recurrence: Recurrence, batch: BatchShape, cost: float) -> bool:
    """Tell whether cores shall share the units for such a batch; `cost` is that of the steps, in nanoseconds."""
    geometry, tuned = recurrence.geometry, config.TUNED
    return (
        batch.steps >= tuned.unit_parallel_steps[1]
        and geometry.cell.single_stage
        and few_sequences(batch.sequences, threads.get_num_threads())
        and geometry.gates * geometry.padded_units * geometry.h_features >= tuned.unit_parallel_weights
        and num_chunks(cost, 2) > 1
    )


def forward(
    recurrence: Recurrence,
    x: Packed,
    state: State | None,
    context: PassContext,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
) -> tuple[NDArray[Any], State, RecurrentCache]:
    """Run all steps; return h of every step (M, P), the final state, of its own, and what BPTT reads."""
    geometry, batch = recurrence.geometry, BatchShape.of(x)
    cell, dtype, width = geometry.cell, geometry.dtype, geometry.h_features
    frame = context.workspace.frame(recurrence)
    count, total = batch.sequences, batch.total
    hidden = frame.take("hidden", (count + total, width), dtype)
    hidden[:count] = 0.0 if state is None else state[0]
    gates = frame.take("gates", (total, geometry.gate_columns), dtype)
    apart = frame.take("apart", (total, geometry.apart_columns(True)), dtype)
    cells = frame.take("cells", (count + total if cell.has_cell else 0, geometry.padded_units), dtype)
    cells[:count] = 0.0
    if cell.has_cell and state is not None:
        cells[:count, : geometry.units] = state[1]
    input_mask = None
    mask = masked = hidden[:0]
    cost = geometry.cost(total, 0)
    # by shapes alone, not by how many cores there are: a projected table adds up its gradients in another order
    lookup = None if dropout else projectable(x)
    shared = lookup is None and not recurrent_dropout and _shares_units(recurrence, batch, cost)
    if lookup is not None:
        table = recurrence.project(lookup.table, frame.take("table", (len(lookup.table), gates.shape[1]), dtype))
        parallel_for(gather, table, lookup.ids, gates, count=total, cost=0.1 * gates.size)
    else:
        rows = x.rows_in(lambda shape: frame.take("x", shape, dtype))
        if dropout:
            input_mask = _mask(context, count, x.features, dropout, dtype)[x.sequence_of_row]
            rows = rows * input_mask
        x = x.with_rows(rows)
        if not shared:
            recurrence.project(rows, gates)
    weights = recurrence.record()
    if shared:
        arrays = x.rows, hidden, cells
        unit_parallel.forward(geometry, batch, arrays, weights, (gates, apart), cost)
    else:
        if recurrent_dropout:
            mask = _mask(context, count, width, recurrent_dropout, dtype)
            masked = frame.take("masked", hidden.shape, dtype)
        parallel_for(
            sequence_loops(cell).forward,
            *(gates, apart, hidden, cells, geometry.units, batch.batch_sizes, weights[2:], (mask, masked)),
            count=count,
            cost=cost,
            weights=batch.lengths,
        )
    cache = RecurrentCache(x, batch, hidden, cells, gates, apart, input_mask, mask, masked, frame)
    rows = hidden[count:]
    final: State = (x.last_of(rows).copy(),)  # of its own: the next step writes over the frame
    if cell.has_cell:
        final += (x.last_of(cells[count:])[:, : geometry.units].copy(),)
    return rows, final, cache


def _mask(context: PassContext, count: int, features: int, rate: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an inverted dropout mask for each sequence: 0, or ``1 / (1 - rate)``."""
    kept = context.rng.random((count, features)) >= rate
    mask: NDArray[Any] = kept.astype(dtype) / dtype.type(1.0 - rate)
    return mask


def backward(
    recurrence: Recurrence,
    dy: NDArray[Any],
    d_state: State | None,
    cache: RecurrentCache,
    context: PassContext,
    of_state: bool,
) -> tuple[NDArray[Any] | TableGradient, State | None, Gradients]:
    """Return the gradients of the input rows, of the initial state (if wanted: `of_state`) and of the parameters.

    Where the batch is an `EmbeddingGather`, that of its table takes the place of that of the rows. `dy` (M, P) is the
    gradient of h of every step, `d_state` that of the final state in packed order (None: zeros). What is returned is
    valid until the recurrence's next forward pass.
    """
    geometry, x, frame = recurrence.geometry, cache.x, cache.frame
    cell, units, dtype = geometry.cell, geometry.units, geometry.dtype
    batch, count, params = cache.batch, x.sequences, recurrence.params
    dc = frame.take("dc", (count, geometry.padded_units), dtype)
    dc[...] = 0.0
    dy = np.ascontiguousarray(dy)
    if d_state is not None or cell.project:
        dy = dy.copy()
    if d_state is not None:
        dy[x.last_rows] += d_state[0]
        if cell.has_cell:
            dc[:, :units] = d_state[1]
    masks = len(cache.mask) > 0
    weights = pack_backward(geometry, params, frame.take, of_state or masks or batch.steps > 1)
    da, da_apart, carried = _through_time(recurrence, dy, dc, cache, weights, batch, frame)
    through = da_apart if cell.is_apart else da
    d_start: State | None = None
    if of_state:
        dh0 = times(
            through[:count], weights.transposed, weights.zeros, frame.take("dh0", (count, geometry.h_features), dtype)
        )
        if masks:
            dh0 *= cache.mask
        if cell.has_carry and not cell.has_cell:  # h0 passes the gates by, too
            dh0 += carried[:, :units]
        d_start = (dh0, carried[:, :units]) if cell.has_cell else (dh0,)
    dx, gradients = _weight_gradients(recurrence, dy, da, through, cache, context)
    columns = in_panels(geometry, params["weight_ih_l0"], frame.take, "input panels")
    of_inputs, out = dx, frame.take("dx", (len(dx), geometry.features), dtype)
    times(of_inputs, columns, weights.zeros, out)
    context.workspace.release(recurrence, frame)
    if x.lookup is not None:
        return TableGradient(out), d_start, gradients
    if cache.input_mask is not None:
        out *= cache.input_mask
    return out, d_start, gradients


def _through_time(
    recurrence: Recurrence,
    dy: NDArray[Any],
    dc: NDArray[Any],
    cache: RecurrentCache,
    weights: BackwardWeights,
    batch: BatchShape,
    frame: Frame,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Go back through all steps; return the gradients of the gates, of what stands apart, and what is carried out."""
    geometry, dtype, cost = recurrence.geometry, recurrence.geometry.dtype, recurrence.geometry.cost(batch.total, 0)
    gates, apart = cache.gates, cache.apart
    if not len(cache.mask) and _shares_units(recurrence, batch, cost):
        da = frame.take("da", gates.shape, dtype)
        da_apart = frame.take("da apart", apart.shape, dtype)
        dcs = frame.take("dcs", (batch.total, geometry.padded_units), dtype)
        saved = gates, apart, cache.hidden, cache.cells
        unit_parallel.backward(geometry, batch, saved, (dy, dc), weights, (da, da_apart, dcs), cost)
        return da, da_apart, dcs[: batch.sequences]
    dh = frame.take("dh", dc.shape, dtype)
    dh[...] = 0.0
    parallel_for(
        backward_loops(geometry.cell).backward,
        *(gates, apart, dy, cache.hidden, cache.cells, (dc, dh), geometry.units, batch.batch_sizes),
        *(tuple(weights), cache.mask),
        count=batch.sequences,
        cost=cost,
        weights=batch.lengths,
    )
    return gates, apart, dc


def _weight_gradients(
    recurrence: Recurrence,
    dy: NDArray[Any],
    da: NDArray[Any],
    through: NDArray[Any],
    cache: RecurrentCache,
    context: PassContext,
) -> tuple[NDArray[Any], Gradients]:
    """Return the gradients of the gates by input row (of a table: by its rows), and those of the parameters."""
    geometry, x, frame, workspace = recurrence.geometry, cache.x, cache.frame, context.workspace
    units, dtype, total = geometry.units, geometry.dtype, x.total
    if x.lookup is None:
        of_inputs, inputs = da, x.rows
    else:  # what was added up from a table's rows is first added up by these rows
        inputs = x.lookup.table
        of_inputs = add_to_rows(da, x.lookup.ids, frame.take("of table", (len(inputs), da.shape[1]), dtype))
    before = cache.masked if len(cache.masked) else cache.hidden
    h_before, features = rows_of(before, _rows_before(x)), inputs.shape[1]

    where = total, frame, workspace
    few = x.lookup is None and 4 * total <= min(units, features)
    left, left_hh, first_of_hh = of_inputs, through, 0
    if few:  # to turn them into torch's order is less than to turn the gradients
        shape = total, geometry.gates * units
        left = left_hh = rows_in_torch_order(geometry, da, frame.take("rows", shape, dtype))
        if through is not da:
            left_hh = rows_in_torch_order(geometry, through, frame.take("rows apart", shape, dtype))
    together = x.lookup is None and not few and through is da
    if together and fit_together(features + geometry.h_features, dtype):
        dw_ih, db = gradient_of_weight(rows_of(da), rows_of(inputs), *where, "both", sums=True, beside=h_before)
        dw_hh, db_hh, first_of_hh = dw_ih, db, features
    else:
        dw_ih, db = gradient_of_weight(rows_of(left), rows_of(inputs), len(left), *where[1:], "ih", sums=True)
        dw_hh, db_hh = gradient_of_weight(rows_of(left_hh), h_before, *where, "hh", sums=through is not da)
    found = {
        "weight_ih_l0": dw_ih,
        "weight_hh_l0": dw_hh,
        "bias_ih_l0": db,
        "bias_hh_l0": db_hh if through is not da else db,
    }
    params = recurrence.params
    gradients: Gradients = {}
    for name, value in found.items():
        if name not in params:
            continue
        if few:
            gradients[name] = value
        elif name == "bias_hh_l0" and through is da:  # equation 0: both biases are added alike
            gradients[name] = gradients["bias_ih_l0"]
        else:
            out = frame.take((name, "gradient"), params[name].shape, dtype)
            gradients[name] = in_torch_order(geometry, value, out, first_of_hh if name == "weight_hh_l0" else 0)
    if not geometry.plain:
        _more_gradients(recurrence, dy, da, cache, context, gradients)
    return of_inputs, gradients


def _more_gradients(
    recurrence: Recurrence,
    dy: NDArray[Any],
    da: NDArray[Any],
    cache: RecurrentCache,
    context: PassContext,
    gradients: Gradients,
) -> None:
    """Add the gradients that only some cells have: of a projection, of a second stage, of peephole weights."""
    geometry, x, frame, workspace = recurrence.geometry, cache.x, cache.frame, context.workspace
    cell, units, count, total = geometry.cell, geometry.units, x.sequences, x.total
    apart, padded_units = cache.apart, geometry.padded_units
    if cell.project:
        of_hr, _ = gradient_of_weight(
            rows_of(dy), rows_of(apart, columns=units), total, frame, workspace, "hr", sums=False
        )
        gradients["weight_hr_l0"] = of_hr
    if cell.reset_before:
        flat = apart.reshape(-1)
        width = apart.shape[1]
        da_n, gated = (flat[padded_units:], width, SAME_ROWS, units), (flat, width, SAME_ROWS, units)
        of_n, _ = gradient_of_weight(da_n, gated, total, frame, workspace, "n", sums=False)
        gradients["weight_hh_l0"][-units:] = of_n
    if cell.diagonals:
        shape = total, geometry.gates, units
        by_gate = rows_in_torch_order(
            geometry, da, frame.take("rows", (total, shape[1] * units), geometry.dtype)
        ).reshape(shape)
        rows_before = _rows_before(x)
        c = cache.cells[:, :units]
        for gate in cell.diagonals:
            seen = c[count:] if gate == "o" else c[rows_before] if len(rows_before) else c[:total]
            gradients[f"weight_c{gate}_l0"] = (by_gate[:, cell.gates.index(gate)] * seen).sum(axis=0)


def _rows_before(x: Packed) -> NDArray[np.int64]:
    """Return the row of ``hidden`` that holds h before each row of the batch; empty if that is the row itself."""
    if x.dense:  # the N rows of h0 shift everything by one step
        return SAME_ROWS
    starts = np.concatenate(([0], x.sequences + x.offsets[:-2]))
    rows: NDArray[np.int64] = x.sequence_of_row + np.repeat(starts, x.batch_sizes)
    return rows
