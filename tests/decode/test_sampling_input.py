"""What sampling makes of arrays of every kind, of wrong options and of hostile data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlstm.decode.sampling import greedy, log_probabilities, sample, sample_scored
from fastlstm.errors import DataError, OptionError, ShapeError
from tests.decode.test_sampling import EDITS, rows_of

# --- Arrays of every kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(">f4"),
        lambda a: a.astype(">f8"),
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
        lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
        lambda a: a.tolist(),
    ],
    ids=["big-endian 4", "big-endian 8", "Fortran", "strided", "reversed", "unaligned", "lists"],
)
def test_layouts_make_no_difference(change):
    logits = np.round(rows_of(30, 50, seed=2, dtype=np.float32) * 4) / 4
    for options in ({"top_p": 0.8}, {"temperature": 0.5}, {"top_k": 4}):
        np.testing.assert_array_equal(sample(change(logits), rng=6, **options), sample(logits, rng=6, **options))
    np.testing.assert_array_equal(greedy(change(logits)), greedy(logits))


@pytest.mark.parametrize("dtype", ["f2", "i1", "i4", "i8", "u2", "?", np.longdouble])
def test_other_types_are_converted(dtype):
    logits = np.arange(12).reshape(3, 4).astype(dtype)
    np.testing.assert_array_equal(sample(logits, rng=0), sample(logits.astype(np.float64), rng=0))


def test_input_is_left_alone_and_empty_batches_pass():
    logits = rows_of(5, 40, seed=0, dtype=np.float32)
    before = logits.copy()
    logits.flags.writeable = False
    sample(logits, rng=0, temperature=0.5, top_p=0.4, logit_bias={3: 9}, banned_ids=[0])
    log_probabilities(logits, top_k=3, min_p=0.5)
    np.testing.assert_array_equal(logits, before)
    assert sample(np.zeros((0, 7)), rng=0).shape == (0,)
    assert greedy(np.zeros((0, 7))).shape == (0,)
    assert sample(np.zeros((4, 1)), rng=0, top_p=0.3).tolist() == [0] * 4


# --- Hostile input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (greedy, {}),
        *((c, o) for c in (sample, log_probabilities) for o in ({}, {"top_k": 2}, {"logit_bias": {0: 1}})),
        (sample_scored, {"top_p": 0.5}),
    ],
)
def test_bad_data_is_named(call, options):
    logits = np.zeros((5, 40))
    logits[3, 38] = np.nan
    with pytest.raises(DataError, match=r"row 3 holds NaN"):
        call(logits, **options)
    logits[3] = -np.inf
    with pytest.raises(DataError, match=r"row 3 is -inf everywhere"):
        call(logits, **options)
    logits[3, 1] = np.inf
    if call is not greedy:
        with pytest.raises(DataError, match=r"row 3 holds \+inf"):
            call(logits, **options)
    with pytest.raises(DataError, match="complex"):
        call(np.zeros((2, 3), complex), **options)
    for shape in ((2, 3, 4), (), (3, 0), (0,)):
        with pytest.raises(ShapeError, match="shape"):
            call(np.zeros(shape), **options)
    with pytest.raises(ShapeError, match="ragged"):
        call([[1.0, 2.0], [3.0]], **options)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": np.nan},
        {"temperature": np.inf},
        {"temperature": "hot"},
        {"temperature": [0.5]},
        {"top_k": -1},
        {"top_k": 2.5},
        {"top_k": 2**80},
        {"top_p": 1.1},
        {"top_p": -0.1},
        {"min_p": 2},
        {"typical_p": 0},
        {"epsilon_cutoff": 1},
        {"eta_cutoff": -1},
        {"repetition_penalty": 0},
        {"frequency_penalty": np.inf},
        {"presence_penalty": None},
        {"no_repeat_ngram": -2},
        {"banned_ids": [-1]},
        {"banned_ids": [0.5]},
        {"banned_ids": [7]},
        {"logit_bias": [1, 2]},
        {"logit_bias": {0: np.inf}},
        {"logit_bias": {0: np.nan}},
        {"logit_bias": {9: 1.0}},
        {"forced_ids": 7},
        {"forced_ids": [1, 2, 3]},
        {"min_length": 3},
        {"max_length": 0, "end_ids": 1},
        {"max_length": 3},
        {"end_ids": 7},
        {"rng": -1},
        {"rng": 0.5},
        {"rng": True},
        {"rng": "seed"},
        {"options": {"top_k": 3}},
        {"topk": 3},
        {"top": 3},
    ],
    ids=str,
)
def test_bad_options_are_named(options):
    generator = np.random.default_rng(0)
    with pytest.raises(OptionError, match=next(iter(options))):
        sample(np.zeros((2, 7)), **({"rng": generator} | options))
    assert generator.random() == np.random.default_rng(0).random()  # nothing was drawn


@pytest.mark.parametrize("options", [o for o in EDITS if not {"logit_bias", "banned_ids"} & set(o)], ids=str)
def test_options_that_need_a_history_say_so(options):
    with pytest.raises(OptionError, match="history="):
        sample(np.zeros((2, 7)), **options)


def test_bad_histories_are_named():
    logits = np.zeros((2, 5))
    for history, error, message in [
        ([[1]], ShapeError, "1 rows"),
        ([[1], [5]], DataError, "id 5"),
        ([[1], [-1]], DataError, "id -1"),
        ([[1], [0.5]], DataError, "integer"),
        ([[1], [[2]]], ShapeError, "one-dimensional"),
        (3, ShapeError, "history"),
        ([[1.0], []], DataError, "integer"),
    ]:
        generator = np.random.default_rng(0)
        with pytest.raises(error, match=message):
            sample(logits, presence_penalty=1.0, history=history, rng=generator)
        assert generator.random() == np.random.default_rng(0).random()  # nothing was drawn


def test_options_that_leave_nothing():
    with pytest.raises(DataError, match="row 0: the options ban every id"):
        sample(np.zeros(2), banned_ids=[0, 1])
    with pytest.raises(DataError, match="row 0: logit_bias or a penalty"):
        sample(np.zeros(2, np.float32), logit_bias={0: 1e300})


@settings(max_examples=300, deadline=None)
@given(
    row=st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, -np.inf, 1.0]), min_size=1, max_size=80),
    double=st.booleans(),
    temperature=st.sampled_from([0.0, 1e-40, 1e-3, 1.0, 50.0, 1e38]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "top_k": st.integers(0, 90),
            "top_p": st.floats(0, 1),
            "min_p": st.floats(0, 1),
            "typical_p": st.floats(1e-9, 1),
            "epsilon_cutoff": st.floats(0, 0.99),
            "eta_cutoff": st.floats(0, 0.99),
        },
    ),
)
def test_any_row_gives_a_possible_id_or_a_named_error(row, double, temperature, options):
    logits = np.array(row, np.float64 if double else np.float32)
    fine = not np.isnan(logits).any() and logits.max() < np.inf and logits.max() > -np.inf
    if not fine:
        with pytest.raises(DataError):
            sample(logits, temperature=temperature or 1.0, rng=0, **options)
        return
    log_probs = log_probabilities(logits, temperature=temperature, **options)
    assert np.exp(log_probs.astype(float)).sum() == pytest.approx(1, abs=1e-5)
    assert (log_probs[logits == -np.inf] == -np.inf).all()
    for seed in range(5):
        assert log_probs[sample(logits, temperature=temperature, rng=seed, **options)] > -np.inf
