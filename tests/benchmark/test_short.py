"""`fastlstm bench`: the figures of a line, a peer that computes something else, and who is missing."""

import re
import subprocess
import sys

import pytest

from fastlstm import cli
from fastlstm.benchmark import ours, short
from fastlstm.benchmark.cells import OURS, Contender, Runner
from fastlstm.benchmark.problems import Shape
from fastlstm.benchmark.short import get_num_threads, set_num_threads


class Peer:
    """Ours under another name, its output times `factor`, its work done `times` times."""

    factor, times = 1.0, 1

    @classmethod
    def inference(cls, problem, threads):
        runner = ours.inference(problem, threads)

        def call():
            for _ in range(cls.times):
                y = runner.call()
            return y

        return Runner(call, lambda y: {"y": cls.factor * y})


OURS_ALONE = {
    "inference": (Contender(OURS, ours.inference),),
    "training": (Contender(OURS, ours.training),),
    "streaming": (Contender(OURS, ours.stream_step),),
}
WITH_PEER = OURS_ALONE | {"inference": (*OURS_ALONE["inference"], Contender("numpy", Peer.inference, ("numpy",)))}
ABSENT = OURS_ALONE | {
    "inference": (*OURS_ALONE["inference"], Contender("absent", Peer.inference, ("no_such_library", "numpy")))
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command on tiny shapes; return its exit code, standard output and standard error."""
    monkeypatch.setattr(short, "SHAPES", (Shape(2, 6, 3, 8),))
    monkeypatch.setattr(short, "STREAMED", (Shape(1, 1, 8, 8),))
    monkeypatch.setattr(short, "on_threads", lambda module, threads: "1e9")

    def call(*arguments, tasks=WITH_PEER):
        monkeypatch.setattr(short, "TASKS", tasks)
        monkeypatch.setattr(sys, "argv", ["fastlstm", "bench", "--seconds", "1", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return call


def lines_of(out):
    return [re.split(r" {2,}", line) for line in out.splitlines() if re.match("infer|train|stream", line)][:-1]


def test_each_task_on_one_core_and_on_all(run):
    code, out, err = run("--threads", 2)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    columns = ["task", "N,T,D,H", "cores", "ours", "numpy", "ratio", "GFLOP/s", "of sgemm"]
    assert columns in [re.split(r" {2,}", line) for line in out.splitlines()]
    lines = lines_of(out)
    assert [line[:3] for line in lines] == [
        [task, shape, cores]
        for task, shape in (("infer", "2,6,3,8"), ("train", "2,6,3,8"), ("stream", "1,1,8,8"))
        for cores in "12"
    ]
    assert all(line[4:6] == ["-", "-"] for line in lines[2:])  # the peer only infers
    assert all(re.fullmatch(r"[\d.]+ (us|ms|s)", line[3]) for line in lines)


def test_the_ratio_is_the_peers_time_over_ours(run, monkeypatch):
    monkeypatch.setattr(Peer, "times", 8)
    ratio = float(lines_of(run("--threads", 1)[1])[0][5])
    assert 3.0 < ratio < 20.0


def test_a_line_has_the_speed_and_the_fastest_way_of_each_peer():
    def result(seconds):
        return {"seconds": [0, seconds, 9], "ratio": [0, seconds / 1e-3, 9]}

    names = {"fastlstm": 1e-3, "torch cell": 4e-3, "torch layer": 2e-3, "onnxruntime": 3e-3}
    facts = {"task": "streaming", "shape": Shape(1, 1, 8, 8), "flops": 5e6}
    record = {"threads": 2, "facts": facts, "results": {name: result(value) for name, value in names.items()}}
    line = short.row(record, ["torch", "onnxruntime"], 2e10)
    assert line == ["stream", "1,1,8,8", "2", "1 ms", "2 ms", "3 ms", "2.00", "5.0", "25%"]


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_peer_that_computes_something_else_is_refused(run, monkeypatch, factor):
    monkeypatch.setattr(Peer, "factor", factor)
    code, out, err = run("--threads", 1)
    assert code == 1
    assert err.startswith("fastlstm: error: inference 2,6,3,8: numpy differs from fastlstm in 'y' by")
    assert err.count("\n") == 1
    assert not lines_of(out)


def test_missing_peers_are_named(run):
    code, out, _ = run("--threads", 1, tasks=ABSENT)
    assert code == 0
    assert "Not installed, so not timed: no_such_library. pip install 'fastlstm[bench]' brings" in out
    assert "ratio:" not in out
    assert "ratio" not in out.splitlines()[1].split()
    assert "Not installed" not in run("--threads", 1)[1]


def test_a_terminal_gets_a_table(run, monkeypatch):
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("--threads", 1)
    assert code == 0
    assert "───" in out
    assert "3/3" in err
    monkeypatch.setattr(Peer, "factor", 2.0)
    code, out, err = run("--threads", 1)
    assert code == 1
    assert err.splitlines()[-1].endswith("is allowed")


def test_the_threads_are_as_before(run):
    set_num_threads(3)
    run()
    assert get_num_threads() == 3


@pytest.mark.parametrize("arguments", [["--seconds", 0.5], ["--threads", 0], ["--seconds", "soon"], ["x"]])
def test_wrong_options(run, arguments):
    code, out, err = run(*arguments)
    assert code == 2
    assert "Usage" in err
    assert out == ""


def test_the_limit_of_numpy_is_measured():
    from fastlstm.benchmark.machine import on_threads

    assert 1e8 < float(on_threads("fastlstm.benchmark.machine", 1)) < 1e14


def test_no_peer_is_imported_before_it_is_timed(tmp_path):
    program = (
        "import sys, fastlstm.benchmark.short as s; s.peers(); print({'torch', 'onnx', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
