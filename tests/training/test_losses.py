"""Losses against float64 loops and torch: values, gradients by central differences, weights, names, bad targets."""

import math

import numpy as np
import pytest

from fastlstm import testing
from fastlstm.errors import DataError, ShapeError
from fastlstm.training.losses import (
    MAE,
    MAPE,
    MSE,
    MSLE,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    Pinball,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from tests.naive import losses as naive
from tests.tolerances import assert_bitwise_equal, assert_gradients_close

ROWS, CLASSES = 7, 6
QUANTILES = [0.1, 0.5, 0.9]
LOSSES = {
    "binary": BinaryCrossentropy(),
    "binary smoothed": BinaryCrossentropy(label_smoothing=0.2),
    "categorical": CategoricalCrossentropy(),
    "categorical smoothed": CategoricalCrossentropy(label_smoothing=0.1),
    "sparse": SparseCategoricalCrossentropy(),
    "sparse smoothed": SparseCategoricalCrossentropy(label_smoothing=0.3),
    "mse": MSE(),
    "mae": MAE(),
    "mape": MAPE(),
    "msle": MSLE(),
    "huber": Huber(0.7),
    "log_cosh": LogCosh(),
    "kl_divergence": KLDivergence(),
    "poisson": Poisson(),
    "cosine_similarity": CosineSimilarity(),
    "pinball": Pinball(QUANTILES),
    "hinge": Hinge(),
    "squared_hinge": SquaredHinge(),
    "categorical_hinge": CategoricalHinge(),
}
NAIVE = {
    "binary": naive.binary_crossentropy,
    "binary smoothed": lambda p, y: naive.binary_crossentropy(p, y, 0.2),
    "categorical": naive.categorical_crossentropy,
    "categorical smoothed": lambda p, y: naive.categorical_crossentropy(p, y, 0.1),
    "sparse": naive.sparse_categorical_crossentropy,
    "sparse smoothed": lambda p, y: naive.sparse_categorical_crossentropy(p, y, 0.3),
    "huber": lambda p, y: naive.huber(p, y, 0.7),
    "pinball": lambda p, y: naive.pinball(p, y, QUANTILES),
} | {name: getattr(naive, name) for name in LOSSES if hasattr(naive, name) and name not in ("huber", "pinball")}
CASES = [(name, fused) for name in LOSSES for fused in (False, True) if not fused or LOSSES[name].fuses]
every_case = pytest.mark.parametrize(("name", "fused"), CASES)


def activated(name, fused, output):
    """Return what the naive loss takes: probabilities, where logits are given."""
    if not fused:
        return output.tolist()
    if LOSSES[name].fuses == "softmax":
        return [naive.softmax(row) for row in output.tolist()]
    return [[naive.sigmoid(z) for z in row] for row in output.tolist()]


def case(name, fused, rng, dtype="float64"):
    """Return output (M, K), targets as a user gives them, and the naive loss of each row."""
    output, given = LOSSES[name].example((ROWS, CLASSES), rng, fused)
    if fused:
        output = 2.0 * output
    output, given = output.astype(dtype), given if given.dtype.kind == "i" else given.astype(dtype)
    rows = zip(activated(name, fused, output.astype(float)), given.tolist(), strict=True)
    return output, given, np.array([NAIVE[name](p, y) for p, y in rows])


@pytest.mark.parametrize("weighted", [False, True])
@every_case
def test_values_are_those_of_the_formula(name, fused, weighted, rng, dtype):
    loss = LOSSES[name]
    output, given, rows = case(name, fused, rng, dtype)
    kept, target = output.copy(), loss.check_targets(given, output)
    weights = rng.random(ROWS) if weighted else None
    expected = (rows * weights).sum() / ROWS if weighted else rows.mean()
    bound = {"float32": 1e-6, "float64": 1e-12}[dtype]
    assert loss.value(output, target, weights, fused) == pytest.approx(expected, rel=bound, abs=bound)
    assert np.abs(loss.row_losses(output, target, fused) - rows).max() < 5 * bound * max(1.0, np.abs(rows).max())
    assert_bitwise_equal(output, kept)
    assert loss.gradient(output, target, weights, fused) == pytest.approx(expected, rel=bound, abs=bound)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_central_differences(name, seed):
    """Weighted, on probabilities and on logits."""
    assert testing.check_gradients(LOSSES[name], (ROWS, CLASSES), seed=seed) < 1e-7


@every_case
def test_float32_gradients_are_those_of_float64(name, fused, rng):
    loss = LOSSES[name]
    single, given, _ = case(name, fused, rng, "float32")
    double, weights = single.astype(float), rng.random(ROWS)
    loss.gradient(double, loss.check_targets(given, double), weights, fused)
    loss.gradient(single, loss.check_targets(given, single), weights, fused)
    assert single.dtype == np.float32
    assert_gradients_close(single, double, bound=2e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_rows_are_the_gradient_without_weights(name, rng):
    """A loss of the user's own may call those of ours."""
    loss = LOSSES[name]
    output, given, _ = case(name, False, rng)
    target, weights, kept = loss.check_targets(given, output), rng.random(ROWS), output.copy()
    rows = loss.gradient_rows(output, target)
    assert_bitwise_equal(output, kept)
    loss.gradient(output, target, weights)
    assert_gradients_close(rows * weights[:, None] / ROWS, output, bound=1e-12)


TORCH = {
    "binary": lambda f, z, y: f.binary_cross_entropy_with_logits(z, y),
    "binary smoothed": lambda f, z, y: f.binary_cross_entropy_with_logits(z, y * 0.8 + 0.1),
    "categorical": lambda f, z, y: f.cross_entropy(z, y),
    "categorical smoothed": lambda f, z, y: f.cross_entropy(z, y, label_smoothing=0.1),
    "sparse": lambda f, z, y: f.cross_entropy(z, y),
    "sparse smoothed": lambda f, z, y: f.cross_entropy(z, y, label_smoothing=0.3),
    "mse": lambda f, z, y: f.mse_loss(z, y),
    "mae": lambda f, z, y: f.l1_loss(z, y),
    "huber": lambda f, z, y: f.huber_loss(z, y, delta=0.7),
    "kl_divergence": lambda f, z, y: f.kl_div(z.log(), y, reduction="batchmean"),
    "poisson": lambda f, z, y: f.poisson_nll_loss(z, y, log_input=False, eps=1e-7),
    "cosine_similarity": lambda f, z, y: -f.cosine_similarity(z, y).mean(),
}


@pytest.mark.parametrize("name", TORCH)
def test_values_and_gradients_are_torchs(name, rng):
    torch = pytest.importorskip("torch")
    fused = LOSSES[name].fuses is not None
    output, given, _ = case(name, fused, rng)
    z, y = torch.tensor(output, requires_grad=True), torch.tensor(given)
    value = TORCH[name](torch.nn.functional, z, y)
    value.backward()
    target = LOSSES[name].check_targets(given, output)
    assert LOSSES[name].gradient(output, target, None, fused) == pytest.approx(value.item(), rel=1e-12)
    assert_gradients_close(output, z.grad.numpy(), bound=1e-12)


def test_pinball_is_that_of_the_quantiles_one_by_one(rng):
    """K = D * Q columns: those of one target lie beside each other."""
    output, target = rng.standard_normal((5, 6)), rng.standard_normal((5, 2))
    loss, by_target = Pinball(QUANTILES), output.reshape(5, 2, 3)
    each = [Pinball(q).rows(by_target[:, :, k], target) for k, q in enumerate(QUANTILES)]
    np.testing.assert_allclose(loss.rows(output, target), np.mean(each, axis=0), rtol=1e-14)
    np.testing.assert_allclose(
        Pinball().rows(output, output + 2.0 * target.repeat(3, 1)), MAE().rows(target, 0 * target)
    )


def test_pinball_finds_quantiles():
    """Gradient descent on one number for each quantile ends at the quantiles of the targets."""
    target, loss = np.random.default_rng(0).standard_normal((999, 1)), Pinball(QUANTILES)
    guess = np.zeros((1, 3))
    for step in range(400):
        guess -= 2.0 / (1 + step) ** 0.5 * loss.gradient_rows(guess.repeat(999, 0), target).mean(axis=0)
    assert np.abs(guess[0] - np.quantile(target, QUANTILES)).max() < 0.02


# --- extremes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].fuses])
@pytest.mark.parametrize("fused", [False, True])
def test_certain_and_wrong_costs_much_but_stays_finite(name, fused, dtype):
    """The target has probability 0: the loss is large, and the gradient that reaches the logits pulls towards it."""
    loss = LOSSES[name]
    output = np.array([[1e4, -1e4], [-1e4, 1e4]] if fused else [[1.0, 0.0], [0.0, 1.0]], dtype)
    given = np.array([1, 0]) if "sparse" in name else np.array([[0.0, 1.0], [1.0, 0.0]])
    target = loss.check_targets(given, output)
    value = loss.gradient(output, target, None, fused)
    assert math.isfinite(value)
    assert value > (5000 if fused else 12)
    assert np.isfinite(output).all()
    assert output[0, 1] < 0
    assert output[1, 0] < 0


def test_probabilities_of_0_and_1_cost_what_keras_says():
    """Cut at 1e-7: computed by hand."""
    p, y = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    wrong, right = -math.log(1e-7), -math.log(1 - 1e-7)
    assert BinaryCrossentropy().value(p, y) == pytest.approx(wrong, rel=1e-9)
    assert CategoricalCrossentropy().value(p, y) == pytest.approx(wrong, rel=1e-12)
    assert SparseCategoricalCrossentropy().value(p, np.array([1])) == pytest.approx(wrong, rel=1e-12)
    assert CategoricalCrossentropy().value(p, p) == pytest.approx(right, rel=1e-6)
    assert KLDivergence().value(p, y) == pytest.approx(wrong + 1e-7 * math.log(1e-7), rel=1e-12)
    assert MAPE().value(p, np.zeros((1, 2))) == pytest.approx(100 * 1e7 / 2)
    assert MSLE().value(np.array([[-3.0]]), np.array([[0.0]])) == 0.0
    assert Poisson().value(np.array([[0.0]]), np.array([[2.0]])) == pytest.approx(2 * wrong)


def test_probabilities_that_do_not_sum_to_1_are_shares_of_their_sum_as_in_keras(rng):
    p = rng.random((4, 3)) * 3.0
    y = np.eye(3)[[0, 2, 1, 1]]
    expected = -(y * np.log(p / p.sum(axis=1, keepdims=True))).sum(axis=1).mean()
    assert CategoricalCrossentropy().value(p, y) == pytest.approx(expected, rel=1e-12)
    assert SparseCategoricalCrossentropy().value(p, y.argmax(axis=1)) == pytest.approx(expected, rel=1e-12)
    for loss, target in ((CategoricalCrossentropy(), y), (SparseCategoricalCrossentropy(), y.argmax(axis=1))):
        assert testing.check_gradients(loss, p, targets=target) < 1e-7


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "log_cosh", "mape", "pinball", "hinge", "cosine_similarity"])
@pytest.mark.parametrize("far", [1e-30, 1e8, 1e18])
def test_far_outputs_stay_finite_in_float32(name, far):
    output = np.array([[far, -far, far], [0.0, far, -far]], np.float32)
    target = LOSSES[name].check_targets(np.ones((2, 1 if name == "pinball" else 3), np.float32), output)
    assert math.isfinite(LOSSES[name].gradient(output, target))
    assert np.isfinite(output).all()


def test_a_direction_that_is_0_has_neither_loss_nor_nan():
    output, target = np.zeros((1, 3)), np.array([[0.0, 3.0, 4.0]])
    assert CosineSimilarity().gradient(output, target) == 0.0
    np.testing.assert_allclose(output, -target / 5.0 / 1e-7)


def test_poisson_names_an_output_that_is_no_rate():
    with pytest.raises(DataError, match=r"poisson: the model puts out -0\.5.*softplus"):
        Poisson().value(np.array([[2.0, -0.5]]), np.array([[1.0, 1.0]]))


# --- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_weight_zero_has_no_gradient(name, rng):
    loss = LOSSES[name]
    output, given, _ = case(name, False, rng)
    weights = np.ones(ROWS)
    weights[2] = 0.0
    loss.gradient(output, loss.check_targets(given, output), weights)
    assert (output[2] == 0).all()
    assert (output[3] != 0).any()


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"3 rows.*\(2,\)"):
        MSE().gradient(np.zeros((3, 1)), np.zeros((3, 1)), np.ones(2))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignored", [-1, 255, 2])
def test_ignored_rows_weigh_nothing_as_in_torch(ignored, smoothing, fused, rng):
    loss = SparseCategoricalCrossentropy(ignore_class=ignored, label_smoothing=smoothing)
    output, target, _ = case("sparse", fused, rng)
    target[[1, 4]] = ignored
    counted = target != ignored
    plain = SparseCategoricalCrossentropy(label_smoothing=smoothing)
    alone = output[counted].copy()
    expected = plain.gradient(alone, target[counted], None, fused)
    checked = loss.check_targets(target.astype(np.uint8) if ignored > 0 else target, output)
    assert loss.value(output, checked, None, fused) == pytest.approx(expected, rel=1e-13)
    whole = output.copy()
    assert loss.gradient(whole, checked, None, fused) == pytest.approx(expected, rel=1e-13)
    assert (whole[~counted] == 0).all()
    np.testing.assert_allclose(whole[counted], alone, rtol=1e-12)
    if fused:
        torch = pytest.importorskip("torch")
        z = torch.tensor(output)
        value = torch.nn.functional.cross_entropy(
            z, torch.tensor(target), ignore_index=ignored, label_smoothing=smoothing
        )
        assert value.item() == pytest.approx(expected, rel=1e-12)


def test_ignored_rows_and_weights_multiply(rng):
    loss, weights = SparseCategoricalCrossentropy(ignore_class=-1), rng.random(ROWS)
    output, target, rows = case("sparse", True, rng)
    target[3] = -1
    checked, counted = loss.check_targets(target, output), np.arange(ROWS) != 3
    expected = (rows * weights)[counted].sum() / (ROWS - 1)
    assert loss.value(output, checked, weights, fused=True) == pytest.approx(expected, rel=1e-12)


def test_a_batch_that_is_ignored_as_a_whole_costs_nothing():
    loss, output = SparseCategoricalCrossentropy(ignore_class=0), np.ones((3, 4))
    checked = loss.check_targets(np.zeros(3, int), output)
    assert loss.gradient(output, checked, None, True) == 0.0
    assert not output.any()


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["binary", "mse", "mae", "huber", "log_cosh", "poisson", "pinball"])
def test_one_output_takes_targets_without_an_axis_of_their_own(name):
    outputs = 3 if name == "pinball" else 1
    target = LOSSES[name].check_targets(np.array([0, 1, 1], bool), np.zeros((3, outputs), np.float32))
    assert target.shape == (3, 1)
    assert target.dtype == np.float32


def test_sparse_targets_may_be_a_column_or_whole_floats():
    loss, output = SparseCategoricalCrossentropy(), np.zeros((3, 4))
    for given in (np.array([[0], [3], [1]]), np.array([0.0, 3.0, 1.0]), np.array([0, 3, 1], np.uint8)):
        target = loss.check_targets(given, output)
        assert target.dtype == np.int64
        assert target.tolist() == [0, 3, 1]


@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge()])
def test_hinges_take_0_for_minus_1(loss, rng):
    output, target = rng.standard_normal((4, 3)), rng.integers(0, 2, (4, 3))
    assert_bitwise_equal(loss.check_targets(target, output), loss.check_targets(2 * target - 1, output))


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
        ("kl_divergence", np.full((3, 4), 1.5), DataError, r"kl_divergence.*1\.5.*0 to 1"),
        ("poisson", np.full((3, 4), -1.0), DataError, r"poisson: a target is -1\.0.*counts"),
        ("hinge", np.full((3, 4), 0.5), DataError, r"hinge.*0\.5"),
        ("categorical_hinge", np.full((3, 4), 0.5), DataError, r"categorical_hinge.*0\.5"),
        ("pinball", np.zeros((3, 2)), ShapeError, r"pinball.*\(3, 2\).*\(3, 4\); expected 3 outputs"),
        ("pinball", np.full((3, 1), np.nan), ShapeError, r"pinball.*\(3, 1\).*\(3, 4\)"),
    ],
)
def test_targets_that_cannot_be_used(name, target, error, words):
    with pytest.raises(error, match=words):
        LOSSES[name].check_targets(target, np.zeros((3, 4), np.float32))


def test_targets_are_neither_ignored_nor_classes():
    loss = SparseCategoricalCrossentropy(ignore_class=255)
    with pytest.raises(DataError, match="target -1; the model has 4 classes: 0 to 3, and ignore_class=255"):
        loss.check_targets(np.array([0, -1, 255]), np.zeros((3, 4)))
