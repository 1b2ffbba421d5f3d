"""What layers accept, and the errors for what they do not: each names what was given and what was expected."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError, FastLSTMError, NotBuiltError, OptionError, ShapeError
from tests.tolerances import assert_bitwise_equal


@pytest.fixture
def lstm():
    layer = fl.LSTM(4, return_sequences=True)
    layer.build(3, 0)
    return layer


@pytest.fixture
def x(rng):
    return rng.integers(-3, 4, (5, 6, 3)).astype(np.float32)  # whole numbers: exact in every type


# --- accepted and right ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", ">f4", ">f8", "<f8", "int8", ">i2", "int64", "longdouble"])
def test_any_real_type_and_byte_order(lstm, x, kind):
    assert_bitwise_equal(lstm(x.astype(kind)), lstm(x))


def test_unsigned_and_boolean_arrays(lstm, x):
    assert_bitwise_equal(lstm(np.abs(x).astype(np.uint8)), lstm(np.abs(x)))
    assert_bitwise_equal(lstm(x > 0), lstm((x > 0).astype(np.float32)))


@pytest.mark.parametrize(
    "relaid",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
        lambda x: np.repeat(x, 3, axis=1)[:, ::3],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.transpose(1, 2, 0).copy().transpose(2, 0, 1),
        lambda x: x.tolist(),
        lambda x: list(x),
        lambda x: tuple(np.asfortranarray(part) for part in x),
        lambda x: [part.tolist() for part in x],
    ],
)
def test_any_layout(lstm, x, relaid):
    y = lstm(relaid(x))
    assert_bitwise_equal(np.stack(list(y)), np.ascontiguousarray(lstm(x)))


def test_read_only_arrays(lstm, x):
    expected = lstm(x)
    one = lstm(x[:, :1])
    x.flags.writeable = False
    assert_bitwise_equal(lstm(x), expected)
    assert_bitwise_equal(lstm(x[:, :1]), one)  # one step: the rows are the array's own memory
    assert_bitwise_equal(lstm(np.broadcast_to(x[:1], x.shape))[3], expected[0])
    assert_bitwise_equal(
        fl.LSTM(4, return_sequences=True)(np.broadcast_to(0.0, (2, 2, 2))), np.zeros((2, 2, 4), np.float32)
    )


def test_lengths_of_any_integer_type(lstm, x):
    lengths = [6, 1, 3, 3, 2]
    expected = lstm(x, lengths=lengths)
    for kind in ("int8", "uint8", ">i4", "uint64"):
        assert_bitwise_equal(lstm(x, lengths=np.array(lengths, kind)), expected)


def test_an_initial_state_of_any_type(lstm, x):
    h, c = np.ones((5, 4)), np.full((5, 4), 2)
    expected = lstm(x, initial_state=fl.LSTMState(h, c))
    assert_bitwise_equal(lstm(x, initial_state=(h.astype(">f4"), c.astype(np.int8))), expected)
    assert_bitwise_equal(lstm(x, initial_state=[np.asfortranarray(h), c.tolist()]), expected)


def test_inputs_are_not_written_to(lstm, x):
    kept = x.copy()
    lstm(x)
    fl.Dense(3, activation="relu")(x)
    fl.Dropout(0.5)(x)
    assert_bitwise_equal(x, kept)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_array_for_one_core_gives_the_same_as_a_list(x, count, steps, sequences, with_state, backwards, dtype):
    """An array of the layer's type is not packed where one core does the work; a list is."""
    lstm = fl.LSTM(19, return_sequences=sequences, return_state=True, go_backwards=backwards, dtype=dtype)
    lstm.build(3, 0)
    one = x[:count, :steps].astype(dtype)
    rng = np.random.default_rng(0)
    state = tuple(rng.standard_normal((2, count, 19)).astype(dtype)) if with_state else None
    kept = None if state is None else [part.copy() for part in state]
    expected, expected_state = lstm(list(one), initial_state=state)
    y, final = lstm(one, initial_state=state)
    assert y.shape == ((count, steps, 19) if sequences else (count, 19))
    for n in range(count):
        assert_bitwise_equal(y[n], expected[n])
    for part, other, whose in zip(final, expected_state, final, strict=True):
        assert_bitwise_equal(part, other)
        assert whose.base is None, "a state that keeps every step in memory"
    if state is not None:
        assert_bitwise_equal(lstm(one, initial_state=list(state))[0], y)
        assert_bitwise_equal(lstm(one, initial_state=[part.tolist() for part in state])[0], y)
        for part, before in zip(state, kept, strict=True):
            assert_bitwise_equal(part, before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (5, 4, 3), (2, 300, 3)])
def test_an_array_gives_the_same_as_a_list_in_both_directions(shape, sequences, threads, rng):
    fl.set_num_threads(threads)
    both = fl.Bidirectional(fl.LSTM(21, return_sequences=sequences))
    x = rng.standard_normal(shape, dtype=np.float32)
    y = both(x)
    assert y.shape == (*shape[: 2 if sequences else 1], 42)
    assert_bitwise_equal(y, np.stack(both(list(x))))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("count", [1, 3, 13, 40])
def test_rows_of_chunks_are_read_where_they_are(count, backwards, rng):
    """Steps of one sequence or sequences of one step, from either end: the same as of a ragged batch's packed rows."""
    lstm = fl.LSTM(50, return_sequences=True, go_backwards=backwards)
    x = rng.standard_normal((count, 1800 // count, 70), dtype=np.float32)  # 512 rows are a chunk
    expected = lstm([*x, x[0, :3]])[:-1]
    for threads in (1, 2):
        fl.set_num_threads(threads)
        for given in (x, np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1), list(x)):
            for got, wanted in zip(lstm(given), expected, strict=True):
                assert_bitwise_equal(got, wanted)


@pytest.mark.parametrize("kind", ["lstm", "both directions", "model"])
@pytest.mark.parametrize(
    "one_step",
    [lambda x: x[:, None], lambda x: x[:, None][:, ::-1], lambda x: np.broadcast_to(x[:, None], (len(x), 1, 20))],
    ids=["new axis", "turned", "broadcast"],
)
def test_one_step_whose_axis_has_any_stride(kind, one_step, rng):
    """NumPy gives a new axis the stride 0, which of more steps would say that they are one."""
    fl.set_num_threads(2)
    layer = fl.LSTM(80) if kind == "lstm" else fl.Bidirectional(fl.LSTM(80))
    call = layer
    if kind == "model":
        model = fl.Sequential([layer, fl.Dense(2)])
        model.build(features=20)
        call = model.predict
    for count in (400, 3000, 20_000):
        x = rng.standard_normal((count, 20), dtype=np.float32)
        expected = call(x.reshape(count, 1, 20))
        for _ in range(4):
            assert_bitwise_equal(call(one_step(x)), expected)


def test_an_array_for_one_core_follows_weights_that_change(lstm, x):
    lstm(x[:1])
    lstm.load_state_dict({name: 2 * value for name, value in lstm.state_dict().items()})
    assert_bitwise_equal(lstm(x[:1])[0], lstm([x[0]])[0])


@pytest.mark.parametrize(
    "state",
    [
        np.zeros((1, 4), np.float32),
        (np.zeros((1, 4), np.float32),),
        (np.zeros((1, 4), np.float32),) * 3,
        (np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float32)),
        {"h": 1, "c": 2},
        7,
    ],
)
def test_an_array_for_one_core_refuses_a_state_that_does_not_fit(lstm, x, state):
    with pytest.raises((ShapeError, DataError), match="initial_state"):
        lstm(x[:1], initial_state=state)


# --- refused, with words ----------------------------------------------------------------------------------------------


REFUSED = {
    "wrong feature count": (lambda x: (x[:, :, :2], None), ShapeError, r"2 features.*built for 3"),
    "rank 2": (lambda x: (x[0], None), ShapeError, r"rank 2; expected rank 3"),
    "rank 4": (lambda x: (x[None], None), ShapeError, r"rank 4; expected rank 3"),
    "a scalar": (lambda x: (1.0, None), ShapeError, r"rank 0"),
    "None": (lambda x: (None, None), DataError, r"dtype object"),
    "empty list": (lambda x: ([], None), DataError, r"empty list"),
    "no sequences": (lambda x: (x[:0], None), DataError, r"no sequences"),
    "one sequence of other features": (lambda x: (x[:1, :, :2].copy(), None), ShapeError, r"2 features.*built for 3"),
    "one sequence without timesteps": (lambda x: (x[:1, :0], None), DataError, r"no timesteps"),
    "no timesteps": (lambda x: (x[:, :0], None), DataError, r"no timesteps"),
    "a list with a sequence of length 0": (lambda x: ([x[0], x[1, :0]], None), DataError, r"sequence 1 has length 0"),
    "a list with other features": (lambda x: ([x[0], x[1, :, :2]], None), ShapeError, r"sequence 1 has 2 features"),
    "a list with a wrong rank": (lambda x: ([x[0], x[1, :, 0]], None), ShapeError, r"sequence 1 has shape \(6,\)"),
    "length 0": (lambda x: (x, [6, 0, 3, 3, 2]), DataError, r"lengths\[1\] is 0; expected 1 to 6"),
    "length past the array": (lambda x: (x, [6, 1, 7, 3, 2]), DataError, r"lengths\[2\] is 7"),
    "negative length": (lambda x: (x, [6, 1, -1, 3, 2]), DataError, r"lengths\[2\] is -1"),
    "too few lengths": (lambda x: (x, [6, 1]), ShapeError, r"lengths has shape \(2,\); expected \(5,\)"),
    "lengths that are no integers": (lambda x: (x, [1.0] * 5), DataError, r"lengths has dtype float64"),
    "lengths of a list": (lambda x: (list(x), [6] * 5), OptionError, r"list of arrays has its own lengths"),
    "text": (lambda x: (np.full(x.shape, "a"), None), DataError, r"dtype"),
    "complex numbers": (lambda x: (x * 1j, None), DataError, r"complex"),
    "a nest of lists that is no array": (lambda x: ([[[1, 2], [3]], [[1, 2]]], None), ShapeError, r"sequence|array"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("both_ways", [False, True])
def test_errors_name_what_was_given(lstm, x, case, both_ways):
    make, kind, words = REFUSED[case]
    layer = lstm
    if both_ways:
        layer = fl.Bidirectional(fl.LSTM(4, return_sequences=True))
        layer.build(3, 0)
    expected = layer(x)
    given, lengths = make(x)
    with pytest.raises(kind, match=words) as caught:
        layer(given, lengths=lengths)
    assert layer.kind in str(caught.value), "the error does not name the layer"
    assert_bitwise_equal(layer(x), expected)  # nothing is lost


@pytest.mark.parametrize(
    "state",
    [
        np.zeros((5, 4)),
        (np.zeros((5, 4)),),
        (np.zeros((5, 4)), np.zeros((5, 3))),
        (np.zeros((4, 4)), np.zeros((5, 4))),
        (np.zeros(4), np.zeros(4)),
        7,
    ],
)
def test_an_initial_state_that_does_not_fit(lstm, x, state):
    with pytest.raises(ShapeError, match=r"initial_state.*\(5, 4\)"):
        lstm(x, initial_state=state)


@pytest.mark.parametrize(
    ("h", "match"),
    [("h", "dtype <U1"), (np.ma.masked_array(np.zeros((5, 4)), mask=np.eye(5, 4)), "is a masked array")],
)
def test_an_initial_state_of_no_numbers(lstm, x, h, match):
    with pytest.raises(DataError, match=rf"initial_state\.h.*{match}"):
        lstm(x, initial_state=(h, np.zeros((5, 4))))


@pytest.mark.parametrize(
    ("layer", "given"),
    [
        (lambda: fl.Dense(2), np.zeros((2, 4))),
        (lambda: fl.Dense(2), np.zeros((2, 5, 4))),
        (lambda: fl.LastStep(), np.zeros((2, 5, 4))),
        (lambda: fl.GlobalMaxPooling1D(), np.zeros((2, 5, 4))),
        (lambda: fl.Dropout(0.5), np.zeros((2, 5, 4))),
    ],
)
def test_the_other_layers_hold_to_their_feature_count(layer, given):
    layer = layer()
    layer.build(3, 0)
    with pytest.raises(ShapeError, match=rf"{layer.kind}: x has 4 features, this layer was built for 3"):
        layer(given)


def test_our_errors_are_those_that_callers_catch_anyway():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DataError, ValueError)
    assert issubclass(OptionError, ValueError)
    assert issubclass(NotBuiltError, RuntimeError)
    assert all(issubclass(kind, FastLSTMError) for kind in (ShapeError, DataError, OptionError, NotBuiltError))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"units": 0}, "units=0"),
        ({"units": -2}, "units=-2"),
        ({"units": 3, "dropout": 1.0}, "dropout=1.0"),
        ({"units": 3, "dropout": -0.1}, "dropout=-0.1"),
        ({"units": 3, "recurrent_dropout": 1.5}, "recurrent_dropout=1.5"),
        ({"units": 3, "dtype": "float16"}, "float16"),
        ({"units": 3, "dtype": "int32"}, "int32"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(OptionError, match=words):
        fl.LSTM(**options)


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_before_there_are_any():
    with pytest.raises(NotBuiltError, match="no parameters yet"):
        fl.LSTM(3).state_dict()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("bias_hh_l0"), "no tensor.*bias_hh_l0"),
        (lambda tensors: tensors.update(weight_hr_l0=np.zeros((2, 4))), "unknown tensor.*weight_hr_l0"),
        (lambda tensors: tensors.update(weight_hh_l0=np.zeros((16, 5))), r"weight_hh_l0 has shape \(16, 5\)"),
        (lambda tensors: tensors.update(weight_ih_l0=np.zeros((3, 16))), r"weight_ih_l0 has shape \(3, 16\)"),
    ],
)
@pytest.mark.parametrize("built", [True, False])
def test_tensors_that_do_not_fit_change_nothing(lstm, x, change, words, built):
    expected = lstm(x)
    tensors = {name: array + 1 for name, array in lstm.state_dict().items()}
    change(tensors)
    layer = lstm if built else fl.LSTM(4, return_sequences=True)
    with pytest.raises(ShapeError, match=words):
        layer.load_state_dict(tensors)
    if built:
        assert_bitwise_equal(layer(x), expected)
    else:
        assert layer(np.ones((2, 2, 7))).shape == (2, 2, 4), "a load that failed has fixed the feature count"


@pytest.mark.parametrize(
    "make",
    [
        lambda: fl.LSTM(4),
        lambda: fl.Bidirectional(fl.LSTM(4, dtype="float64")),
        lambda: fl.Dense(3),
        lambda: fl.Embedding(9, 2),
    ],
)
def test_loading_needs_no_start_values(make, request):
    """And the parameters are the layer's own: those of both directions are written where the layer reads them."""
    first, x = make(), np.ones((2, 3) if make().takes_ids else (2, 3, 5))
    expected, tensors = first(x), first.state_dict()
    request.getfixturevalue("no_orthogonal_start")
    layer = make()
    layer.load_state_dict(tensors)
    assert_bitwise_equal(layer(x), expected)
    for name, value in layer.state_dict().items():
        assert value.dtype == layer.dtype
        assert_bitwise_equal(value, tensors[name])
    layer.load_state_dict({name: 0 * value for name, value in tensors.items()})
    assert not layer(x).any()


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.array([["a"]]), "dtype <U1"),
        (np.array([[1j]]), "dtype complex128"),
        (None, "it is None"),
        (np.ma.masked_all((1, 1)), "1 of its 1 values masked"),
    ],
)
def test_tensors_that_hold_no_numbers_change_nothing(weight, words, built):
    layer = fl.Dense(1)
    if built:
        layer.build(1)
    before = {name: value.copy() for name, value in layer.params.items()}
    with pytest.raises(DataError, match=f"Dense: weight .*{words}"):
        layer.load_state_dict({"weight": weight, "bias": np.ones(1)})
    assert layer.built == built
    for name, value in layer.params.items():
        assert_bitwise_equal(value, before[name])
