"""The LSTM's kernels leave no denormal number behind, nor a thread in another mode than it came in."""

import platform

import numba
import numpy as np
import pytest

import fastlstm as fl
from fastlstm.simd.denormals import flush, restore
from tests import strategies
from tests.layers.harness import lstm_of, random_loss, train_lstm
from tests.tolerances import assert_bitwise_equal

X86 = platform.machine() in ("x86_64", "AMD64")


@numba.njit
def products(x, out):
    """Multiply by a tenth as it is, with zeros for denormal numbers, and as it is again."""
    out[0] = x[0] * x[1]
    mode = flush()
    out[1] = x[0] * x[1]
    restore(mode)
    out[2] = x[0] * x[1]


def tiny_is_kept(dtype):
    """Tell whether this thread computes with denormal numbers."""
    return np.full(1, np.finfo(dtype).tiny, dtype)[0] * dtype(0.5) > 0


def test_a_mode_ends_where_it_is_restored(dtype):
    dtype = np.dtype(dtype).type
    out = np.empty(3, dtype)
    products(np.array([np.finfo(dtype).tiny, 0.1], dtype), out)
    assert out[0] == out[2] > 0
    assert out[1] == (0 if X86 else out[0])
    assert tiny_is_kept(dtype)


@pytest.mark.skipif(not X86, reason="elsewhere nothing is done about them")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_gates_that_are_shut_leave_no_denormal_numbers(count, threads, rng):
    fl.set_num_threads(threads)
    lstm = fl.LSTM(64, return_sequences=True, return_state=True)
    x = (50.0 * rng.standard_normal((count, 50, 32))).astype(np.float32)
    expected, _ = lstm(list(x))
    for _ in range(20):
        y, state = lstm(x)
        assert_bitwise_equal(y, np.stack(expected))
        for values in (y, *state):
            assert not ((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)).any()
    stream = fl.Stream([lstm], count)
    assert all((stream.step(x[:, t]) == y[:, t]).all() for t in range(50))
    assert tiny_is_kept(np.float32)


def test_training_restores_the_mode(dtype):
    case = strategies.make_case([9, 5, 4], 3, 20, 0)
    train_lstm(lstm_of(case.weights, dtype), case, random_loss(case))
    assert tiny_is_kept(np.dtype(dtype).type)
