"""Sequential.fit: what is trained on what, with which weight, in which order; and what a divergence leaves behind."""

import math

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError, DivergedError, OptionError, ShapeError
from fastlstm.training.callbacks import Callback
from tests.tolerances import assert_bitwise_equal

N, T, D = 20, 6, 3


def data(seed=0, count=N):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, T, D)).astype(np.float32)
    return x, (x[:, :, 0].sum(axis=1) > 0).astype(int)


def make(optimizer="adam", loss="binary_crossentropy", metrics=("accuracy",), last=None, **options):
    model = fl.Sequential([fl.LSTM(5), fl.Dropout(0.3), last or fl.Dense(1, activation="sigmoid")], seed=4, **options)
    model.compile(optimizer, loss, metrics)
    return model


def make_plain(rate=0.1):
    """Without dropout, and with plain gradient steps: what a batch does can be worked out by hand."""
    model = fl.Sequential([fl.LSTM(5), fl.Dense(2)], seed=4)
    model.compile(fl.optimizers.SGD(rate), "mse")
    return model


def assert_same_weights(one, other):
    for weight, expected in zip(one.get_weights(), other.get_weights(), strict=True):
        assert_bitwise_equal(weight, expected)


def test_the_same_seed_gives_the_same_fit_bit_for_bit():
    x, y = data()
    histories, models = [], []
    for _ in range(2):
        model = make()
        histories.append(model.fit(x, y, batch_size=8, epochs=3, validation_split=0.2, verbose=0).history)
        models.append(model)
    assert histories[0] == histories[1]
    assert_same_weights(*models)


@pytest.mark.parametrize("change", ["seed", "shuffle", "dropout"])
def test_each_source_of_chance_matters(change):
    """Else the test above would show nothing."""
    x, y = data()
    one, other = make(), make()
    if change == "seed":
        other = fl.Sequential([fl.LSTM(5), fl.Dropout(0.3), fl.Dense(1, activation="sigmoid")], seed=5)
    elif change == "dropout":
        other = fl.Sequential([fl.LSTM(5), fl.Dropout(0.0), fl.Dense(1, activation="sigmoid")], seed=4)
    other.compile("adam", "binary_crossentropy")
    one.fit(x, y, batch_size=8, verbose=0)
    other.fit(x, y, batch_size=8, verbose=0, shuffle=change != "shuffle")
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])


def test_a_second_fit_goes_on_where_the_first_stopped():
    """The optimizer keeps its step count and means, as in Keras: two fits of one epoch are one of two."""
    x, y = data()
    whole, parts = make_plain(), make_plain()
    target = np.stack([y, 1 - y], axis=1)
    for model in (whole, parts):
        model.compile("adam", "mse")
    whole.fit(x, target, epochs=2, shuffle=False, verbose=0)
    parts.fit(x, target, epochs=1, shuffle=False, verbose=0)
    parts.fit(x, target, epochs=2, initial_epoch=1, shuffle=False, verbose=0)
    assert_same_weights(whole, parts)
    assert parts.optimizer.steps == 2


def test_history_has_every_figure_of_every_epoch():
    x, y = data()
    history = make(metrics=["accuracy", "auc"]).fit(x, y, epochs=3, validation_split=0.25, verbose=0)
    names = ["loss", "accuracy", "auc"]
    assert [*history.history] == names + [f"val_{name}" for name in names]
    assert {len(values) for values in history.history.values()} == {3}
    assert history.epoch == [0, 1, 2]
    assert all(type(value) is float for values in history.history.values() for value in values)


def test_the_loss_of_an_epoch_is_the_mean_over_all_sequences():
    """With a learning rate of 0 every batch sees the same weights: batches of 8, 8 and 4 must weigh 8, 8 and 4."""
    x, y = data()
    model = make_plain(0.0)
    target = np.stack([y, 1 - y], axis=1)
    history = model.fit(x, target, batch_size=8, verbose=0).history
    expected = ((model.predict(x).astype(float) - target) ** 2).mean()
    assert history["loss"][0] == pytest.approx(expected, rel=1e-6)


def test_validation_split_takes_the_tail():
    x, y = data()
    split, given, alone = make(), make(), make()
    history = split.fit(x, y, epochs=2, validation_split=0.3, verbose=0).history
    again = given.fit(x[:14], y[:14], epochs=2, validation_data=(x[14:], y[14:]), verbose=0).history
    alone.fit(x[:14], y[:14], epochs=2, verbose=0)
    assert history == again
    assert_same_weights(split, given)
    assert_same_weights(split, alone)  # judging draws no random number and moves no weight
    logs = split.evaluate(x[14:], y[14:], return_dict=True)
    assert logs["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)
    assert logs["accuracy"] == history["val_accuracy"][-1]


def test_validation_split_takes_weights_and_lengths_along():
    x, y = data()
    rng = np.random.default_rng(1)
    weights, lengths = rng.random(N), rng.integers(1, T + 1, N)
    split, given = make(), make()
    history = split.fit(x, y, sample_weight=weights, lengths=lengths, validation_split=0.25, verbose=0).history
    held = (x[15:], y[15:], weights[15:], lengths[15:])
    again = given.fit(x[:15], y[:15], sample_weight=weights[:15], lengths=lengths[:15], validation_data=held, verbose=0)
    assert history == again.history


@pytest.mark.parametrize("share", [1.0, -0.1, 0.999])
def test_validation_split_out_of_range(share):
    with pytest.raises(OptionError, match="validation_split"):
        make().fit(*data(count=10), validation_split=share, verbose=0)


def test_sample_weights_are_those_of_the_gradient():
    """A weight of 2 on a third of a batch is the same step as that third twice, for the same divisor."""
    x, y = data(count=6)
    target = np.stack([y, 1 - y], axis=1)
    weighted, doubled = make_plain(), make_plain()
    weighted.fit(x, target, sample_weight=[2, 2, 1, 1, 1, 1], shuffle=False, verbose=0)
    doubled.compile(fl.optimizers.SGD(0.1 * 8 / 6), "mse")
    twice = [0, 0, 1, 1, 2, 3, 4, 5]
    doubled.fit(x[twice], target[twice], shuffle=False, verbose=0)
    for one, other in zip(weighted.get_weights(), doubled.get_weights(), strict=True):
        assert np.abs(one - other).max() < 1e-6


def test_weight_zero_leaves_out():
    x, y = data()
    target = np.stack([y, 1 - y], axis=1)
    kept = np.arange(N) % 2
    zeroed, without = make_plain(), make_plain()
    x[kept == 0] *= 100.0  # would change everything
    zeroed.fit(x, target, sample_weight=kept, batch_size=N, shuffle=False, verbose=0)
    without.compile(fl.optimizers.SGD(0.1 / 2), "mse")  # the divisor is the batch, weights or not
    without.fit(x[kept == 1], target[kept == 1], batch_size=N, shuffle=False, verbose=0)
    for one, other in zip(zeroed.get_weights(), without.get_weights(), strict=True):
        assert np.abs(one - other).max() < 1e-6


@pytest.mark.parametrize("kind", ["number", "column", "one_hot", "boolean"])
def test_class_weights_are_sample_weights_by_class(kind):
    x, y = data()
    by_class = {0: 0.25, 1: 3.0}
    weights = np.where(y == 1, 3.0, 0.25)
    given = {"number": y, "column": y[:, None], "one_hot": np.eye(2)[y], "boolean": y > 0}[kind]

    def make_for():
        if kind == "one_hot":
            return make(loss="categorical_crossentropy", last=fl.Dense(2, activation="softmax"))
        return make()

    by_classes, by_samples, plain = make_for(), make_for(), make_for()
    one = by_classes.fit(x, given, class_weight=by_class, epochs=2, verbose=0).history
    other = by_samples.fit(x, given, sample_weight=weights, epochs=2, verbose=0).history
    assert one == other
    assert_same_weights(by_classes, by_samples)
    assert one["loss"] != plain.fit(x, given, epochs=2, verbose=0).history["loss"]


def test_class_weights_multiply_sample_weights_and_default_to_one():
    x, y = data()
    own = np.random.default_rng(2).random(N)
    both, product = make(), make()
    both.fit(x, y, class_weight={1: 3.0}, sample_weight=own, verbose=0)
    product.fit(x, y, sample_weight=own * np.where(y == 1, 3.0, 1.0), verbose=0)
    assert_same_weights(both, product)


def test_weights_enter_weighted_metrics_only():
    x, y = data()
    model = make()
    model.compile("adam", "binary_crossentropy", ["accuracy"], weighted_metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    weights = np.random.default_rng(3).random(N)
    right = (model.predict(x)[:, 0] > 0.5) == y
    logs = model.evaluate(x, y, sample_weight=weights, return_dict=True)
    assert logs["accuracy"] == pytest.approx(right.mean())
    assert logs["weighted_accuracy"] == pytest.approx((right * weights).sum() / weights.sum())


def test_batches_follow_the_order_without_shuffle():
    """SGD step by step by hand: each batch of the fit is one batch of the array."""
    x, y = data(count=10)
    target = np.stack([y, 1 - y], axis=1)
    whole, pieces = make_plain(), make_plain()
    whole.fit(x, target, batch_size=4, shuffle=False, verbose=0)
    for first in (0, 4, 8):
        pieces.fit(x[first : first + 4], target[first : first + 4], shuffle=False, verbose=0)
    assert_same_weights(whole, pieces)


# --- what breaks off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_learning_rate_that_is_far_too_large_leaves_weights_that_predict(rate):
    x, y = data()
    model = make_plain(rate)
    with pytest.raises(DivergedError, match=r"epoch [12], after \d steps; the last good weights are kept.*clipnorm"):
        model.fit(x, np.stack([y, 1 - y], axis=1), epochs=2, batch_size=8, shuffle=False, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(model.predict(x)).all()


@pytest.mark.parametrize(
    ("batches", "where"), [(1, "the end of epoch 1, after 1"), (3, "batch 2 of 3 in epoch 1, after 1")]
)
def test_weights_that_overflow_go_back_to_the_last_good_ones_bit_for_bit(batches, where):
    """The only step makes weights infinite; the loss shows it in the next batch, or the end of the epoch does."""
    x, y = data(count=4 * batches)
    model = make_plain()
    target = np.stack([y, 1 - y], axis=1)
    model.fit(x, target, verbose=0)
    good = model.get_weights()
    model.compile(fl.optimizers.SGD(1e35), "mse")
    with pytest.raises(DivergedError, match=f"{where} steps.*lower learning rate than 1e\\+35"):
        model.fit(x, 1e10 * target, batch_size=4, shuffle=False, verbose=0)
    for weight, expected in zip(model.get_weights(), good, strict=True):
        assert_bitwise_equal(weight, expected)


def test_the_last_good_weights_are_those_of_the_batch_before_not_of_the_fits_start():
    x, y = data()
    model = make_plain()

    class Overflow(Callback):
        def on_train_batch_begin(self, batch):
            if batch == 2:
                self.good = self.model.get_weights()  # about to prove themselves once more, then to be spoilt
                self.model.optimizer.learning_rate = 1e35

    overflow = Overflow()
    with pytest.raises(DivergedError, match="batch 4 of 5 in epoch 1, after 3 steps"):
        model.fit(x, 1e10 * np.stack([y, 1 - y], axis=1), batch_size=4, verbose=0, callbacks=[overflow])
    for weight, expected in zip(model.get_weights(), overflow.good, strict=True):
        assert_bitwise_equal(weight, expected)


def test_a_gradient_that_overflows_names_the_step():
    """The loss is finite, its gradient is not: float32 holds 3.4e38."""
    x, y = data()
    model = make_plain()
    target = np.stack([y, 1 - y], axis=1)

    class Overflow(Callback):
        def on_train_batch_begin(self, batch):
            if batch == 1:
                with self.model.layers[-1].edit() as params:
                    params["weight"][...] = 1e30

    with pytest.raises(DivergedError, match="batch 2 of 3 in epoch 1, after 1 steps"):
        model.fit(x, target, batch_size=8, verbose=0, callbacks=[Overflow()])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_clipping_saves_what_would_diverge():
    x, y = data()
    model = make_plain()
    model.compile(fl.optimizers.SGD(1.0, clipnorm=0.1), "mse")
    history = model.fit(x, 1e10 * np.stack([y, 1 - y], axis=1), epochs=5, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.full(N, 7), "binary_crossentropy.*7.*0 to 1"),
        (np.full(N, math.nan), "binary_crossentropy.*NaN"),
        (np.zeros((N, 3)), r"\(20, 3\).*\(20, 1\)"),
        (np.zeros(N - 1), "20 sequences, y 19"),
        (np.zeros((N, T, 1)), "targets have shape"),
    ],
)
def test_bad_targets_are_found_before_the_first_step(target, words):
    x, _ = data()
    model = make()
    with pytest.raises((DataError, ShapeError), match=words):
        model.fit(x, target, batch_size=N, verbose=0)
    assert model.optimizer.steps == 0


def test_a_bad_target_at_the_end_is_found_before_the_first_step():
    x, y = data()
    model = make()
    y[-1] = 2
    with pytest.raises(DataError, match="0 to 1"):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert model.optimizer.steps == 0
