"""What a trace shall hold: the naive loops' gates and states, padded as a trace pads them."""

import numpy as np

from tests.cell_cases import make_case
from tests.naive import cells
from tests.naive.spec import GATES
from tests.tolerances import OUTPUT, assert_outputs_close


def case_without_state(spec, lengths, features, units, seed):
    """Return a case whose sequences start from zeros, as models start them."""
    case = make_case(spec, lengths, features, units, seed)
    return case._replace(states=tuple(np.zeros_like(part) for part in case.states))


def assert_as_naive(found, case, reverse=False):
    """Compare a LayerTrace with the naive loops, gate by gate; past each length there are zeros."""
    expected = cells.trace(case.spec, case.xs, case.states, case.weights, reverse)
    names = [*GATES[case.spec.kind].replace("h", ""), *cells.STATES[case.spec.kind][::-1]]
    arrays = {**found.gates, "c": found.cell, "h": found.hidden}
    if case.spec.kind != "lstm":
        assert arrays.pop("c") is None
    assert [*arrays] == names, "all gates in public order, then the states"
    assert found.lengths.tolist() == case.lengths
    for name, array in arrays.items():
        assert len(array) == len(case.xs)
        for n, length in enumerate(case.lengths):
            bound = OUTPUT[str(array.dtype)] * max(1.0, np.abs(expected[n][name]).max())
            what = f"{case.spec}: {name} of sequence {n}"
            assert_outputs_close(array[n, :length], expected[n][name], what=what, bound=bound)
            assert not array[n, length:].any(), what
