"""Stop sequences against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.decode.stopping import StopSequences
from fastlstm.errors import OptionError


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), max_size=4), st.lists(st.integers(0, 2), max_size=9)
)
def test_stop_sequences_equal_their_definition(stops, ids):
    stop = StopSequences(stops)
    endings = [tuple(s) for s in stops if ids[len(ids) - len(s) :] == s and len(s) <= len(ids)]
    assert stop.match(np.array(ids, int)) == max(endings, key=len, default=None)
    assert stop.ended([ids]).tolist() == [bool(endings)]
    held = [n for n in range(1, len(ids) + 1) if any(len(s) > n and ids[-n:] == s[:n] for s in stops)]
    assert stop.held_back(ids) == max(held, default=0)


def test_bad_stop_sequences_are_named():
    for wrong in ([[]], [[0.5]], [3]):
        with pytest.raises(OptionError, match="stop sequence"):
            StopSequences(wrong)
