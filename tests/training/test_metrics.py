"""Metrics: their definitions, in one batch or in many, with weights, before and after the last activation."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.errors import ContractError, OptionError, ShapeError
from fastlstm.training import losses, metrics
from tests import strategies
from tests.naive import cross_entropy as naive

BINARY, SOFT, SPARSE = (
    losses.get(n) for n in ("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy")
)


def pairwise_auc(scores, positive, weights):
    """Count every pair of a positive and a negative: 1 where the positive is above, 1/2 where they tie."""
    won = total = 0.0
    for s, p, w in zip(scores, positive, weights, strict=True):
        for r, q, v in zip(scores, positive, weights, strict=True):
            if p and not q:
                won += w * v * (1.0 if s > r else 0.5 if s == r else 0.0)
                total += w * v
    return won / total if total else math.nan


@given(st.integers(1, 30), strategies.seeds(), st.data())
def test_auc_counts_pairs_whatever_the_batches(count, seed, data):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, count) / 5.0  # many ties
    positive, weights = rng.random(count) < 0.5, rng.random(count) + 0.1
    auc = metrics.AUC()
    for begin, end in pairwise(data.draw(strategies.cuts_of(count))):
        part = slice(begin, end)
        auc.update(scores[part, None], positive[part, None], None, weights[part])
    assert auc.result() == pytest.approx(pairwise_auc(scores, positive, weights), nan_ok=True)


@pytest.mark.parametrize(
    ("name", "loss", "output", "target", "expected"),
    [
        ("accuracy", BINARY, [[0.2], [0.8], [0.6], [0.4]], [[0], [1], [0], [0]], [1, 1, 0, 1]),
        ("accuracy", BINARY, [[0.2, 0.8], [0.6, 0.4]], [[0, 1], [1, 1]], [1.0, 0.5]),
        ("accuracy", SOFT, [[0.2, 0.8], [0.6, 0.4]], [[0, 1], [0, 1]], [1, 0]),
        ("accuracy", SPARSE, [[0.2, 0.8], [0.6, 0.4]], [1, 1], [1, 0]),
        ("mae", losses.get("mse"), [[1.0, 2.0], [0.0, 0.0]], [[0.0, 4.0], [3.0, 0.0]], [1.5, 1.5]),
        ("mse", losses.get("mse"), [[1.0, 2.0], [0.0, 0.0]], [[0.0, 4.0], [3.0, 0.0]], [2.5, 4.5]),
        ("mape", losses.get("mse"), [[1.0, 2.0], [0.0, 0.0]], [[2.0, 4.0], [3.0, 1.0]], [50.0, 100.0]),
        ("msle", losses.get("mse"), [[1.0, 3.0], [0.0, 0.0]], [[3.0, 1.0], [0.0, 0.0]], [math.log(2) ** 2, 0.0]),
    ],
)
def test_means_over_rows(name, loss, output, target, expected):
    output, target, weights = np.array(output), np.array(target), np.arange(1.0, len(output) + 1)
    metric = metrics.get(name, loss)
    assert math.isnan(metric.result())
    metric.update(output[:1], target[:1])
    metric.update(output[1:], target[1:])
    assert metric.result() == pytest.approx(np.mean(expected))
    metric.reset()
    metric.update(output, target, None, weights)
    assert metric.result() == pytest.approx(np.average(expected, weights=weights))
    assert metric.name == name


def test_perplexity_is_the_exponential_of_the_mean_cross_entropy(rng):
    z, target = rng.standard_normal((7, 4)), rng.integers(0, 4, 7)
    expected = math.exp(np.mean([naive.cross_entropy(row, t)[0] for row, t in zip(z, target, strict=True)]))
    p = np.array([naive.softmax(row) for row in z])
    soft = np.eye(4)[target]
    for args in ((z, target, "softmax"), (p, target, None), (z, soft, "softmax"), (p, soft, None)):
        metric = metrics.Perplexity()
        metric.update(*args)
        assert metric.result() == pytest.approx(expected)


def test_perplexity_beyond_float64_is_infinite():
    metric = metrics.Perplexity()
    metric.update(np.array([[0.0, 2000.0]]), np.array([0]), "softmax")
    assert metric.result() == math.inf


def test_pending_activations_change_no_figure(rng):
    z = rng.standard_normal((20, 3))
    sigmoid, softmax = 1 / (1 + np.exp(-z)), np.array([naive.softmax(row) for row in z])
    binary = (rng.random((20, 3)) < 0.5).astype(float)
    for name, loss, after, pending in (
        ("accuracy", BINARY, sigmoid, "sigmoid"),
        ("auc", BINARY, sigmoid, "sigmoid"),
        ("mae", BINARY, sigmoid, "sigmoid"),
        ("accuracy", SOFT, softmax, "softmax"),
        ("mae", SOFT, softmax, "softmax"),
    ):
        one, other = metrics.get(name, loss), metrics.get(name, loss)
        kept = z.copy()
        one.update(z, binary, pending)
        other.update(after, binary)
        assert one.result() == pytest.approx(other.result()), name
        assert (z == kept).all()


def test_auc_is_not_computed_after_every_batch():
    assert not metrics.AUC.running


def test_bad_requests():
    with pytest.raises(OptionError, match="'f1'"):
        metrics.get("f1", BINARY)
    with pytest.raises(OptionError, match="does not go with mse"):
        metrics.get("accuracy", losses.get("mse"))
    for name in ("auc", "mae"):
        with pytest.raises(ShapeError, match=r"\(4,\)"):
            metrics.get(name, SPARSE).update(np.zeros((4, 3)), np.zeros(4, np.int64))


def test_the_root_is_taken_of_the_mean_over_all_rows():
    metric = metrics.get("rmse", losses.get("mse"))
    metric.update(np.array([[1.0], [5.0]]), np.zeros((2, 1)))
    metric.update(np.array([[2.0]]), np.zeros((1, 1)))
    assert metric.result() == pytest.approx(math.sqrt(10.0))
    assert metric.name == "rmse"


def test_the_accuracy_of_other_losses():
    class Own(losses.Loss):
        takes_classes = True

    assert type(metrics.get("accuracy", Own())) is metrics.SparseCategoricalAccuracy
    assert type(metrics.get("accuracy", losses.get("kld"))) is metrics.CategoricalAccuracy


# --- metrics of the user's own ------------------------------------------------------------------------------------


class F1(metrics.Metric):
    def rows(self, output, target):
        found, true = output > 0.5, target > 0.5
        return np.hstack([found & true, found ^ true])

    def result(self):
        right, wrong = self.total
        return 2 * right / (2 * right + wrong)


class Sure(metrics.Metric):
    """Mean of the largest probability."""

    def rows(self, output, target):
        return output.max(axis=1)


def test_a_metric_of_ones_own_sees_what_the_model_puts_out(rng):
    """Whatever activation the loss takes care of: its rows are probabilities."""
    z, target, weights = rng.standard_normal((9, 3)), rng.integers(0, 3, 9), rng.random(9)
    p = np.array([naive.softmax(row) for row in z])
    kept, metric = z.copy(), metrics.get(Sure, SPARSE)
    metric.update(z[:4], target[:4], "softmax", weights[:4])
    metric.update(z[4:], target[4:], "softmax", weights[4:])
    assert metric.result() == pytest.approx(np.average(p.max(axis=1), weights=weights))
    assert (z == kept).all()
    assert metric.name == "sure"
    metric.reset()
    assert math.isnan(metric.result())


def test_columns_are_counted_apart(rng):
    output, target, weights = rng.random((40, 1)), rng.integers(0, 2, (40, 1)).astype(float), rng.random(40)
    metric = F1()
    metric.update(output[:10], target[:10], None, weights[:10])
    metric.update(output[10:], target[10:], None, weights[10:])
    found, true = (output > 0.5)[:, 0], (target > 0.5)[:, 0]
    precision = weights[found & true].sum() / weights[found].sum()
    recall = weights[found & true].sum() / weights[true].sum()
    assert metric.result() == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_metric_may_change_that_of_another(rng):
    class Wrong(metrics.BinaryAccuracy):
        def rows(self, output, target):
            return 1.0 - super().rows(output, target)

    z, target = rng.standard_normal((8, 2)), rng.integers(0, 2, (8, 2)).astype(float)
    one, other = Wrong(), metrics.BinaryAccuracy()
    one.update(z, target, "sigmoid")
    other.update(z, target, "sigmoid")
    assert one.result() == pytest.approx(1.0 - other.result())
    assert one.name == "wrong"


def metric_returning(value):
    return type("Own", (metrics.Metric,), {"rows": lambda self, output, target: value})()


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, ContractError, r"Own\.rows returned None; expected 4 figures.*return statement"),
        (1.0, ShapeError, r"Own\.rows returned shape \(\); expected \(4,\)"),
        (np.ones(3), ShapeError, r"Own\.rows returned shape \(3,\)"),
        (np.ones((4, 1, 1)), ShapeError, r"shape \(4, 1, 1\)"),
        (np.array(["a"] * 4), ContractError, r"Own\.rows returned <U1; expected numbers or bool"),
    ],
)
def test_what_rows_cannot_return(value, error, words):
    with pytest.raises(error, match=words):
        metric_returning(value).update(np.ones((4, 2)), np.ones((4, 2)))


def test_columns_need_a_result():
    metric = metric_returning(np.ones((4, 2)))
    metric.update(np.ones((4, 2)), np.ones((4, 2)))
    with pytest.raises(ContractError, match=r"Own\.rows returns 2 figures a row; define result\(\)"):
        metric.result()


def test_a_metric_cannot_write_into_what_it_sees():
    class Writes(metrics.Metric):
        def rows(self, output, target):
            output -= target
            return output[:, 0]

    with pytest.raises(ValueError, match="read-only"):
        Writes().update(np.ones((4, 2)), np.ones((4, 2)))


def test_rows_that_the_loss_ignores_are_left_out(rng):
    loss = losses.get("sparse_categorical_crossentropy", {"ignore_class": 255})
    z, target, weights = rng.standard_normal((7, 4)), rng.integers(0, 4, 7), rng.random(7)
    target[[0, 5]] = 255
    kept, checked = target != 255, loss.check_targets(target, z)
    for name in ("accuracy", "perplexity"):
        one, other = metrics.get(name, loss), metrics.get(name, loss)
        one.update(z, checked, "softmax", weights)
        other.update(z[kept], target[kept], "softmax", weights[kept])
        assert one.result() == other.result(), name


def test_perplexity_of_tiny_probabilities_is_exact():
    metric = metrics.Perplexity()
    metric.update(np.array([[1e-12, 1.0 - 1e-12]]), np.array([0]))
    assert metric.result() == pytest.approx(1e12, rel=1e-9)
