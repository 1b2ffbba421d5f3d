"""The kernels of attention: nothing is read or written beyond an array, and any split gives the same bits."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from fastlstm.data.packed import pack
from fastlstm.engine.attention import pairs_of
from fastlstm.engine.products import padded_bias
from fastlstm.kernels import attention
from tests import naive
from tests.kernels.recurrent.harness import Arrays
from tests.tolerances import assert_bitwise_equal

QUERIES, MEMORIES = [2, 50, 7, 1], [9, 5, 1, 16]
FEATURES = [(1, 1), (7, 17), (16, 16), (33, 70), (64, 5), (129, 128)]


class Call:
    """Arrays for both kernels, which `arrays` makes."""

    def __init__(self, arrays, features, dtype, *, own_key, additive, dropout):
        rng, self.arrays, self.dtype = np.random.default_rng(0), arrays, np.dtype(dtype)
        wide, out = features if own_key else (features[1],) * 2
        query, value = (
            pack(naive.random_sequences(rng, lengths, count), features=True, dtype=self.dtype)[0]
            for lengths, count in ((QUERIES, wide), (MEMORIES, out))
        )
        key = arrays.copy(rng.standard_normal(value.total * wide if own_key else 0).astype(dtype))
        u = padded_bias(rng.standard_normal(wide).astype(dtype), wide, self.dtype) if additive else np.empty(0, dtype)
        self.shape = query.total, max(MEMORIES)
        mask = rng.integers(0, 2, self.shape if dropout else (0, 0)).astype(dtype) * 2
        self.pairs = pairs_of(query, value)
        self.operands = (
            (arrays.copy(query.rows.reshape(-1)), wide),
            (key, wide),
            (arrays.copy(value.rows.reshape(-1)), out),
            arrays.copy(u),
            arrays.copy(mask),
        )
        self.features = wide, out
        self.weights = arrays.new(self.shape, dtype)
        self.context = arrays.new((query.total, out), dtype)
        self.outer = tuple(
            arrays.copy(rng.standard_normal(like.shape).astype(dtype)) for like in (self.context, self.weights)
        )
        self.inner = (
            arrays.new((query.total, wide), dtype),
            arrays.new((value.total if own_key else 0, wide), dtype),
            arrays.new((value.total, out), dtype),
            arrays.new((len(QUERIES) if additive else 0, len(u)), dtype),
        )

    def scratch(self, *, backward):
        sizes = attention.scratch_for((max(QUERIES), max(MEMORIES)), self.features, self.dtype, backward=backward)
        kind = attention.BackwardScratch if backward else attention.Scratch
        scratch = kind(*(self.arrays.new((size,), self.dtype) for size in sizes))
        scratch.zeros[...] = 0.0
        return scratch

    def run(self, parts, causal=False):
        for begin, end in pairwise(parts):
            attention.attend(
                self.pairs, causal, *self.operands, self.weights, self.context, self.scratch(backward=False), begin, end
            )
        for begin, end in pairwise(parts):
            attention.attend_backward(
                self.pairs,
                *self.operands,
                self.weights,
                self.outer,
                self.inner,
                self.scratch(backward=True),
                begin,
                end,
            )
        return [self.weights, self.context, *self.inner]


def calls(arrays, dtypes=("float32", "float64")):
    for dtype in dtypes:
        for features in FEATURES:
            for own_key, additive, dropout in (
                (False, False, False),
                (True, False, True),
                (False, True, True),
                (True, True, False),
            ):
                yield Call(arrays, features, dtype, own_key=own_key, additive=additive, dropout=dropout)


def test_every_output_is_written_and_nothing_beside_it():
    arrays = Arrays()
    for call in calls(arrays):
        for output in call.run([0, len(QUERIES)], causal=True):
            assert np.isfinite(output).all()
    arrays.check()


def test_any_split_gives_the_same_bits():
    for whole, split in zip(calls(Arrays()), calls(Arrays()), strict=True):
        expected = whole.run([0, len(QUERIES)])
        for got, wanted in zip(split.run([0, 1, 3, len(QUERIES)]), expected, strict=True):
            assert_bitwise_equal(got, wanted)


def run_beside_protected_pages():
    """Run both kernels; print the last word when they have come back."""
    from tests.kernels.recurrent.test_guard_pages import GuardedArrays

    for call in calls(GuardedArrays()):
        call.run([0, len(QUERIES)])
    print("all came back")


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's mprotect here")
def test_nothing_is_read_beyond_the_end_of_an_array():
    program = "from tests.kernels.test_attention import run_beside_protected_pages as run; run()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.strip() == "all came back", done.stderr[-3000:]
