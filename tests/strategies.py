"""Hypothesis strategies, named by the shape of what they draw.

Arrays come from a drawn seed rather than element by element: an example is small to print, quick to draw, and shrinks
by its shape, which is where the bugs are (edges of tiles, of panels, of chunks).
"""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests import naive


class LstmCase(NamedTuple):
    """A ragged batch for one LSTM: sequences (T_n, D), states (N, H), weights; all float64."""

    sequences: list
    h0: np.ndarray
    c0: np.ndarray
    weights: naive.Weights
    rng: np.random.Generator

    @property
    def features(self):
        return self.sequences[0].shape[1]

    @property
    def units(self):
        return self.weights.units

    @property
    def lengths(self):
        return [len(x) for x in self.sequences]


def seeds():
    return st.integers(0, 2**32 - 1)


def float_types():
    return st.sampled_from(["float32", "float64"])


def lengths_n(max_sequences=7, max_steps=6):
    """(N,) true lengths, in any order."""
    return st.lists(st.integers(1, max_steps), min_size=1, max_size=max_sequences)


def make_case(lengths, features, units, seed):
    """Build the case of these shapes and this seed."""
    rng = np.random.default_rng(seed)
    return LstmCase(
        naive.random_sequences(rng, lengths, features),
        rng.standard_normal((len(lengths), units)),
        rng.standard_normal((len(lengths), units)),
        naive.random_weights(rng, features, units),
        rng,
    )


def lstm_cases(max_sequences=7, max_steps=6, max_features=9, max_units=9):
    """Ragged batch (N, T_n, D) with non-zero (N, H) states and weights of H units."""
    return st.builds(
        make_case,
        lengths_n(max_sequences, max_steps),
        st.integers(1, max_features),
        st.integers(1, max_units),
        seeds(),
    )


@st.composite
def cuts_of(draw, count):
    """Increasing bounds 0 = b_0 < b_1 < ... = count that cut range(count) into one to four parts."""
    inner = draw(st.lists(st.integers(1, count - 1), max_size=3, unique=True)) if count > 1 else []
    return [0, *sorted(inner), count]


def matrices_mkn(max_rows=20, max_sum=40, max_columns=150):
    """(M, K, N) sizes of a matrix product."""
    return st.tuples(st.integers(1, max_rows), st.integers(1, max_sum), st.integers(1, max_columns))
