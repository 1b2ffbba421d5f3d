"""Numbers as callers pass them: taken as they are, or refused with the argument's name and what to do."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.numbers import as_numbers, whole
from fastlstm.data.packed import pack
from fastlstm.errors import DataError, OptionError, ShapeError


def masked(values):
    """Return the values as a masked array whose last value is masked."""
    mask = np.zeros(np.shape(values), bool)
    mask.reshape(-1)[-1] = True
    return np.ma.array(values, mask=mask)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i1", "u8", "?"])
def test_numbers_are_taken_without_a_copy(dtype):
    given = np.ones((2, 3), dtype)
    assert as_numbers(given, "fit: x") is given


def test_a_masked_array_with_nothing_masked_loses_nothing():
    given = np.ma.array([1.0, 2.0], mask=[False, False])
    assert as_numbers(given, "fit: x").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (np.array(["cat", "dog"]), DataError, r"fit: y has dtype <U3; expected floats or integers: names become"),
        (np.array([b"cat"]), DataError, r"dtype \|S3"),
        (np.array([np.zeros(2), np.zeros(3)], object), DataError, "dtype object.*as a list"),
        (np.array([1j]), DataError, "dtype complex128.*imaginary"),
        (np.array(["2026-01-01"], "M8[D]"), DataError, "dtype datetime64.*convert"),
        (None, DataError, "fit: y has dtype object; expected floats or integers: it is None"),
        ([[1, 2], 3], ShapeError, "fit: y is no array"),
        (masked([1.0, 2.0, 3.0]), DataError, r"masked array, 1 of its 3 values masked.*\.filled\(value\).*lengths="),
    ],
)
def test_what_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        as_numbers(given, "fit: y")


@pytest.mark.parametrize("given", [3, np.int8(3), np.uint64(3)])
def test_whole_numbers_of_python_and_numpy(given):
    assert type(whole(given, "length")) is int
    assert whole(given, "length", least=3) == 3


@pytest.mark.parametrize("given", [2, -1, 3.0, np.float32(3), "3", None, True, np.array([3])])
def test_what_is_no_whole_number_from_three_on(given):
    with pytest.raises(OptionError, match=r"length is .*; expected a whole number, at least 3"):
        whole(given, "length", least=3)


# --- where callers meet it -------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(rng):
    return {
        "x": rng.standard_normal((4, 3, 2)),
        "y": np.array([0.0, 1.0, 0.0, 1.0]),
        "sample_weight": np.ones(4),
        "lengths": np.array([3, 2, 1, 3]),
    }


@pytest.fixture
def model():
    model = fl.Sequential([fl.LSTM(3), fl.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    model.build(2)
    return model


@pytest.mark.parametrize("spoil", [masked, lambda value: value.astype(str), lambda value: value.astype(object)])
@pytest.mark.parametrize("word", ["x", "y", "sample_weight", "lengths"])
def test_every_array_of_fit_evaluate_and_predict(model, arguments, word, spoil):
    before = model.get_weights()
    arguments[word] = spoil(arguments[word])
    with pytest.raises(DataError, match=f"fit: {word} "):
        model.fit(**arguments, verbose=0)
    held = tuple(arguments[name] for name in ("x", "y", "sample_weight", "lengths"))
    with pytest.raises(DataError, match=f"evaluate: {word} "):
        model.evaluate(*held[:2], sample_weight=held[2], lengths=held[3])
    good = np.zeros((4, 3, 2)), np.zeros(4)
    with pytest.raises(DataError, match=f"fit: validation_data: {word} "):
        model.fit(*good, validation_data=held, verbose=0)
    if word in ("x", "lengths"):
        with pytest.raises(DataError, match=f"predict: {word} "):
            model.predict(held[0], lengths=held[3])
        with pytest.raises(DataError, match=f"LSTM: {word} "):
            fl.LSTM(3)(held[0], lengths=held[3])
    for value, old in zip(model.get_weights(), before, strict=True):
        assert (value == old).all()


def test_a_masked_sequence_in_a_list_is_named(model, rng):
    x = [rng.standard_normal((n, 2)) for n in (2, 4, 3)]
    x[1] = masked(x[1])
    with pytest.raises(DataError, match="fit: x: sequence 1 is a masked array, 1 of its 8"):
        model.fit(x, [0.0, 1.0, 0.0], verbose=0)
    with pytest.raises(DataError, match="masked"):
        pack(x, features=True)
