"""BPTT of every cell: against the naive loops' gradients, and the same bits however sequences are shared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.cell_cases import naive_gradients
from tests.kernels.recurrent.harness import UNITS, Batch, every_cell
from tests.tolerances import assert_bitwise_equal, assert_gradients_close


def rows_before(batch):
    """Return the row of `hidden` that holds h before each packed row."""
    before = np.empty(batch.rows, np.int64)
    for n, rows in enumerate(batch.rows_of_sequences()):
        before[rows] = [n, *(batch.count + rows[:-1])]
    return before


@every_cell
@pytest.mark.parametrize("units", UNITS)
def test_backward_gives_the_naive_gradients(name, dtype, units):
    batch = Batch(name, dtype, units=units)
    expected = naive_gradients(batch.case)
    hidden = batch.forward()[2].astype(np.float64)
    da, apart, carried = batch.backward()
    cell, weights = batch.cell, batch.case.weights
    of_inputs = batch.in_torch_order(da).reshape(batch.rows, -1).astype(np.float64)
    of_h, w_hh = of_inputs, weights["weight_hh_l0"].copy()
    if cell.is_apart:
        of_h = batch.in_torch_order(apart).reshape(batch.rows, -1).astype(np.float64)
    if cell.reset_before:  # what comes through n is carried
        w_hh[-units:] = 0.0

    def compare(found, wanted, what):
        assert_gradients_close(found.astype(dtype), wanted, what=f"{what} of {units} units")

    dx = of_inputs @ weights["weight_ih_l0"]
    compare(np.concatenate([dx[rows] for rows in batch.rows_of_sequences()]), np.concatenate(expected.xs), "dx")
    compare(of_inputs.T @ batch.x, expected.weights["weight_ih_l0"], "the gradient of W_ih")
    compare(of_inputs.sum(axis=0), expected.weights["bias_ih_l0"], "the gradient of b_ih")
    compare(of_h.sum(axis=0), expected.weights["bias_hh_l0"], "the gradient of b_hh")
    dh0 = of_h[: batch.count] @ w_hh
    if cell.has_carry and not cell.has_cell:
        dh0 += carried[:, :units]
    compare(dh0, expected.states[0], "dh0")
    if cell.has_cell:
        compare(carried[:, :units], expected.states[1], "dc0")
        assert not carried[:, units:].any(), "padding units of dc0 are no longer zero"
    if not cell.reset_before:
        compare(of_h.T @ hidden[rows_before(batch)], expected.weights["weight_hh_l0"], "the gradient of W_hh")


@every_cell
@settings(max_examples=6)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=14),
    st.integers(1, 40),
    strategies.seeds(),
    st.data(),
)
def test_no_bit_of_a_gradient_depends_on_how_sequences_are_shared(name, dtype, lengths, units, seed, data):
    batch = Batch(name, dtype, lengths, units, 3, seed)
    parts = data.draw(strategies.cuts_of(batch.count))
    for what, whole, shared in zip(("da", "apart", "carried"), batch.backward(), batch.backward(parts), strict=True):
        assert_bitwise_equal(shared, whole, what=what)


@every_cell
def test_going_back_through_masks_of_ones_is_going_back_without_any(name, dtype):
    """Within roundings: with masks, what comes back is added to dy at the end of its sum and not at the start."""
    batch = Batch(name, dtype, units=20)
    masked = batch.backward(mask=np.ones((batch.count, batch.width)))
    whole = batch.backward()
    assert_gradients_close(batch.in_torch_order(masked[0]), batch.in_torch_order(whole[0]), what="da")
    if batch.cell.has_carry:
        assert_gradients_close(batch.known(masked[2]), batch.known(whole[2]), what="carried")
