"""The number of threads: what it begins at, what a process may use, and that it binds the decoders too."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastlstm as fl
from fastlstm import threads
from fastlstm.decode import ctc_input
from fastlstm.errors import OptionError


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", None])
def test_the_number_of_threads_is_a_whole_number_from_one_on(count):
    before = threads.get_num_threads()
    with pytest.raises(OptionError, match="set_num_threads"):
        threads.set_num_threads(count)
    assert threads.get_num_threads() == before


_BEFORE = threads.get_num_threads()


@pytest.mark.parametrize("more", [1, 2])
def test_a_test_that_changes_the_number_of_threads_changes_no_other(more):
    assert threads.get_num_threads() == _BEFORE, "the test before left it changed"
    threads.set_num_threads(_BEFORE + more)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 7),
        ({"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": " 4 , 2"}, 4),
        ({"NUMBA_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
        ({"NUMBA_NUM_THREADS": "nonsense", "OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "nonsense"}, 7),
        ({"OMP_NUM_THREADS": "0"}, 7),
        ({"OMP_NUM_THREADS": "-2"}, 7),
        ({"OMP_NUM_THREADS": "2.5"}, 7),
        ({"OMP_NUM_THREADS": ",2"}, 7),
    ],
)
def test_threads_to_begin_with(environment, expected):
    assert threads._first_num_threads(environment, 7) == expected


def test_a_process_begins_with_what_its_environment_says():
    environment = {**os.environ, "OMP_NUM_THREADS": "3,2"}
    environment.pop("NUMBA_NUM_THREADS", None)
    command = [sys.executable, "-c", "import fastlstm as fl; print(fl.get_num_threads())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["3"], done.stderr


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make ``machine(files)``: the cores that a process with an affinity of 8 may use where these files exist."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)

    def usable_cores(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        return threads.usable_cores(tmp_path)

    return usable_cores


GROUP = "proc/self/cgroup"
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


def v1(folder, quota, period=b"100000\n"):
    """Return the two files of a group in version 1."""
    return {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 8, id="no control groups"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b"200000 100000\n"}, 2, id="v2, a container's own root"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b"max 100000\n"}, 8, id="v2, no quota"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b"250000 100000\n"}, 3, id="v2, part of a core"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b"5000 100000\n"}, 1, id="v2, less than a core"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b"6400000 100000\n"}, 8, id="v2, more than the affinity"),
        pytest.param({GROUP: b"0::/a/b\n", f"{V2}/a/b/cpu.max": b"300000 100000\n"}, 3, id="v2, the process's group"),
        pytest.param(
            {GROUP: b"0::/a/b\n", f"{V2}/a/b/cpu.max": b"300000 100000\n", f"{V2}/a/cpu.max": b"100000 50000\n"},
            2,
            id="v2, the group around it",
        ),
        pytest.param({GROUP: b"0::/a\n", f"{V2}/b/cpu.max": b"100000 100000\n"}, 8, id="v2, another group"),
        pytest.param({GROUP: b"0::/host\n", f"{V2}/cpu.max": b"200000 100000\n"}, 2, id="v2, the host's path"),
        pytest.param({GROUP: b"4:cpu,cpuacct:/a\n", **v1(f"{V1}/a", b"400000\n")}, 4, id="v1"),
        pytest.param({GROUP: b"4:cpu,cpuacct:/a\n", **v1("sys/fs/cgroup/cpu/a", b"400000\n")}, 4, id="v1, linked"),
        pytest.param({GROUP: b"4:cpu,cpuacct:/a\n", **v1(f"{V1}", b"400000\n")}, 4, id="v1, the group around it"),
        pytest.param({GROUP: b"4:cpu,cpuacct:/\n", **v1(V1, b"-1\n")}, 8, id="v1, no quota"),
        pytest.param({GROUP: b"4:cpuset:/\n", **v1("sys/fs/cgroup/cpuset", b"100000\n")}, 8, id="v1, not the cpu's"),
        pytest.param({GROUP: b"2:cpu:/\n0::/\n", **v1(V2 + "/cpu", b"500000\n")}, 5, id="both"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b""}, 8, id="an empty file"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b"\xff\xfe 1"}, 8, id="no text"),
        pytest.param({GROUP: b"0::/\n", f"{V2}/cpu.max": b"100000 0"}, 8, id="no period"),
        pytest.param({GROUP: b"nonsense\n", f"{V2}/cpu.max": b"100000 100000"}, 8, id="no groups that can be read"),
        pytest.param({f"{GROUP}/a folder": b""}, 8, id="a folder"),
    ],
)
def test_a_quota_bounds_the_cores(machine, files, expected):
    assert machine(files) == expected


def test_the_affinity_counts_on_this_machine():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this platform")
    command = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import fastlstm.threads as t; "
    done = subprocess.run(
        [sys.executable, "-c", command + "print(t.usable_cores())"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["1"], done.stderr


def alignments(count, **options):
    """Align a batch that is large enough to be shared."""
    log_probs = np.log(np.full((count, 40, ctc_input.SERIAL_BELOW // 40), 40 / ctc_input.SERIAL_BELOW, np.float32))
    return fl.decode.ctc_align(log_probs, [[1, 2]] * count, **options)


@pytest.mark.parametrize(
    ("num_threads", "options", "expected"), [(1, {}, None), (3, {}, 3), (8, {}, 4), (1, {"workers": 2}, 2)]
)
def test_the_number_binds_the_decoders(monkeypatch, num_threads, options, expected):
    asked = []

    def pool(count):
        asked.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(ctc_input, "ThreadPoolExecutor", pool)
    threads.set_num_threads(num_threads)
    assert len(alignments(4, **options)) == 4
    assert asked == ([expected] if expected else [])


def test_one_thread_is_the_callers_own(monkeypatch):
    threads.set_num_threads(1)
    seen = set()

    def start(self):
        seen.add(self.name)
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", start)
    alignments(4)
    assert seen == set()
