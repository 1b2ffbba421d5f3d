"""The cache of compiled kernels: used, never stale, never a reason to fail."""

import gc
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastlstm
from fastlstm.kernels.recurrent.bptt import backward_loops
from fastlstm.kernels.recurrent.input_pipeline import input_pipeline_loops
from fastlstm.kernels.recurrent.sequence import sequence_loops
from fastlstm.kernels.recurrent.stream_step import worker_loop
from fastlstm.simd.jit import stamp_of
from tests.kernels.recurrent.harness import CELLS, cell_of

RUN = """
import numpy as np
from fastlstm.kernels.elementwise import values_loop
tanh_rows = values_loop("tanh")
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


def test_the_second_process_compiles_nothing_and_a_change_elsewhere_compiles_again(copy):
    assert run(copy)[:2] == (pytest.approx(0.46211717), 0)
    assert run(copy)[:2] == (pytest.approx(0.46211717), 1)
    lanes = copy / "fastlstm" / "simd" / "lanes.py"
    before = lanes.read_text()
    lanes.write_text(before.replace('self._emit("fdiv", self.value, self._of(other))', "self"))
    assert lanes.read_text() != before
    value, hits, _ = run(copy)
    assert hits == 0
    assert value == pytest.approx(1.7182818)  # expm1(2 * 0.5), not divided any more


@pytest.fixture
def package(tmp_path):
    """A package of three rooms, one with a folder in a folder."""
    for name in (
        "simd/host.py",
        "runtime/config.py",
        "kernels/__init__.py",
        "kernels/gemm/tiles.py",
        "kernels/gemm/x86/pack.py",
    ):
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"NAME = '{name}'")
    return tmp_path / "package"


@pytest.mark.parametrize("room", ["simd", "runtime", "kernels", "kernels/gemm", "kernels/gemm/x86"])
def test_a_source_that_is_added_changed_or_removed_changes_the_stamp(package, room):
    before = stamp_of(package)
    source = package / room / "added.py"
    source.write_text("a = 1")
    added = stamp_of(package)
    source.write_text("a = 2")
    changed = stamp_of(package)
    source.rename(source.with_name("renamed.py"))
    renamed = stamp_of(package)
    assert len({before, added, changed, renamed}) == 4
    source.with_name("renamed.py").unlink()
    assert stamp_of(package) == before


def test_the_stamp_depends_on_nothing_else(package):
    before = stamp_of(package)
    (package / "kernels" / "gemm" / "notes.txt").write_text("no source")
    (package / "layers").mkdir()
    (package / "layers" / "lstm.py").write_text("no kernel")
    assert stamp_of(package) == before
    elsewhere = package.rename(package.with_name("elsewhere"))
    assert stamp_of(elsewhere) == before


def test_no_folder_to_write_to_is_a_warning(copy):
    # neither a cache folder of its own, nor one beside the sources, nor the user's
    blocked = copy / "cache"
    blocked.write_text("a file where the folder would be")
    (copy / "fastlstm" / "kernels" / "__pycache__").write_text("likewise")
    value, hits, errors = run(copy, HOME=str(blocked), XDG_CACHE_HOME=str(blocked), NUMBA_CACHE_DIR="")
    assert (value, hits) == (pytest.approx(0.46211717), 0)
    assert "NUMBA_CACHE_DIR" in errors


PASSES = """
import sys
import numpy as np
import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.engine.context import PassContext
x = np.random.default_rng(0).standard_normal((13, 5, 20)).astype(np.float32)
lstm = fl.LSTM(21, return_sequences=True)
lstm.build(20, rng=1)
for which in sys.argv[1:]:
    if which == "infer":
        print("infer", lstm(x).astype(np.float64).sum())
    else:
        run = PassContext(training=True)
        y, cache = lstm.forward(pack(x, features=True)[0], run)
        dx, gradients = lstm.backward(y.rows.copy(), cache, run)
        print("train", sum(abs(value).astype(np.float64).sum() for value in [dx, *gradients.values()]))
"""


def test_kernels_that_different_processes_compiled_work_together(tmp_path):
    # the cause of a bug: parts of one name, told apart by a number that began again in each process
    def run(*passes):
        settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", PASSES, *passes]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    alone = [*run("infer"), *run("train")]
    assert run("infer", "train") == alone
    assert run("train", "infer") == alone[::-1]


def test_no_two_parts_of_kernels_share_a_name():
    """Those that are made for a cell too: machine code is found by name, in this process and in the cache."""
    from numba.core.dispatcher import Dispatcher

    from fastlstm import kernels

    for module in pkgutil.walk_packages(kernels.__path__, "fastlstm.kernels."):
        importlib.import_module(module.name)
    for spec in CELLS.values():
        cell = cell_of(spec)
        made = [sequence_loops(cell), backward_loops(cell), input_pipeline_loops(cell), worker_loop(cell)]
        assert made[0] is sequence_loops(cell_of(spec)), "the same loops are made again"
    found = {}
    for value in gc.get_objects():
        if issubclass(type(value), Dispatcher) and value.py_func.__module__.startswith("fastlstm."):
            name = f"{value.py_func.__module__}.{value.py_func.__qualname__}"
            assert found.setdefault(name, value) is value, name
    assert len(found) > 20 * len(CELLS)
