"""The contenders that every benchmark knows: all compute the same, also where we have no layer yet."""

import numpy as np
import pytest

from fastlstm.benchmark.contenders import TASKS, contenders, missing
from fastlstm.benchmark.onnx_models import sequence_model
from fastlstm.benchmark.problems import GATES, Problem, Shape

SHAPES = [Shape(3, 5, 4, 8), Shape(3, 5, 4, 8, layers=2, directions=2)]
PAIRS = [(task, kind) for task in TASKS for kind in GATES if len(contenders(task, kind)) > 1]


def outputs(task, shape, calls=2):
    """Return for each contender the named arrays of its calls; the state is carried on in streaming."""
    made = {}
    for contender in contenders(task, shape.kind):
        if not contender.missing:
            runner = contender.make(Problem(shape), 1)
            made[contender.name] = [
                {name: np.array(value) for name, value in runner.read(runner.call()).items()} for _ in range(calls)
            ]
    if len(made) < 2:
        pytest.skip("no peer is installed")
    return made


@pytest.mark.parametrize(("task", "kind"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_contenders_compute_the_same(task, kind, shape):
    if task == "streaming":
        shape = Shape(3, 1, 4, 8)
    first, *others = outputs(task, shape._replace(kind=kind)).values()
    assert max(np.abs(value).max() for value in first[-1].values()) > 1e-2
    for other in others:
        for expected, given in zip(first, other, strict=True):
            assert given.keys() == expected.keys()
            for name, value in expected.items():
                np.testing.assert_allclose(given[name], value, rtol=1e-4, atol=1e-5)


def naive(problem):
    """Return the outputs (N, T, H) of one layer by the equations of torch's documentation, in float64."""
    weights = {name[:9]: value.astype(np.float64) for name, value in problem.weights.items()}
    W, R, b, d = (weights[name] for name in ("weight_ih", "weight_hh", "bias_ih_l", "bias_hh_l"))
    gates, h = GATES[problem.shape.kind], np.zeros((problem.shape.N, problem.shape.H))
    c, y = h, []

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    for x in problem.x.swapaxes(0, 1):
        p, q = np.split(x @ W.T + b, gates, axis=1), np.split(h @ R.T + d, gates, axis=1)
        if gates == 1:
            h = np.tanh(p[0] + q[0])
        elif gates == 3:
            r, z = sigmoid(p[0] + q[0]), sigmoid(p[1] + q[1])
            h = (1 - z) * np.tanh(p[2] + r * q[2]) + z * h
        else:
            i, f, g, o = (left + right for left, right in zip(p, q, strict=True))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        y.append(h)
    return np.stack(y, axis=1)


@pytest.mark.parametrize("kind", GATES)
def test_onnx_has_the_gates_where_they_belong(kind):
    """Also without torch: ONNX's own evaluator and the equations agree."""
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    problem = Problem(Shape(2, 4, 3, 5, kind=kind))
    [y] = ReferenceEvaluator(sequence_model(problem)).run(None, {"x": problem.x.swapaxes(0, 1)})
    np.testing.assert_allclose(y[:, 0].swapaxes(0, 1), naive(problem), atol=1e-5)


def test_the_operations_of_a_kind_of_cell():
    lstm, gru, rnn = (Shape(2, 3, 5, 7, kind=kind) for kind in GATES)
    assert lstm.flops == 2 * 2 * 3 * 4 * 7 * (5 + 7)
    assert gru.flops * 4 == lstm.flops * 3
    assert rnn.recurrent_bytes == 4 * 7 * 7


def test_what_is_missing_is_named_once(monkeypatch):
    monkeypatch.setattr("fastlstm.benchmark.cells.find_spec", lambda name: None)
    assert missing() == ["torch", "onnxruntime", "onnx"]
