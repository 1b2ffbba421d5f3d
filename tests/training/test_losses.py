"""Losses against float64 formulas and torch: values, gradients by central differences, weights, bad targets."""

import math

import numpy as np
import pytest

from fastlstm.errors import DataError, OptionError, ShapeError
from fastlstm.training import losses
from fastlstm.training.losses import (
    MAE,
    MSE,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Huber,
    SparseCategoricalCrossentropy,
)
from tests.gradcheck import assert_gradients
from tests.tolerances import assert_bitwise_equal, assert_gradients_close

ROWS, CLASSES = 7, 5
LOSSES = {
    "binary": BinaryCrossentropy(),
    "categorical": CategoricalCrossentropy(),
    "sparse": SparseCategoricalCrossentropy(),
    "mse": MSE(),
    "mae": MAE(),
    "huber": Huber(0.7),
}
CASES = [(name, fused) for name in LOSSES for fused in (False, True) if not fused or LOSSES[name].fuses]


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def naive(name, output, target):
    """The loss of each row, from what the last activation gives, in float64 and without any protection."""
    if name == "binary":
        return -(target * np.log(output) + (1 - target) * np.log(1 - output)).mean(axis=1)
    if name == "categorical":
        return -(target * np.log(output)).sum(axis=1)
    if name == "sparse":
        return np.array([-math.log(row[k]) for row, k in zip(output, target, strict=True)])
    error = output - target
    if name == "huber":
        near = np.abs(error) <= 0.7
        error = np.where(near, 0.5 * error**2, 0.7 * np.abs(error) - 0.5 * 0.7**2)
    return {"mse": error**2, "mae": np.abs(error), "huber": error}[name].mean(axis=1)


def case(name, fused, rng, dtype="float64"):
    """Return output (M, K), what the last activation makes of it, and targets."""
    z = 2.0 * rng.standard_normal((ROWS, CLASSES))
    activation = {"softmax": softmax, "sigmoid": sigmoid, None: lambda z: z}[LOSSES[name].fuses]
    target = {
        "binary": rng.random((ROWS, CLASSES)),
        "categorical": softmax(rng.standard_normal((ROWS, CLASSES))),
        "sparse": rng.integers(0, CLASSES, ROWS),
    }.get(name, 2.0 * rng.standard_normal((ROWS, CLASSES)))
    z = z.astype(dtype).astype(float)
    output = (z if fused else activation(z)).astype(dtype)
    return output, activation(z) if fused else output.astype(float), target


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "fused"), CASES)
def test_values_are_those_of_the_formula(name, fused, weighted, rng, dtype):
    loss = LOSSES[name]
    output, activated, given = case(name, fused, rng, dtype)
    kept, target = output.copy(), loss.check_targets(given, output)
    weights = rng.random(ROWS) if weighted else None
    rows = naive(name, activated, given)
    expected = (rows * weights).sum() / ROWS if weighted else rows.mean()
    bound = {"float32": 1e-6, "float64": 1e-13}[dtype]
    assert loss.value(output, target, weights, fused) == pytest.approx(expected, rel=bound, abs=bound)
    assert np.abs(loss.rows(output, target, fused) - rows).max() < 5 * bound
    assert_bitwise_equal(output, kept)
    assert loss.gradient(output, target, weights, fused) == pytest.approx(expected, rel=bound, abs=bound)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "fused"), CASES)
def test_gradients_are_those_of_central_differences(name, fused, weighted, rng):
    loss = LOSSES[name]
    output, _, given = case(name, fused, rng)
    if not fused and loss.fuses:  # away from 0 and 1, where the fourth derivative is too large for central differences
        output = 0.2 + 0.6 * output
    target = loss.check_targets(given, output)
    weights = rng.random(ROWS) if weighted else None
    gradient = output.copy()
    loss.gradient(gradient, target, weights, fused)
    if name in ("mae", "huber"):  # kinks: no difference may step over one
        error = np.abs(output - target)
        assert min(error.min(), np.abs(error - 0.7).min()) > 2e-3
    assert_gradients(lambda: loss.value(output, target, weights, fused), {"output": output}, {"output": gradient})


@pytest.mark.parametrize(("name", "fused"), CASES)
def test_float32_gradients_are_those_of_float64(name, fused, rng):
    loss = LOSSES[name]
    single, _, given = case(name, fused, rng, "float32")
    double, weights = single.astype(float), rng.random(ROWS)
    loss.gradient(double, loss.check_targets(given, double), weights, fused)
    loss.gradient(single, loss.check_targets(given, single), weights, fused)
    assert single.dtype == np.float32
    assert_gradients_close(single, double, bound=2e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_torchs(name, rng):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    fused = LOSSES[name].fuses is not None
    output, _, given = case(name, fused, rng)
    z, y = torch.tensor(output, requires_grad=True), torch.tensor(given)
    value = {
        "binary": functional.binary_cross_entropy_with_logits,
        "categorical": functional.cross_entropy,
        "sparse": functional.cross_entropy,
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": lambda z, y: functional.huber_loss(z, y, delta=0.7),
    }[name](z, y)
    value.backward()
    target = LOSSES[name].check_targets(given, output)
    assert LOSSES[name].gradient(output, target, None, fused) == pytest.approx(value.item(), rel=1e-13)
    assert_gradients_close(output, z.grad.numpy(), bound=1e-13)


@pytest.mark.parametrize("name", ["binary", "categorical", "sparse"])
@pytest.mark.parametrize("fused", [False, True])
def test_certain_and_wrong_costs_much_but_stays_finite(name, fused, dtype):
    """The target has probability 0: the loss is large, and the gradient that reaches the logits pulls towards it."""
    loss = LOSSES[name]
    output = np.array([[1e4, -1e4], [-1e4, 1e4]] if fused else [[1.0, 0.0], [0.0, 1.0]], dtype)
    given = np.array([1, 0]) if name == "sparse" else np.array([[0.0, 1.0], [1.0, 0.0]])
    target = loss.check_targets(given, output)
    value = loss.gradient(output, target, None, fused)
    assert math.isfinite(value)
    assert value > (5000 if fused else 80)
    assert np.isfinite(output).all()
    assert output[0, 1] < 0
    assert output[1, 0] < 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_weight_zero_has_no_gradient(name, rng):
    loss = LOSSES[name]
    output, _, given = case(name, False, rng)
    weights = np.ones(ROWS)
    weights[2] = 0.0
    loss.gradient(output, loss.check_targets(given, output), weights)
    assert (output[2] == 0).all()
    assert (output[3] != 0).any()


@pytest.mark.parametrize("name", ["binary", "mse", "mae", "huber"])
def test_one_output_takes_targets_without_an_axis_of_their_own(name):
    target = LOSSES[name].check_targets(np.array([0, 1, 1], bool), np.zeros((3, 1), np.float32))
    assert target.shape == (3, 1)
    assert target.dtype == np.float32


def test_sparse_targets_may_be_a_column_or_whole_floats():
    loss, output = SparseCategoricalCrossentropy(), np.zeros((3, 4))
    for given in (np.array([[0], [3], [1]]), np.array([0.0, 3.0, 1.0]), np.array([0, 3, 1], np.uint8)):
        target = loss.check_targets(given, output)
        assert target.dtype == np.int64
        assert target.tolist() == [0, 3, 1]


@pytest.mark.parametrize(
    ("name", "target", "error", "words"),
    [
        ("mse", np.zeros((3, 3)), ShapeError, r"mse.*\(3, 3\).*\(3, 4\)"),
        ("mse", np.zeros(3), ShapeError, r"mse.*\(3, 1\).*\(3, 4\)"),
        ("mae", np.full((3, 4), np.nan), DataError, "mae.*NaN or infinity"),
        ("huber", np.full((3, 4), np.inf), DataError, "huber.*NaN or infinity"),
        ("binary", np.full((3, 4), 1.5), DataError, r"binary_crossentropy.*1\.5.*0 to 1"),
        ("binary", np.full((3, 4), -1.0), DataError, r"-1\.0.*0 to 1"),
        ("categorical", np.zeros((3, 5)), ShapeError, r"\(3, 5\).*\(3, 4\)"),
        ("categorical", np.array([0, 1, 2]), ShapeError, r"categorical_crossentropy.*\(3, 4\)"),
        ("sparse", np.array([0, 4, 1]), DataError, "target 4; the model has 4 classes: 0 to 3"),
        ("sparse", np.array([0, -1, 1]), DataError, "target -1; the model has 4 classes"),
        ("sparse", np.array([0.5, 1, 2]), DataError, "no whole numbers"),
        ("sparse", np.array([0, np.nan, 1]), DataError, "target nan"),
        ("sparse", np.eye(4)[:3], ShapeError, r"\(3, 4\) by row; expected \(3,\)"),
    ],
)
def test_targets_that_cannot_be_used(name, target, error, words):
    with pytest.raises(error, match=words):
        LOSSES[name].check_targets(target, np.zeros((3, 4), np.float32))


def test_names_and_descriptions_make_the_same_loss_again():
    for loss in [*LOSSES.values(), BinaryCrossentropy(from_logits=True)]:
        again = losses.get(loss.name, loss.config())
        assert type(again) is type(loss)
        assert again.config() == loss.config()
    assert losses.get(loss) is loss
    assert type(losses.get("mean_squared_error")) is MSE
    with pytest.raises(OptionError, match=r"'hinge'.*binary_crossentropy"):
        losses.get("hinge")
    with pytest.raises(OptionError, match="delta=0"):
        Huber(0)
