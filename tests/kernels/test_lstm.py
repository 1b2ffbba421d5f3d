"""The LSTM's kernels by themselves: layouts, forward, inference and BPTT against the naive loops, and any split."""

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastlstm.data.packed import pack
from fastlstm.kernels import gates as layout
from fastlstm.kernels import gemm, lstm, lstm_back
from fastlstm.kernels.lstm_split import PROGRESS_STRIDE, backward_split, forward_split
from fastlstm.simd.host import REGISTERS
from tests import naive, strategies
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

NO_IDS = np.empty(0, np.int64)


class Batch:
    """A case in the kernels' layout, longest sequence first."""

    def __init__(self, case, dtype):
        self.dtype = np.dtype(dtype)
        self.units, self.features = case.units, case.features
        self.lanes = REGISTERS.lanes(self.dtype.itemsize)
        self.stride = -(-self.units // self.lanes) * self.lanes
        self.span = layout.span_of(self.units, self.lanes)
        self.order = sorted(range(len(case.lengths)), key=lambda n: -case.lengths[n])
        packed, _ = pack([case.sequences[n] for n in self.order], features=True, dtype=dtype)
        assert packed.order is None
        self.x, self.batch_sizes = packed.rows, packed.batch_sizes
        self.count, self.rows = len(self.order), len(self.x)
        self.last = self.count + packed.last_rows
        w = case.weights
        self.w_ih, self.w_hh = w.w_ih.astype(dtype), w.w_hh.astype(dtype)
        self.bias = self.in_blocks((w.b_ih + w.b_hh).astype(dtype), 1)
        self.h0, self.c0 = case.h0[self.order].astype(dtype), case.c0[self.order].astype(dtype)

    def in_blocks(self, w, k):
        out = np.full(4 * self.stride * k, np.nan, self.dtype)
        layout.pack_gates(
            np.ascontiguousarray(w).reshape(-1), k, self.units, layout.GATE_UNITS, out, 0, self.stride // self.lanes
        )
        return out

    def transposed(self, w):
        n = w.shape[1]
        size = gemm.panels(n, self.dtype) * gemm.panel_width(self.dtype) * 4 * self.span
        out = np.full(size, np.nan, self.dtype)
        layout.pack_gates_transposed(w.reshape(-1), n, self.units, out, 0, gemm.panels(n, self.dtype))
        return out

    def gates_of(self, blocks):
        """Return (M, 4, H) of what lies in blocks."""
        return _by_gate(blocks, self.units)

    def hidden(self):
        hidden = np.full((self.count + self.rows, self.units), np.nan, self.dtype)
        hidden[: self.count] = self.h0
        return hidden

    def cells(self, rows):
        cells = np.full((rows, self.stride), np.nan, self.dtype)
        cells[: self.count] = 0
        cells[: self.count, : self.units] = self.c0
        return cells

    def forward(self, parts=None):
        """Return gates, hidden, cells as training keeps them."""
        gates = np.full((self.rows, 4 * self.span), np.nan, self.dtype)
        panels, width = self.in_blocks(self.w_ih, self.features), 4 * self.span
        gemm.product(self.x, self.features, panels, self.features, self.bias, gates, width, width, 0, self.rows)
        hidden, cells = self.hidden(), self.cells(self.count + self.rows)
        recurrent = self.in_blocks(self.w_hh, self.units)
        for begin, end in pairwise(parts or [0, self.count]):
            lstm.forward(gates, hidden, cells, self.units, self.batch_sizes, recurrent, begin, end)
        return gates, hidden, cells

    def infer(self, parts=None, gate_rows=None):
        """Return hidden and the final cells; `gate_rows` is the chunk's height."""
        hidden, cells = self.hidden(), self.cells(self.count)
        height = max(gate_rows or 0, self.count)
        scratch = np.full(height * (4 * self.span + self.features), np.nan, self.dtype)
        weights = self.in_blocks(self.w_ih, self.features), self.in_blocks(self.w_hh, self.units), self.bias
        for begin, end in pairwise(parts or [0, self.count]):
            lstm.infer(
                *(self.x.reshape(-1), 0, 0, self.features, self.features, NO_IDS, hidden.reshape(-1)),
                *(self.units, False),
                *(cells.reshape(-1), self.units, self.batch_sizes, *weights, height, scratch, begin, end),
            )
        return hidden, cells[:, : self.units]

    def forward_split(self, bounds, height, run, keep=True):
        """Return gates, hidden, cells as the cores that `run` names leave them, one after the other."""
        hidden, cells = self.hidden(), self.cells(self.count + self.rows)
        gates = np.full((self.rows if keep else 0, 4 * self.span), np.nan, self.dtype)
        weights = self.in_blocks(self.w_ih, self.features), self.in_blocks(self.w_hh, self.units), self.bias
        progress = np.zeros((len(bounds) - 1) * PROGRESS_STRIDE, np.int64)
        for part in run:
            begin, end = bounds[part], bounds[part + 1]
            scratch = np.full((height + self.count) * max(np.diff(bounds)) * 4 * self.lanes, np.nan, self.dtype)
            forward_split(
                *(self.x, hidden, cells, self.units, self.batch_sizes, *weights, gates.reshape(-1)),
                *(np.array(bounds), progress, height, scratch, begin, end),
            )
        return gates, hidden, cells

    def backward_split(self, dy, dc_last, bounds, run):
        """Return what `backward` does, as the cores that `run` names leave it, one after the other."""
        gates, _, cells = self.forward()
        dc = np.zeros((self.count, self.stride), self.dtype)
        dc[:, : self.units] = dc_last
        da, dcs = np.full_like(gates, np.nan), np.full((self.rows, self.stride), np.nan, self.dtype)
        progress = np.zeros((len(bounds) - 1) * PROGRESS_STRIDE, np.int64)
        for part in run:
            scratch = np.zeros(self.count * self.stride, self.dtype)
            backward_split(
                *(gates, dy, self.units, self.batch_sizes, cells, dc, self.transposed(self.w_hh), da, dcs),
                *(np.array(bounds), progress, scratch, bounds[part], bounds[part + 1]),
            )
        return da, dcs[: self.count]

    def backward(self, dy, dc_last, parts=None):
        """Return the gradients of the pre-activations (in blocks) and of c0."""
        gates, _, cells = self.forward()
        dc = np.zeros((self.count, self.stride), self.dtype)
        dc[:, : self.units] = dc_last
        dh = np.zeros((self.count, self.stride), self.dtype)
        dh[:, : self.units] = np.nan  # is to be overwritten, but for padding units
        transposed = self.transposed(self.w_hh)
        for begin, end in pairwise(parts or [0, self.count]):
            lstm_back.backward(gates, dy, self.units, self.batch_sizes, cells, dc, transposed, dh, begin, end)
        return gates, dc


WIDE = strategies.make_case([3, 1, 4, 4, 2, 3, 1], 5, 70, 0)  # five blocks of units of 16 lanes, seven rows in tiles
CASES = strategies.lstm_cases(max_sequences=14, max_steps=4, max_features=4, max_units=35)


# --- layouts ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 6), strategies.float_types())
def test_unpacking_gates_undoes_packing(units, k, dtype):
    lanes = REGISTERS.lanes(np.dtype(dtype).itemsize)
    blocks = -(-units // lanes)
    w = np.arange(1, 4 * units * k + 1, dtype=dtype).reshape(4 * units, k)
    packed = np.full(blocks * k * 4 * lanes, np.nan, dtype)
    layout.pack_gates(w.reshape(-1), k, units, np.ones(4), packed, 0, blocks)
    assert (packed == 0).sum() == packed.size - w.size  # padding, and nothing else, is zero
    rows = packed.reshape(blocks, k, 4 * lanes).transpose(0, 2, 1).reshape(-1)  # as columns of `gates`: (4 * S, K)
    assert not rows[4 * layout.span_of(units, lanes) * k :].any()
    back = np.full_like(w, np.nan)
    wide = np.full((4 * layout.span_of(units, lanes), k + 3), np.nan, dtype)
    wide[:, 2:-1] = rows[: len(wide) * k].reshape(-1, k)
    layout.unpack_gates(wide.reshape(-1), 2, k + 3, k, units, back.reshape(-1), 0, blocks)
    assert_bitwise_equal(back, w)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.6, 1.0])
def test_a_block_holds_the_four_gates_of_the_same_units(dtype, part):
    lanes = REGISTERS.lanes(np.dtype(dtype).itemsize)
    last = max(1, int(part * lanes))
    units = lanes + last
    apart = lanes if 2 * last > lanes else lanes // 2
    w = np.add.outer(np.arange(4) * 1000, np.arange(1, units + 1)).astype(dtype)  # gate * 1000 + unit + 1
    packed = np.empty(2 * 4 * lanes, dtype)
    layout.pack_gates(w.reshape(-1), 1, units, np.ones(4), packed, 0, 2)
    whole, rest = packed.reshape(2, 4 * lanes)
    for gate in range(4):
        assert_bitwise_equal(whole.reshape(4, lanes)[gate], w[gate, :lanes])
        mine = rest[gate * apart : (gate + 1) * apart]
        assert_bitwise_equal(mine[:last], w[gate, lanes:])
        assert not mine[last:].any()
    assert not rest[4 * apart :].any()


@given(st.integers(1, 40), st.integers(1, 90), strategies.seeds(), strategies.float_types())
def test_transposed_packing_multiplies_rows_of_gates(units, n, seed, dtype):
    rng = np.random.default_rng(seed)
    lanes = REGISTERS.lanes(np.dtype(dtype).itemsize)
    width = 4 * layout.span_of(units, lanes)
    w, da = rng.standard_normal((4 * units, n)).astype(dtype), rng.standard_normal((3, 4 * units)).astype(dtype)
    blocks = np.stack([_row_in_blocks(row, units, width) for row in da])
    size = gemm.panels(n, w.dtype) * gemm.panel_width(w.dtype)
    panels, out = np.full(size * width, np.nan, dtype), np.empty((3, n), dtype)
    for begin, end in pairwise([0, 1, gemm.panels(n, w.dtype)]):
        layout.pack_gates_transposed(w.reshape(-1), n, units, panels, begin, end)
    gemm.product(blocks, width, panels, width, np.zeros(size, dtype), out, n, n, 0, 3)
    assert_gradients_close(out, da.astype(np.float64) @ w.astype(np.float64), bound=2000 * np.finfo(dtype).eps)


def _row_in_blocks(row, units, width):
    whole = gemm.panel_width(row.dtype)
    out = np.empty(-(-width // whole) * whole, row.dtype)
    layout.pack_gates(row, 1, units, np.ones(4), out, 0, len(out) // whole)
    return out[:width]


def _by_gate(blocks, units):
    """Return (M, 4, H) of rows in blocks."""
    lanes = REGISTERS.lanes(blocks.itemsize)
    parts = [blocks[:, 4 * first : 4 * (first + lanes)].reshape(len(blocks), 4, -1) for first in range(0, units, lanes)]
    return np.concatenate(parts, axis=2)[:, :, :units]


# --- forward ---------------------------------------------------------------------------------------------------------


@given(CASES, strategies.float_types())
@example(WIDE, "float32")
@example(WIDE, "float64")
def test_forward_keeps_what_the_naive_loops_compute(case, dtype):
    batch = Batch(case, dtype)
    gates, hidden, cells = batch.forward()
    kept = batch.gates_of(gates)
    offsets = np.concatenate(([0], np.cumsum(batch.batch_sizes)))
    for place, n in enumerate(batch.order):
        for t, step in enumerate(naive.lstm_steps(case.sequences[n], case.h0[n], case.c0[n], case.weights)):
            row = offsets[t] + place
            for gate, name in enumerate(naive.GATES):
                expected = getattr(step, name)
                assert_outputs_close(kept[row, gate], expected, what=f"{name} at step {t}")
            assert_outputs_close(cells[batch.count + row, : batch.units], step.c, what=f"c at step {t}")
            assert_outputs_close(hidden[batch.count + row], step.h, what=f"h at step {t}")


@given(CASES, strategies.float_types(), st.data())
@example(WIDE, "float32", None)
def test_inference_has_the_bits_of_training_whatever_the_chunk_and_the_split(case, dtype, data):
    batch = Batch(case, dtype)
    _, hidden, cells = batch.forward()
    parts = data.draw(strategies.cuts_of(batch.count)) if data else [0, 2, 7]
    gate_rows = data.draw(st.integers(1, batch.rows + 3)) if data else 9
    h, c = batch.infer(parts, gate_rows)
    assert_bitwise_equal(h, hidden, what="h")
    assert_bitwise_equal(c, cells[batch.last, : batch.units], what="final c")


@given(CASES, strategies.float_types(), st.data())
def test_forward_has_the_same_bits_however_sequences_are_shared(case, dtype, data):
    batch = Batch(case, dtype)
    for whole, shared in zip(batch.forward(), batch.forward(data.draw(strategies.cuts_of(batch.count))), strict=True):
        assert_bitwise_equal(shared, whole)


IN_TURN = pytest.mark.parametrize("run", [[0, 1, 2], [1, 2, 0], [2, 1, 0], [0, 2, 1], [1, 0, 1, 2]])


@IN_TURN
@pytest.mark.parametrize("height", [3, 50])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_core_of_those_that_share_the_units_does_all_where_the_others_do_not_come(dtype, height, run):
    """Here the others come when all but the last step is done: what a busy machine does to them at worst."""
    batch = Batch(strategies.make_case([7, 5, 5], 3, 3 * REGISTERS.lanes(np.dtype(dtype).itemsize) + 2, 0), dtype)
    for whole, shared in zip(batch.forward(), batch.forward_split([0, 1, 2, 4], height, run), strict=True):
        assert_bitwise_equal(shared, whole)
    _, *without_gates = batch.forward_split([0, 1, 2, 4], height, run, keep=False)
    for whole, shared in zip(batch.forward()[1:], without_gates, strict=True):
        assert_bitwise_equal(shared, whole)


@IN_TURN
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_going_back_too(dtype, run, rng):
    units = 9 * REGISTERS.lanes(np.dtype(dtype).itemsize) + 2  # three panels, the last one padded
    batch = Batch(strategies.make_case([7, 5, 5], 3, units, 0), dtype)
    dy, dc = (rng.standard_normal((rows, units)).astype(dtype) for rows in (batch.rows, batch.count))
    shared = batch.backward_split(dy, dc, [0, 1, 2, 3], run)
    for whole, part in zip(batch.backward(dy, dc), shared, strict=True):
        assert_bitwise_equal(part, whole)


@pytest.mark.parametrize("parts", [[0, 0, 3], [0, 3, 3], [0, 1, 1, 3]])
@pytest.mark.parametrize("kernel", ["infer", "forward", "backward"])
def test_an_empty_part_of_the_sequences_is_no_work(kernel, parts):
    """A cut by lengths makes one where a sequence outweighs the others. Kernels cannot be interrupted: a thread."""
    batch = Batch(strategies.make_case([9, 1, 1], 2, 3, 0), "float32")
    dy = np.ones((batch.rows, batch.units), np.float32)
    call = {"infer": batch.infer, "forward": batch.forward, "backward": lambda parts: batch.backward(dy, 0.0, parts)}
    expected = call[kernel]([0, 3])
    results = []
    worker = threading.Thread(target=lambda: results.append(call[kernel](parts)), daemon=True)
    worker.start()
    worker.join(10)
    assert results, f"{kernel} does not return from an empty part"
    for whole, shared in zip(expected, results[0], strict=True):
        assert_bitwise_equal(shared, whole)


@pytest.mark.parametrize("starts_elsewhere", [[], [1], [0, 3]])
def test_zeros_before_the_first_step_are_not_multiplied_and_change_no_bit(starts_elsewhere, dtype):
    batch = Batch(WIDE, dtype)
    batch.h0 = batch.h0 * np.isin(np.arange(batch.count), starts_elsewhere)[:, None].astype(dtype)
    hidden, _ = batch.infer(parts=[0, 3, batch.count])
    assert_bitwise_equal(hidden, batch.forward()[1])


# --- backward --------------------------------------------------------------------------------------------------------


@settings(max_examples=12)  # the naive loops take half a second for the largest
@given(strategies.lstm_cases(max_sequences=8, max_steps=4, max_features=3, max_units=20), strategies.float_types())
@example(WIDE, "float32")
@example(WIDE, "float64")
def test_backward_gives_the_naive_gradients(case, dtype):
    batch = Batch(case, dtype)
    rng = np.random.default_rng(1)
    dy, dc_last = rng.standard_normal((batch.rows, batch.units)), rng.standard_normal((batch.count, batch.units))
    da, dc0 = batch.backward(dy.astype(dtype), dc_last)
    rows_of = _rows_of_sequences(batch)
    sequences = [case.sequences[n] for n in batch.order]
    h0, c0 = case.h0[batch.order], case.c0[batch.order]
    expected = naive.lstm_backward(
        sequences, h0, c0, case.weights, [dy[rows] for rows in rows_of], np.zeros_like(h0), dc_last
    )
    assert_gradients_close(dc0[:, : batch.units], expected.c0, what="dc0")
    assert not dc0[:, batch.units :].any(), "padding units of dc0 are no longer zero"
    # da is not what the naive loops hand out, but dx = da @ W_ih and db = sum(da) are
    plain = batch.gates_of(da).reshape(batch.rows, -1)
    dx = plain.astype(np.float64) @ case.weights.w_ih
    for rows, dx_n in zip(rows_of, expected.x, strict=True):
        scale = max(np.abs(grad).max() for grad in expected.x)
        assert np.abs(dx[rows] - dx_n).max() <= {"float32": 1e-4, "float64": 1e-10}[dtype] * scale
    assert_gradients_close(plain.sum(axis=0), expected.weights.b_ih, what="db")


@given(CASES, strategies.float_types(), st.data())
def test_backward_has_the_same_bits_however_sequences_are_shared(case, dtype, data):
    batch = Batch(case, dtype)
    dy = np.random.default_rng(2).standard_normal((batch.rows, batch.units)).astype(dtype)
    parts = data.draw(strategies.cuts_of(batch.count))
    for whole, shared in zip(batch.backward(dy, 0.5), batch.backward(dy, 0.5, parts), strict=True):
        assert_bitwise_equal(shared, whole)


def _rows_of_sequences(batch):
    """Return the rows of each sequence, in packed order."""
    offsets = np.concatenate(([0], np.cumsum(batch.batch_sizes)))
    return [
        np.array([offsets[t] + n for t, alive in enumerate(batch.batch_sizes) if alive > n]) for n in range(batch.count)
    ]
