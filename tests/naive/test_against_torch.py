"""The naive cells against torch: outputs, final states and every gradient, float64."""

import pytest

from tests.cell_cases import (
    SPECS,
    assert_same_gradients,
    assert_same_outputs,
    make_case,
    naive_gradients,
    naive_outputs,
)

pytest.importorskip("torch")
from tests.peers import torch_cells

SHAPES = (([4, 1, 3], 2, 4), ([6, 6], 5, 9), ([1], 1, 4))
SEEN = [spec for spec in SPECS if torch_cells.supports(spec)]


def test_torch_has_some_of_every_kind():
    assert {spec.kind for spec in SEEN} == {"lstm", "gru", "rnn"}
    assert {bool(spec.projection) for spec in SEEN} == {spec.use_bias for spec in SEEN} == {True, False}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spec", SEEN, ids=str)
def test_outputs_states_and_gradients(spec, shape):
    case = make_case(spec, *shape, seed=len(shape[0]))
    ys, finals, gradients = torch_cells.results(case)
    assert_same_outputs(case, (ys, finals), naive_outputs(case))
    assert_same_gradients(case, gradients, naive_gradients(case))
