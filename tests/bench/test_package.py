"""What is timed is the package that is installed, as what is tested."""

import subprocess
import sys
from pathlib import Path

import pytest

import fastlstm

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("program", ["import bench, fastlstm", "import bench.report, fastlstm"])
def test_the_benchmarks_leave_the_sources_beside_them_alone(program):
    """`python -c` and `python -m` put the working directory first on the path: a checkout without compiled decoders."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print(fastlstm.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == fastlstm.__file__
