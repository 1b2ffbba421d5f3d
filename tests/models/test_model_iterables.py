"""Batches from generators and iterables, one batch at a time, and how many of them an epoch has."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError, OptionError
from tests.tolerances import assert_bitwise_equal


@pytest.fixture
def data(rng):
    return rng.standard_normal((12, 5, 3)), rng.standard_normal((12, 2))


def model():
    made = fl.Sequential([fl.LSTM(4), fl.Dense(2)], seed=0)
    made.compile(fl.optimizers.SGD(0.1), "mse")
    return made


def batches(data, size=4):
    x, y = data
    return [(x[n : n + size], y[n : n + size]) for n in range(0, len(x), size)]


class Loader:
    """An object that is gone through by index, as Keras's Sequence is."""

    def __init__(self, given):
        self.given = given

    def __len__(self):
        return len(self.given)

    def __getitem__(self, place):
        return self.given[place]


def endless(data):
    while True:
        yield from batches(data)


@pytest.mark.parametrize("kind", ["list of batches", "loader", "generator"])
def test_an_iterable_trains_as_the_arrays_in_their_order_do(data, kind):
    arrays, iterable = model(), model()
    expected = arrays.fit(*data, batch_size=4, epochs=3, shuffle=False, verbose=0).history
    given = {
        "list of batches": lambda: iter_again(batches(data)),
        "loader": lambda: Loader(batches(data)),
        "generator": lambda: endless(data),
    }[kind]()
    steps = 3 if kind == "generator" else None
    found = iterable.fit(given, epochs=3, steps_per_epoch=steps, verbose=0).history
    assert found == expected
    for one, other in zip(arrays.get_weights(), iterable.get_weights(), strict=True):
        assert_bitwise_equal(one, other)


class iter_again:
    def __init__(self, given):
        self.given = given

    def __iter__(self):
        return iter(self.given)


def test_validation_evaluate_and_predict_take_iterables_too(data):
    made = model()
    x, y = data
    history = made.fit(x, y, validation_data=Loader(batches(data)), epochs=1, verbose=0).history
    assert history["val_loss"] == [pytest.approx(made.evaluate(x, y), rel=1e-6)]
    assert made.evaluate(Loader(batches(data))) == pytest.approx(made.evaluate(x, y), rel=1e-6)
    some = made.evaluate(endless(data), steps=2)
    assert some == pytest.approx(made.evaluate(x[:8], y[:8]), rel=1e-6)
    assert_bitwise_equal(made.predict(Loader(batches(data))), made.predict(x))
    history = made.fit(x, y, validation_data=(x, y), validation_freq=2, validation_steps=1, epochs=4, verbose=0).history
    assert len(history["val_loss"]) == 2


def test_steps_per_epoch_of_arrays_takes_so_many_batches(data):
    made = model()
    made.fit(*data, batch_size=4, steps_per_epoch=2, epochs=2, verbose=0)
    assert made.optimizer.steps == 4
    with pytest.raises(OptionError, match="4 steps of 4 are asked for, but the data have 3"):
        made.fit(*data, batch_size=4, steps_per_epoch=4, verbose=0)


def test_a_generator_that_ends_is_told(data):
    made = model()
    with pytest.warns(UserWarning, match="ran out in epoch 2, after 1 of 2 steps"):
        made.fit(iter(batches(data)), steps_per_epoch=2, epochs=5, verbose=0)
    assert made.optimizer.steps == 3
    with pytest.raises(DataError, match="exhausted after epoch 1; pass steps_per_epoch="):
        made.fit(iter(batches(data)), epochs=2, verbose=0)
    for nothing in (iter([]), Loader([])):
        with pytest.raises(OptionError, match="yields no batch"):
            made.fit(nothing, verbose=0)
    with pytest.raises(OptionError, match=r"is no tuple \(x, y\)"):
        made.fit(iter([data[0]]), verbose=0)


def test_a_bad_batch_is_named_before_its_step(data):
    made = model()
    y = data[1]
    bad = [*batches(data), (np.full((4, 5, 3), np.nan), y[:4])]
    with pytest.raises(DataError, match="NaN or infinity in batch 4"):
        made.fit(Loader(bad), verbose=0)
    assert made.optimizer.steps == 3


def test_what_goes_with_arrays_only_is_refused(data):
    made = model()
    for options in ({"validation_split": 0.5}, {"sample_weight": np.ones(12)}, {"lengths": np.ones(12, int)}):
        with pytest.raises(OptionError, match=next(iter(options))):
            made.fit(Loader(batches(data)), verbose=0, **options)


def test_steps_on_batches_are_those_of_fit(data):
    fitted, stepped = model(), model()
    fitted.fit(*data, batch_size=4, shuffle=False, verbose=0)
    stepped.build(3)
    losses = [stepped.train_on_batch(*batch) for batch in batches(data)]
    assert all(isinstance(loss, float) for loss in losses)
    for one, other in zip(fitted.get_weights(), stepped.get_weights(), strict=True):
        assert_bitwise_equal(one, other)
    assert stepped.test_on_batch(*data) == stepped.evaluate(*data, batch_size=12)
    assert_bitwise_equal(stepped.predict_on_batch(data[0]), stepped.predict(data[0]))
