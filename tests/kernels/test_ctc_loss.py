"""CTC kernels against brute force and loops in logarithms: every width of a register, long and sure sequences."""

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels.ctc_loss import ctc_gradients, ctc_losses, memory_for
from fastlstm.simd.host import REGISTERS
from tests import strategies
from tests.naive import ctc_loss as naive
from tests.tolerances import assert_bitwise_equal

LANES = REGISTERS.lanes(8)
EVERYTHING = 1 << 30


class Case(NamedTuple):
    z: np.ndarray  # (T, V)
    labels: np.ndarray  # (L,)
    blank: int

    @property
    def steps(self):
        return len(self.z)


def make_case(steps, count, classes, blank=0, seed=0, spread=2.0, dtype="float64"):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, count)
    return Case((spread * rng.standard_normal((steps, classes))).astype(dtype), labels + (labels >= blank), blank)


def run(case, fused=True, weight=1.0, kept=EVERYTHING, memory=None):
    """Return the loss and its gradient, from memory that is exactly as large as it must be and holds NaN."""
    rows, lengths, starts = np.arange(case.steps + 1), np.array([case.steps]), np.array([0, len(case.labels)])
    if memory is None:
        memory = np.full(memory_for(case.steps, len(case.labels), True, LANES, kept), np.nan)
    gradient, losses = case.z.copy(), np.full(1, np.nan)
    shape = rows, lengths, case.labels, starts, case.blank, fused
    ctc_gradients(gradient, *shape, np.array([weight]), losses, memory, 0, 1)
    alone, small = np.full(1, np.nan), np.full(memory_for(case.steps, len(case.labels), False, LANES, kept), np.nan)
    z = case.z.copy()
    ctc_losses(z, *shape, alone, small, 0, 1)
    assert_bitwise_equal(alone, losses, what="the loss without a gradient")
    assert_bitwise_equal(z, case.z, what="the output")
    return losses[0], gradient


def softmax(z):
    return np.exp(naive.log_softmax(z))


@pytest.mark.parametrize(("steps", "classes"), [(1, 3), (3, 3), (4, 3), (6, 2)])
@pytest.mark.parametrize("blank", [0, 1])
def test_all_short_strings_are_those_of_brute_force(steps, classes, blank):
    """Also those that no alignment spells; and all strings together have probability 1."""
    case, total = make_case(steps, 0, classes, blank), 0.0
    others = [label for label in range(classes) if label != blank]
    for count in range(steps + 2):
        for labels in product(others, repeat=count):
            loss, gradient = run(case._replace(labels=np.array(labels, np.int64)))
            log_probs = naive.log_softmax(case.z)
            assert loss == pytest.approx(naive.brute_force(log_probs, labels, blank), rel=1e-12)
            assert loss == pytest.approx(naive.ctc(log_probs, labels, blank)[0], rel=1e-12)
            assert (gradient == 0.0).all() == (loss == math.inf)
            total += math.exp(-loss)
    assert total == pytest.approx(1.0, rel=1e-12)


@given(
    st.integers(1, 24),
    st.integers(0, 20),
    st.integers(2, 6),
    st.integers(0, 5),
    strategies.seeds(),
    strategies.float_types(),
)
def test_loss_and_gradient_are_those_of_loops_in_logarithms(steps, count, classes, blank, seed, dtype):
    case = make_case(steps, count, classes, min(blank, classes - 1), seed, dtype=dtype)
    expected, gradient = naive.ctc_of_logits(case.z.astype(float), case.labels, case.blank)
    loss, ours = run(case, weight=0.5)
    bound = {"float32": 1e-6, "float64": 1e-12}[dtype]
    assert loss == pytest.approx(expected, rel=bound)
    assert np.abs(ours - 0.5 * gradient).max() < bound


@given(st.integers(1, 12), st.integers(0, 8), st.integers(2, 5), strategies.seeds())
def test_of_probabilities_the_gradient_is_minus_the_posteriors_over_them(steps, count, classes, seed):
    case = make_case(steps, count, classes, seed=seed)
    p = softmax(case.z)
    expected, posteriors = naive.ctc(np.log(p), case.labels)
    loss, ours = run(case._replace(z=p), fused=False)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert np.abs(ours * p + posteriors).max() < 1e-12


@pytest.mark.parametrize("count", range(3 * LANES))
def test_every_width_with_as_many_steps_as_labels_and_more(count):
    for steps in (count, count + 1, 2 * count + 3):
        if steps:
            case = make_case(steps, count, 4, seed=count)
            loss, gradient = run(case)
            expected, exact = naive.ctc_of_logits(case.z, case.labels)
            assert loss == pytest.approx(expected, rel=1e-12)
            assert np.abs(gradient - exact).max() < 1e-12


@pytest.mark.parametrize("fused", [True, False])
def test_less_memory_takes_longer_and_gives_the_same_bits(fused, dtype):
    case = make_case(101, 13, 5, 2, dtype=dtype)
    if not fused:
        case = case._replace(z=softmax(case.z))
    expected = run(case, fused)
    whole = memory_for(101, 13, True, LANES, EVERYTHING)
    least = memory_for(101, 13, True, LANES, 0)
    assert least < whole / 3
    for size in (least, least + 7, (least + whole) // 2, whole - 1, whole, whole + 1000):
        loss, gradient = run(case, fused, memory=np.full(size, np.nan))
        assert loss == expected[0]
        assert_bitwise_equal(gradient, expected[1])


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 15, 16, 17, 99])
def test_the_least_memory_is_enough_for_any_length(steps):
    case = make_case(steps, 2, 3, seed=steps)
    loss, gradient = run(case, kept=0)
    expected, exact = run(case)
    assert loss == expected
    assert_bitwise_equal(gradient, exact)


def test_five_thousand_steps_need_a_cache_full_of_memory():
    assert memory_for(5000, 300, True, LANES, 1 << 19) * 8 < 5 << 20
    assert memory_for(5000, 300, True, LANES, EVERYTHING) * 8 > 60 << 20


@pytest.mark.parametrize(
    ("spread", "for_blank"),
    [(0.0, 0.0), (1.0, 0.0), (1.0, 30.0), (1.0, 300.0), (100.0, 0.0), (3000.0, 0.0), (1e6, 0.0)],
)
def test_a_model_that_is_sure_and_wrong_loses_no_digit(spread, for_blank):
    """The likeliest path is 1e-100000 times as likely as others: no float holds both, nor any fixed scale."""
    case = make_case(250, 60, 6, spread=spread)
    case.z[:, 0] += for_blank
    expected, exact = naive.ctc_of_logits(case.z, case.labels)
    loss, gradient = run(case)
    assert loss == pytest.approx(expected, rel=1e-13)
    assert np.abs(gradient - exact).max() < 1e-14 * max(100.0, expected)  # the loops round logarithms so large
    assert np.abs(gradient.sum(axis=1)).max() < 1e-13  # as only the kernel's own digits can be


def test_five_thousand_steps_lose_no_digit(dtype):
    case = make_case(5000, 12, 4, dtype=dtype)
    case.z[:, 0] += 8.0
    loss, gradient = run(case)
    expected, exact = naive.ctc_of_logits(case.z.astype(float), case.labels)
    assert loss == pytest.approx(expected, rel={"float32": 1e-6, "float64": 1e-12}[dtype])
    assert np.abs(gradient - exact).max() < {"float32": 1e-6, "float64": 1e-9}[dtype]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 4), (6, 1)])
def test_a_nan_or_infinity_makes_the_loss_and_the_gradient_nan(bad, place):
    case = make_case(7, 2, 5)
    case.z[place] = bad
    loss, gradient = run(case)
    assert math.isnan(loss)
    assert np.isnan(gradient).all()


def test_a_nan_among_the_probabilities_that_count_makes_the_loss_nan():
    case = make_case(7, 2, 5)
    p = softmax(case.z)
    p[3] = math.nan
    loss, gradient = run(case._replace(z=p), fused=False)
    assert math.isnan(loss)
    assert np.isnan(gradient).all()


def test_classes_at_minus_infinity_cannot_be(dtype):
    case = make_case(7, 2, 5, dtype=dtype)._replace(labels=np.array([1, 2]))
    case.z[:, 3] = -math.inf  # another class
    expected = run(case._replace(z=np.delete(case.z, 3, axis=1)))
    loss, gradient = run(case)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert (gradient[:, 3] == 0.0).all()
    case.z[:, 2] = -math.inf
    loss, gradient = run(case)
    assert loss == math.inf
    assert (gradient == 0.0).all()


@pytest.mark.parametrize("low", [-1e9, -1e30])
def test_a_class_that_is_masked_by_a_large_number_costs_much(low):
    """Down to about -1e14 the loss is what it should be; what is less likely than that counts as impossible."""
    case = make_case(7, 2, 5)._replace(labels=np.array([1, 2]))
    case.z[:, 2] = low
    loss, gradient = run(case)
    assert loss == (pytest.approx(1e9, rel=1e-6) if low > -1e14 else math.inf)
    assert np.isfinite(gradient).all()


def test_a_probability_of_zero_counts_as_the_smallest_number(dtype):
    case = make_case(7, 2, 5)._replace(labels=np.array([1, 2]))
    p = softmax(case.z).astype(dtype)
    p[:, 2] = 0.0
    floored = np.maximum(p, np.finfo(dtype).tiny)
    loss, gradient = run(case._replace(z=p), fused=False)
    assert loss == pytest.approx(naive.ctc(np.log(floored.astype(float)), case.labels)[0], rel=1e-12)
    assert 80 < loss < 800
    assert np.isfinite(gradient).all()
    assert (gradient[:, 2] < 0).any()


def test_far_off_classes_leave_no_denormal_numbers(dtype):
    case = make_case(40, 6, 30, dtype=dtype)
    case.z[:] *= 60.0
    _, gradient = run(case, weight=1e-4)
    assert np.abs(gradient[gradient != 0]).min() >= np.finfo(dtype).tiny


def test_only_the_rows_of_the_sequences_asked_for_are_touched(rng):
    """Three sequences in packed rows; the second alone."""
    batch_sizes = np.array([3, 3, 2, 2, 1])
    rows = np.concatenate([[0], np.cumsum(batch_sizes)])
    output = rng.standard_normal((11, 4))
    gradient, losses = output.copy(), np.full(3, 7.0)
    labels, starts = np.array([1, 3, 2, 2]), np.array([0, 1, 3, 4])
    memory = np.full(memory_for(5, 2, True, LANES, EVERYTHING), np.nan)
    ctc_gradients(gradient, rows, np.array([5, 4, 2]), labels, starts, 0, True, np.ones(3), losses, memory, 1, 2)
    own = rows[:4] + 1
    expected, exact = naive.ctc_of_logits(output[own], labels[1:3])
    assert losses == pytest.approx([7.0, expected, 7.0])
    assert np.abs(gradient[own] - exact).max() < 1e-13
    others = np.delete(np.arange(11), own)
    assert_bitwise_equal(gradient[others], output[others])
