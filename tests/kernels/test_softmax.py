"""Softmax kernels against float64 loops: every width of a tail, far-off logits, many classes, hostile values."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels.softmax import (
    cross_entropy,
    smoothed_cross_entropy,
    soft_cross_entropy,
    softmax_cross_entropy,
    softmax_rows,
)
from tests import strategies
from tests.naive import cross_entropy as naive
from tests.tolerances import assert_bitwise_equal, assert_gradients_close

LOSS = {"float32": 2e-6, "float64": 1e-13}
"""Largest error of a loss, relative to the larger of 1 and the spread of its row."""


class Case(NamedTuple):
    logits: np.ndarray  # (M, V)
    targets: np.ndarray  # (M,)
    soft: np.ndarray  # (M, V)
    weights: np.ndarray  # (M,)


def make_case(rows, classes, dtype, seed, spread=4.0):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((rows, classes)) * spread + 50.0 * rng.standard_normal((rows, 1))
    return Case(
        logits.astype(dtype),
        rng.integers(0, classes, rows),
        rng.random((rows, classes)).astype(dtype),
        rng.random(rows) + 0.5,
    )


def cases():
    return st.builds(make_case, st.integers(1, 6), st.integers(1, 70), strategies.float_types(), strategies.seeds())


def assert_losses_close(losses, expected, logits):
    scale = np.maximum(1.0, np.ptp(logits.astype(np.float64), axis=1))
    error = np.abs(losses - expected) / scale
    assert (error <= LOSS[str(logits.dtype)]).all(), f"losses differ by up to {error.max():.3g}"


def run_sparse(case, parts=None):
    logits, losses = case.logits.copy(), np.full(len(case.logits), np.nan)
    for begin, end in pairwise(parts or [0, len(logits)]):
        softmax_cross_entropy(logits, case.targets, case.weights, losses, begin, end)
    return losses, logits


@given(cases(), st.data())
def test_cross_entropy_and_its_gradient(case, data):
    losses, gradient = run_sparse(case)
    exact = [naive.cross_entropy(z.astype(float), t) for z, t in zip(case.logits, case.targets, strict=True)]
    assert_losses_close(losses, [loss for loss, _ in exact], case.logits)
    expected = np.array([weight * g for weight, (_, g) in zip(case.weights, exact, strict=True)])
    error = np.abs(gradient - expected).max()  # a weight of order 1 times probabilities
    assert error < 20 * np.finfo(case.logits.dtype).eps

    split_losses, split_gradient = run_sparse(case, data.draw(strategies.cuts_of(len(case.logits))))
    assert_bitwise_equal(split_losses, losses)
    assert_bitwise_equal(split_gradient, gradient)


@given(cases())
def test_loss_alone_is_the_same_and_leaves_the_logits(case):
    kept, losses = case.logits.copy(), np.empty(len(case.logits))
    cross_entropy(case.logits, case.targets, losses, 0, len(losses))
    assert_bitwise_equal(losses, run_sparse(case)[0])
    assert_bitwise_equal(case.logits, kept)


def run_smoothed(case, smoothing, parts=None):
    logits, losses = case.logits.copy(), np.full(len(case.logits), np.nan)
    for begin, end in pairwise(parts or [0, len(logits)]):
        smoothed_cross_entropy(logits, case.targets, smoothing, case.weights, losses, begin, end)
    return losses, logits


@given(cases(), st.floats(0.0, 1.0), st.data())
def test_smoothed_targets(case, smoothing, data):
    losses, gradient = run_smoothed(case, smoothing)
    classes = case.logits.shape[1]
    exact = []
    for z, target in zip(case.logits.astype(float), case.targets, strict=True):
        y = np.full(classes, smoothing / classes)
        y[target] += 1.0 - smoothing
        exact.append(naive.soft_cross_entropy(z, y))
    assert_losses_close(losses, [loss for loss, _ in exact], case.logits)
    expected = np.array([weight * g for weight, (_, g) in zip(case.weights, exact, strict=True)])
    assert np.abs(gradient - expected).max() < 30 * np.finfo(gradient.dtype).eps

    split_losses, split_gradient = run_smoothed(case, smoothing, data.draw(strategies.cuts_of(len(losses))))
    assert_bitwise_equal(split_losses, losses)
    assert_bitwise_equal(split_gradient, gradient)


@given(cases())
def test_soft_targets(case):
    logits, losses = case.logits.copy(), np.empty(len(case.logits))
    soft_cross_entropy(logits, case.soft, case.weights, losses, 0, len(losses))
    exact = [
        naive.soft_cross_entropy(z, y) for z, y in zip(case.logits.astype(float), case.soft.astype(float), strict=True)
    ]
    mass = case.soft.sum(axis=1, dtype=float)
    assert_losses_close(losses / mass, np.array([loss for loss, _ in exact]) / mass, case.logits)
    expected = np.array([weight * g for weight, (_, g) in zip(case.weights, exact, strict=True)])
    assert np.abs(logits - expected).max() < 50 * np.finfo(logits.dtype).eps * max(1.0, mass.max())


@given(cases())
def test_soft_targets_that_are_one_hot_give_the_sparse_loss(case):
    soft = np.zeros_like(case.logits)
    soft[np.arange(len(soft)), case.targets] = 1.0
    logits, losses = case.logits.copy(), np.empty(len(soft))
    soft_cross_entropy(logits, soft, case.weights, losses, 0, len(losses))
    expected, gradient = run_sparse(case)
    assert_losses_close(losses, expected, case.logits)
    assert np.abs(logits - gradient).max() < 20 * np.finfo(logits.dtype).eps


@given(cases())
def test_softmax_rows(case):
    x = case.logits.copy()
    softmax_rows(x, 0, len(x))
    expected = np.array([naive.softmax(z) for z in case.logits.astype(float)])
    assert_gradients_close(x, expected, bound={"float32": 1e-6, "float64": 2e-14}[str(x.dtype)])


def test_only_the_rows_asked_for_are_touched(dtype):
    case = make_case(5, 19, dtype, 1)
    logits, losses = case.logits.copy(), np.full(5, 7.0)
    softmax_cross_entropy(logits, case.targets, case.weights, losses, 1, 3)
    assert_bitwise_equal(logits[[0, 3, 4]], case.logits[[0, 3, 4]])
    assert losses[[0, 3, 4]].tolist() == [7.0] * 3
    assert (logits[1:3] != case.logits[1:3]).all()


def test_fifty_thousand_classes_lose_no_digits():
    case = make_case(3, 50_000, "float32", 2, spread=0.1)  # nearly alike: every class counts in the sum
    losses, gradient = run_sparse(case)
    z = case.logits.astype(np.float64)
    shifted = z - z.max(axis=1, keepdims=True)
    lse = np.log(np.exp(shifted).sum(axis=1))
    assert np.abs(losses - (lse - shifted[np.arange(3), case.targets])).max() < 2e-7 * lse.max()
    p = np.exp(shifted - lse[:, None])
    p[np.arange(3), case.targets] -= 1.0
    assert_gradients_close(gradient, case.weights[:, None] * p, bound=1e-6)
    assert np.abs(gradient.sum(axis=1, dtype=np.float64)).max() < 2e-6


@pytest.mark.parametrize("classes", [3, 16, 37])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nan_or_infinity_anywhere_makes_the_loss_nan(dtype, classes, bad):
    for place in range(classes):
        case = make_case(2, classes, dtype, place)
        case.logits[1, place] = bad
        losses, _ = run_sparse(case)
        assert math.isfinite(losses[0])
        assert math.isnan(losses[1]), f"class {place} is {bad}, the loss {losses[1]}"


@pytest.mark.parametrize("classes", [5, 40])
def test_a_masked_class_has_no_probability_and_no_gradient(dtype, classes):
    case = make_case(1, classes, dtype, 3)
    case.logits[0, 2] = -math.inf
    case.targets[0] = 1
    case.soft[0, 2] = 0.0
    losses, gradient = run_sparse(case)
    others = np.delete(case.logits[0].astype(float), 2)
    assert_losses_close(losses, [naive.cross_entropy(others, 1)[0]], others[None].astype(dtype))
    assert gradient[0, 2] == 0.0
    soft_cross_entropy(case.logits, case.soft, case.weights, losses, 0, 1)
    assert math.isfinite(losses[0])
    assert case.logits[0, 2] == 0.0


def test_far_off_classes_leave_no_denormal_numbers(dtype):
    """exp(-80) / 10,000 would be one in float32; whole rows of them cost a hundred times as much."""
    case = make_case(1, 64, dtype, 4)
    case.logits[0] = np.linspace(-800.0, 0.0, 64)
    _, gradient = run_sparse(case._replace(weights=np.array([1e-4])))
    size = np.abs(gradient[gradient != 0])
    assert size.min() >= np.finfo(dtype).tiny
