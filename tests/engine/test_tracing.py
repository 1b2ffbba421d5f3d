"""Traces of a recurrence: every gate and state as the naive loops compute them, and h with the bits of inference."""

import numpy as np
import pytest

from fastlstm.data.packed import pack
from fastlstm.engine import tracing
from fastlstm.engine.context import PassContext
from fastlstm.runtime.config import tuned
from fastlstm.threads import set_num_threads
from tests.cell_cases import make_case
from tests.layers.cells import every_spec, layer_of, one_of_each, state_of
from tests.naive import Spec, cells
from tests.tolerances import OUTPUT, assert_bitwise_equal, assert_outputs_close

SHARED = {"serial_below_ns": 0.0, "pool_from_ns": 0.0, "unit_parallel_weights": 0, "unit_parallel_steps": (1, 1)}


def run(case, dtype="float64"):
    """Return the trace of a case, its final state, and the recurrence, batch and start state it came from."""
    layer = layer_of(case, dtype)
    x, _ = pack(case.xs, features=True, dtype=layer.dtype)
    state = state_of(case.spec, (x.to_packed_order(np.asarray(part, layer.dtype)) for part in case.states))
    return *tracing.trace(layer.recurrence, x, state), (layer.recurrence, x, state)


@every_spec
@pytest.mark.parametrize("units", [3, 4, 9, 21])
def test_every_gate_and_state_is_that_of_the_naive_loop(spec, units):
    """From a start state; units that fill registers, half of one, and neither."""
    case = make_case(spec, [4, 1, 6], 3, units, seed=units)
    traced, final, (_, x, _) = run(case)
    expected = cells.trace(spec, case.xs, case.states, case.weights)
    arrays = {**traced.gates, "h": traced.hidden} | ({"c": traced.cell} if spec.kind == "lstm" else {})
    assert set(arrays) == set(expected[0])
    for name, rows in arrays.items():
        for place, n in enumerate(x.order):
            found = rows[x.sequence_of_row == place]
            bound = OUTPUT["float64"] * max(1.0, np.abs(expected[n][name]).max())
            assert_outputs_close(found, expected[n][name], what=f"{name} of sequence {n}", bound=bound)
    for part, rows in zip(final, (traced.hidden, traced.cell), strict=False):
        assert_bitwise_equal(part, x.last_of(rows))


@one_of_each
@pytest.mark.parametrize("lengths", [[5], [5, 5, 5], [4, 1, 6]], ids=str)
def test_h_has_the_bits_of_inference(spec, dtype, lengths):
    case = make_case(spec, lengths, 3, 21, seed=1)
    traced, final, (recurrence, x, state) = run(case, dtype)
    rows, expected = recurrence.infer(x, state)
    assert_bitwise_equal(traced.hidden, rows)
    for part, other in zip(final, expected, strict=True):
        assert_bitwise_equal(part, other)


@one_of_each
def test_a_trace_has_the_same_bits_on_any_number_of_threads(spec, dtype):
    case = make_case(spec, [7, 7, 3], 3, 70, seed=2)
    found = []
    for threads, few in ((1, (4, 6)), (2, (4, 6)), (2, (0, 0))):  # cores share units, or sequences
        set_num_threads(threads)
        with tuned(**SHARED, few_sequences=few):
            found.append(run(case, dtype)[0])
    for traced in found[1:]:
        assert_bitwise_equal(traced.hidden, found[0].hidden)
        for name, rows in found[0].gates.items():
            assert_bitwise_equal(traced.gates[name], rows, what=name)
        if spec.kind == "lstm":
            assert_bitwise_equal(traced.cell, found[0].cell)


def test_a_traced_pass_drops_nothing_and_keeps_no_cache():
    case = make_case(Spec("lstm"), [4, 2], 3, 5, seed=3)
    layer = layer_of(case, dropout=0.5, recurrent_dropout=0.5)
    x, _ = pack(case.xs, features=True, dtype=layer.dtype)
    noted = []
    y, _, cache = layer.run_steps(x, None, PassContext(traces=noted))
    assert cache is None
    [(owner, traced)] = noted
    assert owner is layer
    assert_bitwise_equal(y.rows, traced.hidden)
    assert_bitwise_equal(y.rows, layer.run_steps(x, None, PassContext())[0].rows)


@one_of_each
def test_turned_turns_every_sequence(spec):
    traced, _, (_, x, _) = run(make_case(spec, [4, 1, 6], 3, 5, seed=4))
    turned = traced.turned()
    for place in range(3):
        mine = x.sequence_of_row == place
        assert_bitwise_equal(turned.hidden[mine], traced.hidden[mine][::-1])
        for name, rows in traced.gates.items():
            assert_bitwise_equal(turned.gates[name][mine], rows[mine][::-1])
    assert (turned.cell is None) == (spec.kind != "lstm")
