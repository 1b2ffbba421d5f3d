"""Optimizer kernels against scalar float64 steps, whatever the length and the split; norms; numbers that vanish."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels import optim
from tests import strategies
from tests.naive import optim as naive
from tests.tolerances import assert_bitwise_equal, assert_outputs_close

STEPS = 5
SCALE = 0.5
RATE = 0.1


def _sgd(p, g, state, t, begin, end):
    optim.sgd(p, g, SCALE, RATE, begin, end)


def _momentum(nesterov):
    def step(p, g, state, t, begin, end):
        optim.momentum(p, g, state[0], SCALE, RATE, 0.9, nesterov, begin, end)

    return step


def _rmsprop(p, g, state, t, begin, end):
    optim.rmsprop(p, g, state[0], SCALE, RATE, 0.9, 1e-3, begin, end)


def _rmsprop_momentum(p, g, state, t, begin, end):
    optim.rmsprop_momentum(p, g, state[0], state[1], SCALE, RATE, 0.9, 1e-3, 0.8, begin, end)


def _adam(decay, penalty):
    def step(p, g, state, t, begin, end):
        corrections = RATE / (1 - 0.8**t), math.sqrt(1 - 0.95**t)
        factors = np.array([SCALE, *corrections, 1e-3, 0.8, 0.95, 1 - RATE * decay, penalty])
        optim.adam(p, g, state[0], state[1], factors, begin, end)

    return step


KERNELS = {
    "sgd": (_sgd, lambda: naive.Sgd(RATE)),
    "momentum": (_momentum(False), lambda: naive.Sgd(RATE, 0.9)),
    "nesterov": (_momentum(True), lambda: naive.Sgd(RATE, 0.9, True)),
    "rmsprop": (_rmsprop, lambda: naive.RmsProp(RATE, 0.9, 1e-3)),
    "rmsprop_momentum": (_rmsprop_momentum, lambda: naive.RmsProp(RATE, 0.9, 1e-3, 0.8)),
    "adam": (_adam(0.0, 0.0), lambda: naive.Adam(RATE, 0.8, 0.95, 1e-3)),
    "adamw": (_adam(0.3, 0.0), lambda: naive.Adam(RATE, 0.8, 0.95, 1e-3, decay=0.3)),
    "adam_with_penalty": (_adam(0.0, 0.2), lambda: naive.Adam(RATE, 0.8, 0.95, 1e-3, penalty=0.2)),
}


@pytest.mark.parametrize("name", KERNELS)
@given(size=st.integers(1, 60), dtype=strategies.float_types(), seed=strategies.seeds(), data=st.data())
def test_steps_are_the_textbook_ones_whatever_the_split(name, size, dtype, seed, data):
    step, make = KERNELS[name]
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(size).astype(dtype)
    grads = rng.standard_normal((STEPS, size)).astype(dtype)
    cuts = data.draw(strategies.cuts_of(size))

    results = []
    for parts in ([0, size], cuts):
        p, state = start.copy(), np.zeros((2, size), dtype)
        for t, g in enumerate(grads, start=1):
            for begin, end in pairwise(parts):
                step(p, g, state, t, begin, end)
        results.append((p, state))
    assert_bitwise_equal(results[1][0], results[0][0])
    assert_bitwise_equal(results[1][1], results[0][1])

    expected = []
    for k in range(size):
        value, rule = float(start[k]), make()
        for g in grads[:, k]:
            value = rule.step(value, SCALE * float(g))
        expected.append(value)
    assert_outputs_close(results[0][0], np.array(expected), bound={"float32": 2e-5, "float64": 1e-12}[dtype])


@given(size=st.integers(1, 3 * optim.NORM_BLOCK), dtype=strategies.float_types(), seed=strategies.seeds())
def test_squared_norm_is_exact_to_float64_and_does_not_depend_on_the_split(size, dtype, seed):
    x = np.random.default_rng(seed).standard_normal(size).astype(dtype)
    blocks = -(-size // optim.NORM_BLOCK)
    whole, single = np.empty(blocks), np.empty(blocks)
    optim.squared_norm(x, whole, 0, blocks)
    for block in range(blocks):
        optim.squared_norm(x, single, block, block + 1)
    assert_bitwise_equal(single, whole)
    exact = math.fsum(float(v) ** 2 for v in x)
    assert abs(whole.sum() - exact) <= 1e-13 * exact


def test_squared_norm_of_large_float32_does_not_overflow():
    partials = np.empty(1)
    optim.squared_norm(np.full(3, 1e30, np.float32), partials, 0, 1)
    assert partials[0] == pytest.approx(3e60, rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_squared_norm_shows_what_is_not_finite(dtype, bad):
    for place in range(20):
        x = np.zeros(20, dtype)
        x[place] = bad
        partials = np.empty(1)
        optim.squared_norm(x, partials, 0, 1)
        assert not math.isfinite(partials[0])


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "sgd"])
def test_state_that_dies_away_becomes_zero_and_never_denormal(name, dtype):
    """A gradient that comes once and then never again, as for a rare token: 100,000 steps of zeros in small."""
    step, _ = KERNELS[name]
    tiny = np.finfo(dtype).tiny
    p, state = np.ones(17, dtype), np.zeros((2, 17), dtype)
    for first in np.geomspace(tiny, tiny**0.25, 12):
        state[...] = first
        for t in range(1, 60):
            step(p, np.zeros(17, dtype), state, t, 0, 17)
            used = state[:1] if name in ("momentum", "nesterov", "rmsprop") else state
            if name != "adam_with_penalty":  # whose gradient is never zero
                assert ((used == 0) | (np.abs(used) >= tiny)).all()


@pytest.mark.parametrize("name", KERNELS)
def test_a_nan_gradient_is_not_swallowed(name):
    step, _ = KERNELS[name]
    p, state = np.ones(20), np.zeros((2, 20))
    g = np.ones(20)
    g[3] = math.nan
    step(p, g, state, 1, 0, 20)
    assert math.isnan(p[3])
    assert np.isfinite(np.delete(p, 3)).all()
