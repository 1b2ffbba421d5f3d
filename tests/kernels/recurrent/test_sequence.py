"""Whole sequences forward, for every cell: against the naive loops, and the same bits however the work is cut."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlstm.engine.products import times
from tests import strategies
from tests.kernels.recurrent.harness import UNITS, Batch, every_cell
from tests.naive import cells
from tests.tolerances import assert_bitwise_equal, assert_outputs_close


def naive_rows(batch, letter):
    """Return what the naive loops say of each packed row: a gate or a state by its letter."""
    case = batch.case
    traces = cells.trace(case.spec, case.xs, case.states, case.weights)
    found = np.empty((batch.rows, traces[0][letter].shape[1]))
    for rows, trace in zip(batch.rows_of_sequences(), traces, strict=True):
        found[rows] = trace[letter]
    return found


@every_cell
@pytest.mark.parametrize("units", UNITS)
def test_forward_keeps_what_the_naive_loops_compute(name, dtype, units):
    batch = Batch(name, dtype, units=units)
    gates, _, hidden, c = batch.forward()
    assert_outputs_close(hidden[batch.count :], naive_rows(batch, "h"), what="h")
    if batch.cell.has_cell:
        assert_outputs_close(c[batch.count :, :units], naive_rows(batch, "c"), what="c")
    kept = batch.in_torch_order(gates)
    for place, gate in enumerate(batch.cell.gates):
        assert_outputs_close(kept[:, place], naive_rows(batch, gate), what=f"gate {gate}")


@every_cell
@pytest.mark.parametrize("units", UNITS)
def test_inference_has_the_bits_of_training(name, dtype, units):
    batch = Batch(name, dtype, units=units)
    _, _, hidden, c = batch.forward()
    h, last = batch.infer()
    assert_bitwise_equal(h, hidden, what="h")
    if batch.cell.has_cell:
        assert_bitwise_equal(last[:, :units], c[batch.count + batch.last, :units], what="final c")


@every_cell
@settings(max_examples=10)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=14),
    st.integers(1, 4),
    st.integers(1, 40),
    strategies.seeds(),
    st.data(),
)
def test_no_bit_depends_on_the_chunk_or_on_how_sequences_are_shared(name, dtype, lengths, features, units, seed, data):
    batch = Batch(name, dtype, lengths, units, features, seed)
    parts, height = data.draw(strategies.cuts_of(batch.count)), data.draw(st.integers(1, batch.rows + 3))
    batch.assert_same(batch.infer(parts, height), batch.infer())
    batch.assert_same(batch.forward(parts), batch.forward(), ("gates", "apart", "h", "c"))


@every_cell
def test_a_sequence_alone_has_the_bits_that_it_has_in_a_batch(name, dtype):
    batch = Batch(name, dtype, units=33)
    hidden, last = batch.infer()
    for n, rows in enumerate(batch.rows_of_sequences()):
        alone = Batch(name, dtype, [len(rows)], units=33)
        alone.x[...], alone.params, alone.weights = batch.x[rows], batch.params, batch.weights
        alone.kernel_weights, alone.states = batch.kernel_weights, [part[n : n + 1] for part in batch.states]
        h, c = alone.infer()
        assert_bitwise_equal(h[1:], hidden[batch.count + rows], what=f"h of sequence {n}")
        if batch.cell.has_cell:
            assert_bitwise_equal(c[:, :33], last[n : n + 1, :33], what=f"final c of sequence {n}")


@every_cell
def test_three_chunks_with_carried_states_are_the_whole(name, dtype):
    batch = Batch(name, dtype, [9, 9, 9], units=20)
    hidden, last = batch.infer()
    state, found = batch.states, []
    for first, end in ((0, 2), (2, 3), (3, 9)):
        chunk = Batch(name, dtype, [end - first] * 3, units=20)
        chunk.x[...], chunk.weights, chunk.kernel_weights = (
            batch.x[3 * first : 3 * end],
            batch.weights,
            batch.kernel_weights,
        )
        chunk.states = state
        h, c = chunk.infer()
        found.append(h[3:])
        state = [h[-3:], c[:, :20]]
    assert_bitwise_equal(np.concatenate(found), hidden[3:])
    if batch.cell.has_cell:
        assert_bitwise_equal(state[1], last[:, :20])


# --- how x lies, and where h goes ------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("count", [1, 3, 14])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("reverse_out", [False, True])
def test_a_batch_is_read_where_it_lies_also_from_its_end(name, dtype, count, time_major, reverse_out):
    steps, units = 5, 20
    batch = Batch(name, dtype, [steps] * count, units)
    expected, last = batch.infer()
    _, direction = batch.direction(time_major)
    values, _, step, sequence = direction.x
    by_step = batch.x.reshape(steps, count, -1)
    turned = np.ascontiguousarray(by_step[::-1] if time_major else by_step[::-1].swapaxes(0, 1))
    for x in (direction.x, (turned.reshape(-1), (steps - 1) * step, -step, sequence)):
        wide = batch.new(len(expected), 2 * batch.width)  # as one half of the rows of both directions
        start = slice(batch.rows, None) if reverse_out else slice(count)
        wide[start, : batch.width] = batch.states[0]
        c = batch.cells(count)
        for part in ((0, 1), (1, count)) if count > 1 else ((0, 1),):
            batch.run_infer(x, np.empty(0, np.int64), (wide, reverse_out), c, 2 * count, part, 2 * batch.width)
        assert np.isnan(wide[:, batch.width :]).all(), "the other half was written to"
        found = wide[:, : batch.width].reshape(steps + 1, count, -1)
        assert_bitwise_equal(found[::-1] if reverse_out else found, expected.reshape(found.shape))
        if batch.cell.has_cell:
            assert_bitwise_equal(c[:, :units], last[:, :units])
    assert values is direction.x[0]


@every_cell
@pytest.mark.parametrize("height", [1, 7, 30])
def test_inputs_by_id_from_a_table_of_products_have_the_bits_of_rows(name, dtype, height, rng):
    batch = Batch(name, dtype, units=20)
    table = batch.arrays.copy(batch.x[:6])
    ids = rng.integers(0, 6, batch.rows)
    batch.x[...] = table[ids]
    expected, last = batch.infer()
    products = batch.new(6, batch.geometry.gate_columns)
    times(table, batch.weights.input, batch.weights.bias, products, batch.cell.columns)
    hidden, c = batch.hidden(), batch.cells(batch.count)
    for part in ((0, 2), (2, batch.count)):
        batch.run_infer((products.reshape(-1), 0, 0, 0), ids, (hidden, False), c, height, part)
    assert_bitwise_equal(hidden, expected)
    if batch.cell.has_cell:
        assert_bitwise_equal(c[:, :20], last[:, :20])


# --- start states, empty parts, recurrent dropout --------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("starts_elsewhere", [[], [1], [0, 3]])
def test_zeros_before_the_first_step_are_not_multiplied_and_change_no_bit(name, dtype, starts_elsewhere):
    batch = Batch(name, dtype, units=33)
    batch.states[0] *= np.isin(np.arange(batch.count), starts_elsewhere)[:, None]
    hidden, _ = batch.infer(parts=[0, 3, batch.count])
    assert_bitwise_equal(hidden, batch.forward()[2])


def test_weights_that_are_not_finite_do_not_meet_zeros():
    """Zero times infinity would be NaN."""
    batch = Batch("lstm", "float64", units=20)
    batch.states[0][...] = 0.0
    batch.weights.recurrent[...] = np.inf
    hidden, _ = batch.infer()
    assert np.isfinite(hidden[: 2 * batch.count]).all()
    batch.states[0][0, 0] = 1.0
    assert not np.isfinite(batch.infer()[0][: 2 * batch.count]).all()


@pytest.mark.parametrize("parts", [[0, 0, 3], [0, 3, 3], [0, 1, 1, 3]])
@pytest.mark.parametrize("kernel", ["infer", "forward", "backward"])
def test_an_empty_part_of_the_sequences_is_no_work(kernel, parts):
    """A cut by lengths makes one where a sequence outweighs the others. Kernels cannot be interrupted: a thread."""
    batch = Batch("lstm", "float64", [9, 1, 1], 3, 2)
    expected, results = getattr(batch, kernel)([0, 3]), []
    worker = threading.Thread(target=lambda: results.append(getattr(batch, kernel)(parts)), daemon=True)
    worker.start()
    worker.join(10)
    assert results, f"{kernel} does not return from an empty part"
    for whole, shared in zip(expected, results[0], strict=True):
        assert_bitwise_equal(batch.known(shared), batch.known(whole))


@every_cell
def test_recurrent_dropout_masks_h_in_the_recurrent_product_only(name, dtype, rng):
    """Against steps of one without a mask, each from h times the mask."""
    batch = Batch(name, dtype, [3, 3], units=9)
    mask = (rng.random((2, batch.width)) < 0.5) * 2.0
    _, _, hidden, c = batch.forward(mask=mask)
    ones = batch.forward(mask=np.ones((2, batch.width)))
    assert_bitwise_equal(ones[2], batch.forward()[2], what="a mask of ones")
    if batch.cell.has_carry and not batch.cell.has_cell:
        return  # h also passes the gates by: the layers' tests against naive loops have that
    for t in range(3):
        step = Batch(name, dtype, [1, 1], units=9)
        step.x[...], step.weights = batch.x[2 * t : 2 * t + 2], batch.weights
        step.states = [hidden[2 * t : 2 * t + 2] * mask.astype(dtype), c[2 * t : 2 * t + 2, :9]]
        assert_bitwise_equal(step.forward()[2][2:], hidden[2 * t + 2 : 2 * t + 4], what=f"step {t}")
