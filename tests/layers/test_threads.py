"""The user's process is not ours: eight threads at once, fork after use, nothing left behind."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import fastlstm as fl
from tests import strategies
from tests.layers.callers import call_from_threads
from tests.layers.harness import lstm_of, random_loss, train_lstm
from tests.tolerances import assert_bitwise_equal


@pytest.mark.usefixtures("share_everything")
def test_eight_threads_may_call_one_layer_at_once():
    fl.set_num_threads(2)
    case = strategies.make_case([30, 7, 30, 12, 1], 20, 33, 0)
    layer, loss = lstm_of(case.weights, "float32"), random_loss(case)
    expected, _ = layer(case.sequences)
    trained = train_lstm(layer, case, loss)
    together = threading.Barrier(8)

    def call(n):
        together.wait(30)
        for _ in range(5):
            y, _ = layer(case.sequences)
            for got, wanted in zip(y, expected, strict=True):
                assert_bitwise_equal(got, wanted)
            result = train_lstm(layer, case, loss)
            for name, gradient in trained.gradients.items():
                assert_bitwise_equal(result.gradients[name], gradient, what=name)

    call_from_threads(call, 8)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this platform")
def test_use_fork_use():
    """As a server does that loads its model before it forks; in a process of its own."""
    program = """
        import os, warnings
        import numpy as np
        import fastlstm as fl
        from fastlstm.runtime import config, pool

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads: our case
        pool._cores = 2
        shared = config.tuned(
            serial_below_ns=0.0, pool_from_ns=0.0, coordinate_from_ns=0.0, coordination_ns=0.0, warmup_calls=0,
            measured_alone=(0, 10**9), step_ns_per_core=1.0, step_chunk_ns=1.0, close_work_s=60.0,
        )
        shared.__enter__()
        fl.set_num_threads(2)
        layer = fl.LSTM(17, return_sequences=True)
        x = np.random.default_rng(0).standard_normal((6, 9, 5), np.float32)
        expected = layer(x)
        stream = fl.Stream([layer], 6)
        assert all((stream.step(x[:, t]) == expected[:, t]).all() for t in range(2))
        child = os.fork()
        same = all((layer(x) == expected).all() for _ in range(3))
        same = same and all((stream.step(x[:, t]) == expected[:, t]).all() for t in range(2, 9))
        if child == 0:
            os._exit(0 if same else 1)
        assert same, "the parent's results changed"
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        print("both work")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=90, check=False
    )
    assert result.stdout.strip() == "both work", result.stderr


def test_large_inputs_and_weights_saturate_without_warnings(dtype):
    """Warnings are errors in this suite."""
    case = strategies.make_case([4, 2], 3, 5, 0)
    for size in (1e4, 1e30):
        big = case._replace(sequences=[x * size for x in case.sequences])
        y, state = lstm_of(case.weights, dtype)(big.sequences)
        assert all(np.isfinite(part).all() for part in y)
        assert all((np.abs(part) <= 1).all() for part in y)
        assert (np.abs(state.c) <= 4).all()  # one step adds at most 1
        result = train_lstm(lstm_of(case.weights, dtype), big, random_loss(big))
        assert all(np.isfinite(gradient).all() for gradient in result.gradients.values())


def test_tiny_inputs_are_not_lost(dtype):
    """Where gates are 1/2 and tanh is the identity, c is linear in a tiny x."""
    layer = fl.LSTM(1, unit_forget_bias=False, return_state=True, dtype=dtype)
    layer.load_state_dict(
        {
            "weight_ih_l0": [[0.0], [0], [1], [0]],
            "weight_hh_l0": np.zeros((4, 1)),
            "bias_ih_l0": np.zeros(4),
            "bias_hh_l0": np.zeros(4),
        }
    )
    _, state = layer(np.full((1, 1, 1), 1e-30))
    np.testing.assert_allclose(state.c, 0.5e-30, rtol=1e-6)
    np.testing.assert_allclose(state.h, 0.25e-30, rtol=1e-6)
