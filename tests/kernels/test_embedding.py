from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels.embedding import gather, scatter_add
from tests import naive, strategies
from tests.tolerances import assert_bitwise_equal, assert_gradients_close


@st.composite
def tables_ids(draw):
    """A table (V, E), ids (M,), rows dy (M, E)."""
    vocabulary, width, count = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(strategies.seeds()))
    dtype = draw(strategies.float_types())
    ids = rng.integers(0, vocabulary, count)
    return (
        rng.standard_normal((vocabulary, width)).astype(dtype),
        ids,
        rng.standard_normal((count, width)).astype(dtype),
    )


@given(tables_ids(), st.data())
def test_gather_copies_one_row_an_id(case, data):
    table, ids, _ = case
    out = np.full((len(ids), table.shape[1]), np.nan, table.dtype)
    parts = data.draw(strategies.cuts_of(len(ids)))
    for begin, end in pairwise(parts):
        gather(table, ids, out, begin, end)
    assert_bitwise_equal(out, naive.embedding(ids, table).astype(table.dtype))


@given(tables_ids(), st.data())
def test_scatter_adds_rows_of_the_same_id_in_order_whatever_the_split(case, data):
    table, ids, dy = case
    whole = np.zeros_like(table)
    scatter_add(dy, ids, whole, 0, table.shape[1])
    assert_gradients_close(whole, naive.embedding_backward(ids, len(table), dy.astype(np.float64)), bound=1e-5)
    shared = np.zeros_like(table)
    parts = data.draw(strategies.cuts_of(table.shape[1]))
    for begin, end in pairwise(parts):
        scatter_add(dy, ids, shared, begin, end)
    assert_bitwise_equal(shared, whole)


def test_scatter_adds_to_what_is_there(dtype):
    table = np.full((3, 2), 10, dtype)
    scatter_add(np.array([[1, 2], [3, 4], [5, 6]], dtype), np.array([2, 0, 2]), table, 0, 2)
    assert table.tolist() == [[13, 14], [10, 10], [16, 18]]


def test_ids_may_be_of_any_integer_type(rng):
    table = rng.standard_normal((200, 3)).astype(np.float32)
    for kind in (np.int8, np.uint8, np.int32, np.int64):
        ids = np.array([0, 7, 100], kind)
        out = np.empty((3, 3), np.float32)
        gather(table, ids, out, 0, 3)
        assert_bitwise_equal(out, table[ids])
