"""What all tests share: no deadline for Hypothesis (a first example compiles kernels), and threads put back."""

import os
import sys
from pathlib import Path

# pytest puts the checkout first on the path, for `tests`. What is tested is the package that is installed: the sources
# beside the tests lack the compiled decoders. (An editable install leads back to them, and has the decoders there.)
sys.path.remove(str(Path(__file__).parent.parent))
import fastlstm  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastlstm import threads
from fastlstm.runtime import config

settings.register_profile(
    "fastlstm",
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("ci", settings.get_profile("fastlstm"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "fastlstm")


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


@pytest.fixture(autouse=True)
def num_threads_restored():
    """Put the number of threads back after each test: the next one shall not depend on the order."""
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def share_everything():
    """Share even the smallest call over the threads that are set."""
    with config.tuned(serial_below_ns=0.0, pool_from_ns=0.0, pool_awake_from_ns=0.0):
        yield


@pytest.fixture
def no_orthogonal_start(monkeypatch):
    """Fail what makes an orthogonal start value: that takes seconds for large layers."""

    def refuse(*_):
        raise AssertionError("a start value was made, to be overwritten")

    monkeypatch.setattr(np.linalg, "qr", refuse)
