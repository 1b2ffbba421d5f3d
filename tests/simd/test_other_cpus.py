"""The same source on CPUs with other registers than this one's: compiled for them in a process of its own."""

import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fastlstm.simd.host import REGISTERS

ROOT = Path(__file__).parents[2]

PROGRAM = """
    import sys
    import numpy as np
    from fastlstm.simd.host import REGISTERS
    from tests import strategies
    from tests.layers import attending, test_attention
    from tests.layers.harness import lstm_of, naive_result, random_loss, train_lstm
    from tests.layers.test_lstm import assert_same

    case = strategies.make_case([3, 1, 4, 2, 3, 1, 2, 2], 3, 9, 0)  # eight rows: every height of a tile
    loss = random_loss(case)
    for dtype in sys.argv[1:]:
        assert_same(train_lstm(lstm_of(case.weights, dtype), case, loss), naive_result(case, loss))
        for kind in ("dot", "additive, projected"):
            pairs = attending.random_case(np.random.default_rng(0), [7, 1], [2, 5], (9, 9))
            layer = attending.layer_for(kind, pairs, dtype)
            test_attention.assert_same(attending.train(layer, pairs), attending.naive_result(layer, pairs))
    print(REGISTERS.width)
"""

# name, width in bytes, types: SSE2 has 2 float64 lanes, fewer than a tile has rows
TARGETS = [pytest.param({"NUMBA_CPU_NAME": "generic"}, 16, ["float32", "float64"], id="generic")]
if REGISTERS.width > 32:
    haswell = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2"}
    TARGETS.append(pytest.param(haswell, 32, ["float32"], id="haswell"))


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 targets")
@pytest.mark.parametrize(("variables", "width", "dtypes"), TARGETS)
def test_an_lstm_and_attention_are_right_with_other_registers(variables, width, dtypes):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *dtypes],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == str(width)
