"""Weights in blocks of units, for one, three and four gates: where each element lies, and back, against plain NumPy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels import gemm
from fastlstm.kernels.recurrent import layout
from fastlstm.simd.host import REGISTERS
from tests import strategies
from tests.kernels.recurrent.harness import UNITS, Arrays
from tests.tolerances import assert_bitwise_equal, assert_gradients_close

GATES = st.sampled_from([1, 3, 4])


def columns_of(units, gates, lanes):
    """Return, for each column of a row of gates, its (gate, unit), or None for padding: what the module promises."""
    step = lanes // 2 if gates == 4 else lanes
    room = -(-units // step) * step
    columns = []
    for first in range(0, room, lanes):
        apart = min(lanes, room - first)
        for gate in range(gates):
            columns += [(gate, unit) if unit < units else None for unit in range(first, first + apart)]
    return columns


def registers(gates):
    """Return the registers of a panel."""
    return 3 if gates == 3 else 4


def expected_panels(w, units, gates, lanes, scales):
    """Return a weight (G * H, K) in panels, built element by element."""
    k, width = w.shape[1], registers(gates) * lanes
    columns = columns_of(units, gates, lanes)
    panels = -(-len(columns) // width)
    out = np.zeros((panels, k, width), w.dtype)
    for place, column in enumerate(columns):
        if column is not None:
            gate, unit = column
            out[place // width, :, place % width] = w[gate * units + unit] * w.dtype.type(scales[gate])
    return out


def packed(arrays, w, units, gates, lanes, scales, parts=None):
    """Return what `pack_gates` writes, panels in parts."""
    columns, width = len(columns_of(units, gates, lanes)), registers(gates) * lanes
    panels = -(-columns // width)
    out = arrays.new((panels * w.shape[1] * width,), w.dtype)
    for begin, end in pairwise(parts or [0, panels]):
        layout.pack_gates(w.reshape(-1), w.shape[1], units, np.array(scales), out, begin, end)
    arrays.check()
    return out


def weight(units, gates, k, dtype):
    """Return a weight with each element of its own, none zero."""
    return np.arange(1, gates * units * k + 1, dtype=dtype).reshape(gates * units, k)


def lanes_of(dtype):
    return REGISTERS.lanes(np.dtype(dtype).itemsize)


@given(st.sampled_from(UNITS), GATES, st.integers(1, 19), strategies.float_types(), st.data())
def test_each_element_is_packed_where_the_module_says_times_the_scale_of_its_gate(units, gates, k, dtype, data):
    lanes, scales = lanes_of(dtype), [2.0, -1.0, 0.5, 4.0][:gates]
    w = weight(units, gates, k, dtype)
    expected = expected_panels(w, units, gates, lanes, scales)
    parts = data.draw(strategies.cuts_of(len(expected)))
    found = packed(Arrays(), w, units, gates, lanes, scales, parts)
    assert_bitwise_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize(("units", "lanes", "halves", "expected"), [
    (1, 16, True, 8), (8, 16, True, 8), (9, 16, True, 16), (20, 16, True, 24), (25, 16, True, 32),
    (1, 16, False, 16), (20, 16, False, 32), (32, 16, False, 32), (3, 4, True, 4), (2, 4, True, 2), (5, 4, False, 8),
])  # fmt: skip
def test_the_room_for_units_ends_at_half_or_whole_registers(units, lanes, halves, expected):
    assert layout.packed_units_of(units, lanes, halves) == expected


@given(st.sampled_from(UNITS), GATES, st.integers(1, 19), strategies.float_types(), st.data())
def test_unpacking_gives_back_what_was_packed(units, gates, k, dtype, data):
    """Rows of a gradient lie in the order of the columns, from some column on in a wider array."""
    arrays, lanes = Arrays(), lanes_of(dtype)
    w, columns = weight(units, gates, k, dtype), columns_of(units, gates, lanes)
    wide = arrays.new((len(columns), k + 3), dtype)
    for row, column in zip(wide, columns, strict=True):
        row[2:-1] = 0.0 if column is None else w[column[0] * units + column[1]]
    back, blocks = arrays.new(w.shape, dtype), -(-units // lanes)
    for begin, end in pairwise(data.draw(strategies.cuts_of(blocks))):
        layout.unpack_gates(wide.reshape(-1), 2, k + 3, k, units, gates, back.reshape(-1), begin, end)
    arrays.check()
    assert_bitwise_equal(back, w)


@given(st.sampled_from(UNITS), GATES, st.integers(1, 90), strategies.seeds(), strategies.float_types())
def test_a_transposed_weight_multiplies_rows_of_gates(units, gates, n, seed, dtype):
    arrays, rng, lanes = Arrays(), np.random.default_rng(seed), lanes_of(dtype)
    columns = columns_of(units, gates, lanes)
    w, da = (rng.standard_normal(shape).astype(dtype) for shape in ((gates * units, n), (3, gates * units)))
    rows = np.zeros((3, len(columns)), dtype)
    for place, column in enumerate(columns):
        if column is not None:
            rows[:, place] = da[:, column[0] * units + column[1]]
    width, panels = gemm.panel_width(w.dtype), gemm.panels(n, w.dtype)
    transposed, out = arrays.new((panels * width * len(columns),), dtype), arrays.new((3, n), dtype)
    for begin, end in pairwise([0, 1, panels]):
        layout.pack_gates_transposed(w.reshape(-1), n, units, gates, transposed, begin, end)
    arrays.check()
    assert (transposed != 0).sum() == (w != 0).sum(), "padding, and nothing else, is zero"
    gemm.product(rows, len(columns), transposed, len(columns), np.zeros(panels * width, dtype), out, n, n, 0, 3)
    assert_gradients_close(out, da.astype(np.float64) @ w.astype(np.float64), bound=2000 * np.finfo(dtype).eps)
