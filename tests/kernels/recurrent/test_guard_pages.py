"""Every kernel with arrays that end where the process may neither read nor write: a value beyond the end ends it."""

import ctypes
import math
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from fastlstm.engine.candidates import BatchParallel, InputPipeline
from tests.kernels.recurrent.harness import Arrays, Batch, Coordinated

PAGE = mmap.PAGESIZE
SINGLE_STAGE = [("lstm", "float64"), ("lstm", "float32"), ("lstm peephole", "float64"), ("gru", "float64")]
TWO_STAGES = [("lstm projection", "float64"), ("gru reset before", "float64")]
OTHERS = [("lstm coupled", "float64"), ("rnn relu", "float64"), ("gru", "float32")]


class GuardedArrays(Arrays):
    """Arrays that end at the end of a page; the next one is protected."""

    def __init__(self):
        super().__init__()
        self._libc = ctypes.CDLL(None, use_errno=True)

    def new(self, shape, dtype, fill=np.nan):
        size = int(math.prod(shape)) * np.dtype(dtype).itemsize
        pages = -(-size // PAGE) + 1
        memory = mmap.mmap(-1, pages * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + (pages - 1) * PAGE
        assert self._libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(PAGE), 0) == 0
        values = np.frombuffer(memory, np.uint8, size, (pages - 1) * PAGE - size).view(dtype).reshape(shape)
        values[...] = fill
        return values


def run_kernels():
    """Run all kernels; print the last word when they have come back."""
    patch = pytest.MonkeyPatch()
    for name, dtype in SINGLE_STAGE + TWO_STAGES + OTHERS:
        for units in (1, 7, 9, 17, 20, 33):
            batch = Batch(name, dtype, units=units, arrays=GuardedArrays())
            batch.infer([0, 2, batch.count], 3)
            batch.forward()
            batch.backward([0, 1, batch.count])
            if (name, dtype) in SINGLE_STAGE:
                batch.forward_by_units([0, batch.geometry.panels], batch.count, [0])
                panels = -(-units // (4 * batch.geometry.lanes))
                batch.backward_by_units([0, panels], [0])
            if (name, dtype) not in OTHERS and name != "lstm peephole":
                dense = Batch(name, dtype, [3, 3, 3], units, arrays=GuardedArrays())
                for plan in (BatchParallel, InputPipeline):
                    Coordinated(plan, [dense], 2).run(patch, "together")
    print("all came back")


def read_beyond():
    """Read the value after the last one."""
    values = GuardedArrays().new((5,), np.float32)
    print(values.sum(), flush=True)
    print(np.lib.stride_tricks.as_strided(values, (6,))[5])


def run(function):
    """Run a function of this file in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = f"from tests.kernels.recurrent.test_guard_pages import {function}; {function}()"
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's mprotect here")
def test_no_kernel_reads_or_writes_beyond_the_end_of_an_array():
    done = run("run_kernels")
    assert done.stdout.strip() == "all came back", done.stderr[-3000:]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's mprotect here")
def test_a_value_beyond_the_end_would_be_seen():
    done = run("read_beyond")
    assert (done.stdout, done.returncode < 0) == ("nan\n", True)
