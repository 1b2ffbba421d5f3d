"""Batches to packed rows and back: every form, every order, no padding anywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.data.packed import pack
from fastlstm.errors import DataError, OptionError, ShapeError
from tests import naive, strategies
from tests.tolerances import assert_bitwise_equal


@st.composite
def ragged_batches(draw, features=True):
    """A list of (T_n, F), or of (T_n,) ids."""
    lengths = draw(strategies.lengths_n(max_sequences=9, max_steps=8))
    rng = np.random.default_rng(draw(strategies.seeds()))
    if features:
        return naive.random_sequences(rng, lengths, draw(st.integers(1, 4)))
    return [rng.integers(0, 100, length) for length in lengths]


def padded(sequences, fill=np.nan, extra=0):
    out = np.full((len(sequences), max(map(len, sequences)) + extra, *sequences[0].shape[1:]), fill)
    for row, x in zip(out, sequences, strict=True):
        row[: len(x)] = x
    return out


def row_of(packed, place, t):
    """Return the packed row of step t of the sequence at `place` in packed order, by the definition."""
    return int(packed.batch_sizes[:t].sum()) + place


@given(ragged_batches())
def test_each_step_stands_where_the_layout_says(sequences):
    packed, _ = pack(sequences, features=True)
    order = range(len(sequences)) if packed.order is None else packed.order
    assert sorted(order) == list(range(len(sequences)))
    assert len(packed.rows) == sum(map(len, sequences)), "rows hold padding, or lack steps"
    for place, n in enumerate(order):
        for t, step in enumerate(sequences[n]):
            assert_bitwise_equal(packed.rows[row_of(packed, place, t)], step)


@given(ragged_batches())
def test_batch_sizes_never_rise_and_count_the_living(sequences):
    packed, _ = pack(sequences, features=True)
    lengths = sorted(map(len, sequences), reverse=True)
    assert packed.batch_sizes.tolist() == [sum(length > t for length in lengths) for t in range(lengths[0])]
    assert packed.lengths.tolist() == lengths
    assert packed.offsets.tolist() == [0, *np.cumsum(packed.batch_sizes)]
    assert packed.sequences == len(sequences)
    assert packed.last_rows.tolist() == [row_of(packed, place, length - 1) for place, length in enumerate(lengths)]


@given(ragged_batches(), st.integers(0, 3))
def test_a_padded_array_packs_to_the_rows_of_the_list(sequences, extra):
    from_list, _ = pack(sequences, features=True)
    from_array, _ = pack(padded(sequences, extra=extra), [len(x) for x in sequences], features=True)
    assert_bitwise_equal(from_array.rows, from_list.rows)
    assert_bitwise_equal(from_array.batch_sizes, from_list.batch_sizes)


@given(ragged_batches(), st.integers(0, 3))
def test_what_comes_out_has_the_form_of_what_went_in(sequences, extra):
    packed, form = pack(sequences, features=True)
    for got, x in zip(form.unpack(packed), sequences, strict=True):
        assert_bitwise_equal(got, x)
        assert got.flags.c_contiguous
    array = padded(sequences, extra=extra)
    packed, form = pack(array, [len(x) for x in sequences], features=True)
    assert_bitwise_equal(form.unpack(packed), np.nan_to_num(array, nan=0.0))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), strategies.seeds())
def test_a_dense_batch_is_its_own_transpose_and_moves_nothing(count, steps, features, seed):
    x = np.random.default_rng(seed).standard_normal((count, steps, features))
    packed, form = pack(x, features=True)
    assert packed.order is None
    assert packed.batch_sizes.tolist() == [count] * steps
    assert_bitwise_equal(packed.rows, x.swapaxes(0, 1).reshape(-1, features))
    assert_bitwise_equal(form.unpack(packed), x)


@given(ragged_batches(features=False))
def test_ids_are_rows_without_features(sequences):
    packed, form = pack(sequences, features=False)
    assert packed.rows.shape == (sum(map(len, sequences)),)
    for got, ids in zip(form.unpack(packed), sequences, strict=True):
        assert_bitwise_equal(got, ids)
    embedded = packed.with_rows(np.stack([packed.rows, -packed.rows], axis=1))
    for got, ids in zip(form.unpack(embedded), sequences, strict=True):
        assert_bitwise_equal(got, np.stack([ids, -ids], axis=1))


@given(ragged_batches())
def test_one_entry_a_sequence_goes_to_packed_order_and_back(sequences):
    packed, form = pack(sequences, features=True)
    own = np.arange(len(sequences))
    moved = packed.to_packed_order(own)
    assert [len(sequences[n]) for n in moved] == packed.lengths.tolist()
    assert_bitwise_equal(packed.to_user_order(moved), own)
    last = packed.one_row_each(packed.rows[packed.last_rows])
    assert_bitwise_equal(form.unpack(last), np.stack([x[-1] for x in sequences]))


def test_equal_lengths_keep_their_order():
    packed, _ = pack([np.zeros((length, 1)) for length in (2, 3, 2, 3, 2)], features=True)
    assert packed.order.tolist() == [1, 3, 0, 2, 4]


def test_samples_are_one_step_each(rng):
    x = rng.standard_normal((4, 3))
    packed, form = pack(x, features=True, steps=False)
    assert not packed.steps
    assert packed.batch_sizes.tolist() == [4]
    assert_bitwise_equal(form.unpack(packed), x)


@pytest.mark.parametrize("kind", ["float16", ">f4", ">f8", "int8", ">i8", "uint16", "bool"])
def test_rows_have_the_wanted_type_and_native_order(kind):
    x = np.array([[[0], [1]], [[1], [1]]], kind)
    packed, _ = pack(x, features=True, dtype="float32")
    assert packed.rows.dtype == np.float32
    assert packed.rows.dtype.isnative
    assert packed.rows.ravel().tolist() == [0, 1, 1, 1]
    kept, _ = pack(x, features=True)
    assert kept.rows.dtype == np.dtype(kind).newbyteorder("=")
    assert kept.rows.flags.c_contiguous


def test_a_list_of_equally_long_lists_is_one_array_and_a_list_of_arrays_is_not():
    assert pack([[1, 2], [3, 4]], features=False)[1].kind == "array"
    assert pack([np.array([1, 2]), np.array([3, 4])], features=False)[1].kind == "list"
    assert pack([[1, 2], [3]], features=False)[1].kind == "list"
    assert pack([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], features=True)[1].kind == "list"


@pytest.mark.parametrize("lengths", [[4, 4, 4], [4, 2, 3]], ids=["dense", "ragged"])
def test_what_is_derived_from_a_batch_leaves_it_and_the_users_arrays_as_they_were(lengths, rng):
    sequences = naive.random_sequences(rng, lengths, 3)
    given = np.stack(sequences) if len(set(lengths)) == 1 else sequences
    before = [x.copy() for x in sequences]
    packed, _ = pack(given, features=True)
    rows, sizes = packed.rows.copy(), packed.batch_sizes.copy()
    turned = packed.reversed()
    twice = turned.reversed().rows.copy()
    doubled = turned.with_rows(2.0 * turned.rows)
    doubled.rows[...] = 7.0
    assert_bitwise_equal(twice, rows, what="turned round twice")
    assert len(rows) < 2 or not (turned.rows == rows).all()
    assert_bitwise_equal(packed.rows, rows, what="rows")
    assert_bitwise_equal(packed.batch_sizes, sizes, what="batch_sizes")
    for x, expected in zip(given, before, strict=True):
        assert_bitwise_equal(x, expected, what="the user's array")
    with pytest.raises(AttributeError):
        packed.rows = rows


@pytest.mark.parametrize(
    ("x", "lengths", "kind", "words"),
    [
        ([], None, DataError, "reader: an empty list"),
        ((), None, DataError, "reader: an empty list"),
        (np.zeros((2, 3)), None, ShapeError, r"reader: x has shape \(2, 3\), rank 2; expected rank 3"),
        (np.zeros((0, 3, 1)), None, DataError, "no sequences"),
        (np.zeros((2, 0, 1)), None, DataError, "no timesteps"),
        ([np.zeros((2, 1)), np.zeros((0, 1))], None, DataError, "sequence 1 has length 0"),
        ([np.zeros((2, 1)), np.zeros((2, 3))], None, ShapeError, "sequence 1 has 3 features, sequence 0 has 1"),
        ([np.zeros((2, 1)), np.zeros(2)], None, ShapeError, r"sequence 1 has shape \(2,\)"),
        ([np.zeros((2, 1))], [2], OptionError, "lengths="),
        (np.zeros((2, 3, 1)), [1, 0], DataError, r"lengths\[1\] is 0; expected 1 to 3"),
        (np.zeros((2, 3, 1)), [4, 1], DataError, r"lengths\[0\] is 4; expected 1 to 3"),
        (np.zeros((2, 3, 1)), [3], ShapeError, r"lengths has shape \(1,\); expected \(2,\)"),
        (np.zeros((2, 3, 1)), [[3, 3]], ShapeError, r"lengths has shape \(1, 2\)"),
        (np.zeros((2, 3, 1)), [3.0, 3.0], DataError, "lengths has dtype float64"),
        (np.array([[["a"]]]), None, DataError, "dtype"),
        (np.array([[[None]]]), None, DataError, "dtype object"),
    ],
)
def test_what_is_no_batch(x, lengths, kind, words):
    with pytest.raises(kind, match=words):
        pack(x, lengths, features=True, who="reader")


def test_samples_have_no_lengths():
    with pytest.raises(OptionError, match="lengths="):
        pack(np.zeros((2, 3)), [1, 1], features=True, steps=False)
