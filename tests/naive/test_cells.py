"""The naive cells by themselves: their gradients are the numeric ones, and forward, reverse and trace fit together."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from tests import gradcheck
from tests.cell_cases import SPECS, make_case, smooth_case
from tests.naive import activations, cells
from tests.naive.spec import GATES
from tests.tolerances import assert_bitwise_equal

EVERY_SPEC = pytest.mark.parametrize("spec", SPECS, ids=str)


@EVERY_SPEC
@pytest.mark.parametrize("reverse", [False, True])
def test_every_gradient_is_the_numeric_one(spec, reverse):
    case = smooth_case(spec, [4, 1, 3], 2, 4, scale=2.0, reverse=reverse)
    found = cells.backward(spec, case.xs, case.states, case.weights, case.dys, case.d_finals, reverse)
    arrays = {f"x{n}": x for n, x in enumerate(case.xs)} | {f"state{k}": part for k, part in enumerate(case.states)}
    gradients = {f"x{n}": dx for n, dx in enumerate(found.xs)}
    gradients |= {f"state{k}": part for k, part in enumerate(found.states)} | found.weights

    def loss():
        return case.loss(*cells.forward(spec, case.xs, case.states, case.weights, reverse))

    gradcheck.assert_gradients(loss, arrays | case.weights, gradients)


@pytest.mark.parametrize("name", activations.ROW_NAMES)
def test_slopes_are_the_numeric_ones(name):
    at = np.linspace(-4.05, 4.05, 82)  # not at a kink
    assert all(abs(at - kink).min() > 0.01 for kink in activations.KINKS.get(name, ()))
    found = {"a": np.array([activations.slope(name, a) for a in at])}
    gradcheck.assert_gradients(lambda: sum(activations.value(name, a) for a in at), {"a": at}, found)


@pytest.mark.parametrize("name", sorted({*activations.ROW_NAMES} - {"exponential"}))
def test_far_out_nothing_overflows(name):
    for a in (-1e4, 1e4):
        assert np.isfinite([activations.value(name, a), activations.slope(name, a)]).all()


def test_the_two_hard_sigmoids_are_kerass():
    assert [activations.value("hard_sigmoid", a) for a in (-3, 0, 1.5, 3)] == [0, 0.5, 0.75, 1]  # Keras 3
    assert [activations.value("hard_sigmoid_keras2", a) for a in (-2.5, 0, 1.25, 2.5)] == [0, 0.5, 0.75, 1]


@EVERY_SPEC
def test_reverse_is_forward_over_turned_sequences(spec):
    case = make_case(spec, [3, 5], 2, 4, seed=1)
    ys, finals = cells.forward(spec, case.xs, case.states, case.weights, reverse=True)
    turned, ends = cells.forward(spec, [x[::-1] for x in case.xs], case.states, case.weights)
    for y, other in zip(ys, turned, strict=True):
        assert_bitwise_equal(y, other[::-1])
    for part, other in zip(finals, ends, strict=True):
        assert_bitwise_equal(part, other)


@EVERY_SPEC
def test_the_trace_has_every_gate_and_the_output(spec):
    case = make_case(spec, [3, 5], 2, 4, seed=1)
    ys, finals = cells.forward(spec, case.xs, case.states, case.weights)
    for n, trace in enumerate(cells.trace(spec, case.xs, case.states, case.weights)):
        assert set(trace) == {*GATES[spec.kind], *cells.STATES[spec.kind]}
        assert_bitwise_equal(trace["h"], ys[n])
        for letter, final in zip(cells.STATES[spec.kind], finals, strict=True):
            assert_bitwise_equal(trace[letter][-1], final[n])
        if spec.coupled:
            np.testing.assert_allclose(trace["i"] + trace["f"], 1.0, atol=1e-15)


def test_nothing_of_the_library_is_imported():
    folder = Path(inspect.getfile(cells)).parent
    for source in folder.glob("*.py"):
        if not source.name.startswith("test_"):
            assert "import fastlstm" not in (text := source.read_text(encoding="utf-8")), source.name
            assert "from fastlstm" not in text, source.name
