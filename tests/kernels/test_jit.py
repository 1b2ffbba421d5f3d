"""The cache of compiled kernels: used, never stale, never a reason to fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastlstm

RUN = """
import numpy as np
from fastlstm.kernels.activations import tanh_rows
x = np.array([0.5, -0.5], np.float32)
tanh_rows(x, 0, 2)
print(x[0], sum(tanh_rows.stats.cache_hits.values()))
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, whose sources a test may change."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(Path(fastlstm.__file__).parent, tmp_path / "fastlstm", ignore=ignored)
    return tmp_path


def run(root, **environment):
    """Return what RUN prints with the package below `root`: a value, and how often the cache helped."""
    settings = {**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(root / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=settings, cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    value, hits = done.stdout.split()
    return float(value), int(hits), done.stderr


def test_the_second_process_compiles_nothing_and_a_change_elsewhere_compiles_anew(copy):
    assert run(copy)[:2] == (pytest.approx(0.46211717), 0)
    assert run(copy)[:2] == (pytest.approx(0.46211717), 1)
    lanes = copy / "fastlstm" / "simd" / "lanes.py"
    before = lanes.read_text()
    lanes.write_text(before.replace('self._emit("fdiv", self.value, self._of(other))', "self"))
    assert lanes.read_text() != before
    value, hits, _ = run(copy)
    assert hits == 0
    assert value == pytest.approx(1.7182818)  # expm1(2 * 0.5), not divided any more


def test_no_folder_to_write_to_is_a_warning(copy):
    # neither a cache folder of its own, nor one beside the sources, nor the user's
    blocked = copy / "cache"
    blocked.write_text("a file where the folder would be")
    (copy / "fastlstm" / "kernels" / "__pycache__").write_text("likewise")
    value, hits, errors = run(copy, HOME=str(blocked), XDG_CACHE_HOME=str(blocked), NUMBA_CACHE_DIR="")
    assert (value, hits) == (pytest.approx(0.46211717), 0)
    assert "NUMBA_CACHE_DIR" in errors
