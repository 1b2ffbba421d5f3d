"""Weights as kernels read them, for every cell, against plain NumPy."""

import copy

import numpy as np
import pytest

from fastlstm.engine.context import PassContext
from fastlstm.engine.geometry import BatchShape, Geometry
from fastlstm.engine.weights import (
    as_record,
    in_panels,
    in_torch_order,
    pack_backward,
    pack_weights,
    rows_in_torch_order,
)
from fastlstm.kernels import gemm
from fastlstm.runtime.workspace import Workspace
from tests.kernels.recurrent.harness import CELLS, cell_of
from tests.naive.spec import random_weights
from tests.tolerances import assert_bitwise_equal, assert_gradients_close

FEATURES = 5
every_cell = pytest.mark.parametrize("name", CELLS)
some_units = pytest.mark.parametrize("units", [3, 8, 17, 40])


def packed(name, units, dtype):
    """Return geometry, parameters and packed weights."""
    spec = CELLS[name]
    params = random_weights(spec, np.random.default_rng(0), FEATURES, units)
    params = {key: value.astype(dtype) for key, value in params.items()}
    geometry = Geometry(cell_of(spec), units, FEATURES, spec.projection or units, np.dtype(dtype))
    return geometry, params, pack_weights(geometry, params)


def through_kernels(geometry, rows, panels, bias):
    """Return ``bias + rows @ W.T`` (M, G, H) by the kernel of products, from packed weights."""
    out = np.full((len(rows), geometry.gate_columns), np.nan, geometry.dtype)
    width = geometry.gate_columns
    arguments = rows, rows.shape[1], panels, rows.shape[1], bias, out, width, width, 0, len(rows)
    gemm.product_by(geometry.cell.columns)(*arguments)
    plain = rows_in_torch_order(geometry, out, np.empty((len(rows), geometry.gates * geometry.units), geometry.dtype))
    return plain.reshape(len(rows), geometry.gates, geometry.units)


def taken(name, shape, dtype):
    return np.full(shape, np.nan, dtype)


@some_units
@every_cell
def test_packed_weights_multiply_as_the_parameters_do_in_the_units_of_each_gate(name, units, dtype, rng):
    geometry, params, weights = packed(name, units, dtype)
    cell, scales = geometry.cell, np.array(geometry.cell.scales)[:, None]
    x, h = rng.standard_normal((4, FEATURES)).astype(dtype), rng.standard_normal((4, geometry.h_features)).astype(dtype)
    by_gate = (4, geometry.gates, units)
    wide = {key: value.astype(np.float64) for key, value in params.items()}
    b_ih, b_hh = wide["bias_ih_l0"].reshape(-1, units), wide["bias_hh_l0"].reshape(-1, units)
    apart = np.array([cell.is_apart and gate == cell.gates[-1] for gate in cell.gates])[:, None]
    bound = 1e-5 if dtype == "float32" else 1e-13
    found = through_kernels(geometry, x, weights.input, weights.bias)
    expected = (x @ wide["weight_ih_l0"].T).reshape(by_gate) + b_ih + np.where(apart, 0.0, b_hh)
    assert_gradients_close(found, scales * expected, bound=bound)
    zeros = np.zeros_like(weights.bias)
    found = through_kernels(geometry, h, weights.recurrent, weights.recurrent_bias if cell.is_apart else zeros)
    expected = (h @ wide["weight_hh_l0"].T).reshape(by_gate) + np.where(apart, b_hh, 0.0)
    if cell.reset_before:
        expected[:, -1] = 0.0  # its product is a stage of its own
    assert_gradients_close(found, scales * expected, bound=bound)


@some_units
@every_cell
def test_the_second_stage_and_the_peepholes(name, units, dtype, rng):
    geometry, params, weights = packed(name, units, dtype)
    cell = geometry.cell
    if cell.single_stage:
        assert weights.second.size == 0
    else:
        b = params["weight_hr_l0"].T if cell.project else params["weight_hh_l0"][-units:].T
        rows = rng.standard_normal((4, units)).astype(dtype)
        out = np.empty((4, b.shape[1]), dtype)
        gemm.product(rows, units, weights.second, units, weights.recurrent_bias, out, b.shape[1], b.shape[1], 0, 4)
        assert_gradients_close(out, rows.astype(np.float64) @ b.astype(np.float64), bound=1e-5)
    diagonals = weights.diagonals.reshape(len(cell.diagonals), -1) if cell.diagonals else weights.diagonals
    assert len(diagonals) == len(cell.diagonals)
    for gate, row in zip(cell.diagonals, diagonals, strict=True):
        assert_bitwise_equal(row[:units], params[f"weight_c{gate}_l0"] * np.dtype(dtype).type(_scale(cell, gate)))
        assert not row[units:].any()


def _scale(cell, gate):
    return cell.scales[cell.gates.index(gate)]


@some_units
@every_cell
def test_without_biases_they_are_zeros(name, units, dtype):
    geometry, params, weights = packed(name, units, dtype)
    params = {key: value for key, value in params.items() if "bias" not in key}
    found = pack_weights(geometry, params)
    assert not found.bias.any()
    assert not found.recurrent_bias.any()
    assert_bitwise_equal(found.input, weights.input)


@some_units
@every_cell
def test_weights_for_bptt_multiply_gradients_of_gates(name, units, dtype, rng):
    geometry, params, _ = packed(name, units, dtype)
    before, w_hh = params["weight_hh_l0"].copy(), params["weight_hh_l0"].astype(np.float64)
    if geometry.cell.reset_before:
        w_hh[-units:] = 0.0
    da = rng.standard_normal((4, geometry.gate_columns)).astype(dtype)
    plain = rows_in_torch_order(geometry, da, np.empty((4, geometry.gates * units), dtype))
    back = pack_backward(geometry, params, taken, True)
    n, k = geometry.h_features, geometry.gate_columns
    out = np.empty((4, n), dtype)
    gemm.product(da, k, back.transposed, k, back.zeros, out, n, n, 0, 4)
    assert_gradients_close(out, plain.astype(np.float64) @ w_hh, bound=2e-5)
    assert_bitwise_equal(params["weight_hh_l0"], before, what="the parameter itself")
    one_step = pack_backward(geometry, params, taken, False)
    assert not one_step.transposed.any(), "one step has nothing to go back to"


@some_units
@every_cell
def test_gradients_come_back_in_torchs_order(name, units, dtype, rng):
    geometry, _, _ = packed(name, units, dtype)
    w = rng.standard_normal((geometry.gates * units, FEATURES)).astype(dtype)
    rows = np.zeros((geometry.gate_columns, FEATURES + 2), dtype)
    rows[:, 1:-1] = _in_blocks(geometry, w.T).T
    assert_bitwise_equal(in_torch_order(geometry, rows, np.full_like(w, np.nan), 1), w)
    by_row = _in_blocks(geometry, w.T)
    assert_bitwise_equal(rows_in_torch_order(geometry, by_row, np.full((FEATURES, len(w)), np.nan, dtype)), w.T)
    transposed = in_panels(geometry, w, taken, "w")
    out = np.empty((FEATURES, FEATURES), dtype)
    width, k = FEATURES, geometry.gate_columns
    zeros = np.zeros(gemm.panel_width(out.dtype), dtype)
    gemm.product(by_row, k, transposed, k, zeros, out, width, width, 0, FEATURES)
    assert_gradients_close(out, w.T.astype(np.float64) @ w.astype(np.float64), bound=2e-5)


def _in_blocks(geometry, rows):
    """Return rows (M, G * H) in blocks (M, G * S), by plain NumPy."""
    lanes, units, gates = geometry.lanes, geometry.units, geometry.gates
    by_gate = rows.reshape(len(rows), gates, units)
    room = geometry.gate_columns // gates
    blocks = []
    for first in range(0, room, lanes):
        block = np.zeros((len(rows), gates, min(lanes, room - first)), rows.dtype)
        some = by_gate[:, :, first : first + lanes]
        block[:, :, : some.shape[2]] = some
        blocks.append(block.reshape(len(rows), -1))
    return np.concatenate(blocks, axis=1)


def test_weights_by_name_of_a_plain_cell_and_of_others():
    _, _, weights = packed("lstm", 8, "float32")
    record = as_record(tuple(weights[:3]))
    assert record[:3] == tuple(weights[:3])
    assert all(part.size == 0 for part in record[3:])
    assert as_record(tuple(weights)) == weights


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_geometries_are_equal_by_what_they_say():
    make = lambda units, dtype="float32": Geometry(cell_of(CELLS["gru"]), units, 3, units, np.dtype(dtype))  # noqa: E731
    assert make(5) == make(5)
    assert hash(make(5)) == hash(make(5))
    assert make(5) != make(6)
    assert make(5) != make(5, "float64")
    assert make(5) != Geometry(cell_of(CELLS["rnn tanh"]), 5, 3, 5, np.dtype("float32"))
    assert copy.copy(make(5)) == make(5)


def test_the_last_rows_of_a_ragged_batch_are_those_of_each_sequences_last_step():
    lengths = np.array([4, 4, 3, 1])
    batch = BatchShape(4, 4, 12, np.array([4, 3, 3, 2]), lengths)
    assert batch.last_rows().tolist() == [10, 11, 9, 3]
    dense = BatchShape.dense(3, 5)
    assert np.arange(15)[dense.last_rows()].tolist() == [12, 13, 14]
    assert dense.batch_sizes.tolist() == [3] * 5


def test_a_pass_makes_its_random_numbers_once_and_takes_the_workspace_it_is_given():
    space = Workspace()
    context = PassContext(True, None, space)
    assert context.workspace is space
    assert context.rng is context.rng
    rng = np.random.default_rng(1)
    assert PassContext(rng=rng).rng is rng
    assert PassContext().workspace is not PassContext().workspace
