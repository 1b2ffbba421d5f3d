"""Losses that users write: they return what they compute, train as ours do, and every slip is refused by name."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.errors import ContractError, DivergedError, ShapeError
from tests.gradcheck import numeric_gradient
from tests.tolerances import assert_gradients_close


class Squared(fl.Loss):
    """MSE, as a user would write it."""

    def rows(self, output, target):
        return ((output - target) ** 2).mean(axis=1)

    def gradient_rows(self, output, target):
        return 2 * (output - target) / output.shape[1]


class Focal(fl.Loss):
    """Lin et al. 2017, on logits, for class numbers."""

    from_logits = True
    takes_classes = True

    def __init__(self, gamma=2.0):
        self.gamma = gamma

    def _right(self, output, target):
        p = np.exp(output - output.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return p, p[np.arange(len(p)), target]

    def rows(self, output, target):
        _, right = self._right(output, target)
        return -((1 - right) ** self.gamma) * np.log(right)

    def gradient_rows(self, output, target):
        p, right = self._right(output, target)
        slope = self.gamma * (1 - right) ** (self.gamma - 1) * right * np.log(right) - (1 - right) ** self.gamma
        return slope[:, None] * (np.eye(output.shape[1])[target] - p)


class Spread(fl.losses.SequenceLoss):
    """Half the square of each sequence's sum, less its target (one for each row, of which the first counts)."""

    def check_targets(self, target, output):
        return target

    def sequences(self, output, target, fused=False):
        sums = np.zeros(output.sequences)
        np.add.at(sums, output.sequence_of_row, output.rows.sum(axis=1))
        return 0.5 * (sums - target[: output.sequences]) ** 2

    def gradient_rows(self, output, target):
        sums = np.zeros(output.sequences)
        np.add.at(sums, output.sequence_of_row, output.rows.sum(axis=1))
        by_sequence = sums - target[: output.sequences]
        return np.repeat(by_sequence[output.sequence_of_row][:, None], output.features, axis=1)


def histories(rng, dtype, *losses):
    x, y = rng.standard_normal((24, 5, 3)), rng.standard_normal((24, 2))
    found = []
    for loss in losses:
        model = fl.Sequential([fl.LSTM(6, dtype=dtype), fl.Dense(2, dtype=dtype)], seed=3)
        model.compile("adam", loss)
        weights = np.linspace(0.5, 1.5, 24)
        found.append(model.fit(x, y, epochs=4, batch_size=8, sample_weight=weights, verbose=0).history["loss"])
    return found


def test_a_loss_that_returns_its_gradient_trains_as_ours(rng, dtype):
    own, ours = histories(rng, dtype, Squared(), "mse")
    np.testing.assert_allclose(own, ours, rtol={"float32": 1e-5, "float64": 1e-12}[dtype])
    assert own[-1] < own[0]


def test_a_loss_of_classes_on_logits_trains(rng):
    x, y = rng.standard_normal((64, 6, 3)), rng.integers(0, 3, 64)
    x[np.arange(64), 2, y] += 3.0
    model = fl.Sequential([fl.LSTM(8), fl.Dense(3)], seed=0)
    model.compile(fl.optimizers.Adam(0.02), Focal(), metrics=["sparse_categorical_accuracy"])
    history = model.fit(x, y, epochs=20, verbose=0).history
    assert history["sparse_categorical_accuracy"][-1] > 0.9


def test_gamma_0_is_the_cross_entropy(rng):
    z, y, weights = rng.standard_normal((5, 4)), rng.integers(0, 4, 5), rng.random(5)
    own, ours = z.copy(), z.copy()
    value = Focal(0.0).gradient(own, Focal().check_targets(y, z), weights, True)
    expected = fl.losses.SparseCategoricalCrossentropy(True).gradient(ours, y, weights, True)
    assert value == pytest.approx(expected, rel=1e-12)
    assert_gradients_close(own, ours, bound=1e-12)


@pytest.mark.parametrize("loss", [Squared(), Focal(), Focal(0.5)])
def test_check_gradients_sees_them(loss):
    assert fl.testing.check_gradients(loss, (6, 4)) < 1e-8


def test_a_loss_over_sequences_weighs_its_sequences(rng):
    sequences = [rng.standard_normal((length, 2)) for length in (2, 4, 3)]
    x, _ = pack(sequences, features=True, dtype=np.float64)
    x = x.with_rows(x.rows.copy())
    target, weights, loss = rng.standard_normal(x.total), rng.random(3), Spread()
    expected = numeric_gradient(lambda: loss.value(x, target, weights), x.rows)
    each = [0.5 * (sequences[n].sum() - target[k]) ** 2 * weights[k] for k, n in enumerate(x.order)]
    assert loss.gradient(x, target, weights) == pytest.approx(sum(each) / 3)
    assert_gradients_close(x.rows, expected, bound=1e-8)


def test_names_are_words_of_the_class():
    assert Squared.name == "squared"
    assert Focal.name == "focal"
    assert type("MyBestLoss", (fl.Loss,), {}).name == "my_best_loss"


# --- slips ----------------------------------------------------------------------------------------------------------


class Forgets(Squared):
    def gradient_rows(self, output, target):
        2 * (output - target) / output.shape[1]


class ForgetsValue(Squared):
    def rows(self, output, target):
        ((output - target) ** 2).mean(axis=1)


class OneValue(Squared):
    def rows(self, output, target):
        return ((output - target) ** 2).mean()


class NoMean(Squared):
    def rows(self, output, target):
        return (output - target) ** 2


class OneColumn(Squared):
    def gradient_rows(self, output, target):
        return 2 * (output - target).mean(axis=1)


class Whole(Squared):
    def gradient_rows(self, output, target):
        return (output - target).astype(int)


class Complex(Squared):
    def gradient_rows(self, output, target):
        return (output - target) * 1j


class NotANumber(Squared):
    def gradient_rows(self, output, target):
        gradient = 2 * (output - target)
        gradient[1, 0] = np.nan
        return gradient


class RootOfNegative(Squared):
    def rows(self, output, target):
        with np.errstate(invalid="ignore"):
            return np.sqrt(-1.0 - np.abs(output).sum(axis=1))


class Ragged(Squared):
    def gradient_rows(self, output, target):
        return [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Forgets, ContractError, r"Forgets\.gradient_rows returned None.*\(8, 2\).*return statement"),
        (ForgetsValue, ContractError, r"ForgetsValue\.rows returned None"),
        (OneValue, ShapeError, r"OneValue\.rows returned shape \(\); expected \(8,\)"),
        (NoMean, ShapeError, r"NoMean\.rows returned shape \(8, 2\); expected \(8,\).*axis=1"),
        (OneColumn, ShapeError, r"OneColumn\.gradient_rows returned shape \(8,\); expected \(8, 2\)"),
        (Whole, ContractError, r"Whole\.gradient_rows returned int64; expected float32 or float64"),
        (Complex, ContractError, r"Complex\.gradient_rows returned complex"),
        (NotANumber, ContractError, r"NotANumber\.gradient_rows returned NaN in row 1"),
        (
            RootOfNegative,
            ContractError,
            r"RootOfNegative\.rows returned NaN at 0, though outputs and targets are finite",
        ),
        (Ragged, ContractError, r"Ragged\.gradient_rows returned list"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_no_weight_moves(kind, error, words, rng):
    model = fl.Sequential([fl.LSTM(4), fl.Dense(2)], seed=0)
    model.compile("sgd", kind())
    model.build(3)
    before = model.get_weights()
    with pytest.raises(error, match=words):
        model.fit(rng.standard_normal((8, 5, 3)), rng.standard_normal((8, 2)), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert (old == new).all()


@pytest.mark.parametrize("method", ["rows", "gradient_rows"])
def test_a_loss_that_writes_into_what_it_was_given_fails(method):
    """Else the gradient would be that of another output, and figures those of other targets."""

    def wrong(self, output, target):
        output -= target
        return (output**2).mean(axis=1)

    kind = type("Wrong", (Squared,), {method: wrong})
    with pytest.raises(ValueError, match="read-only"):
        kind().gradient(np.ones((2, 2)), np.zeros((2, 2)))


def test_the_old_way_is_refused_when_the_class_is_made():
    with pytest.raises(ContractError, match=r"Old defines differentiate.*gradient_rows.*return the gradient"):

        class Old(fl.Loss):
            def differentiate(self, output, target, weights, fused):
                return output - target


def test_a_kernels_loss_cannot_be_changed_in_part():
    with pytest.raises(ContractError, match=r"Twice changes rows.*of MSE.*derive from fastlstm\.Loss"):

        class Twice(fl.losses.MSE):
            def rows(self, output, target, fused=False):
                return 2 * super().rows(output, target)


def test_fuses_is_not_for_losses_that_return():
    with pytest.raises(ContractError, match=r"sets fuses='softmax.*from_logits = True"):

        class Fused(fl.Loss):
            fuses = "softmax"


def test_a_loss_without_a_gradient_says_so():
    class Half(fl.Loss):
        def rows(self, output, target):
            return output[:, 0]

    with pytest.raises(NotImplementedError, match=r"Half defines no gradient_rows"):
        Half().gradient(np.ones((2, 1)), np.zeros((2, 1)))


def test_divergence_is_told_as_that_and_not_as_a_slip(rng):
    """Outputs that are NaN come from weights, not from the loss."""
    model = fl.Sequential([fl.Dense(1)], seed=0)
    model.compile("sgd", Squared())
    model.build(2, steps=False)
    model.set_weights([np.full((1, 2), np.nan), np.zeros(1)])
    with pytest.raises(DivergedError, match="the loss became nan"):
        model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
