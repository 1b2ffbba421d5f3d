"""The naive cells against ONNX Runtime (float32) and ONNX's own reference (float64): outputs and final states."""

import numpy as np
import pytest

from tests.cell_cases import SPECS, assert_same_outputs, make_case, naive_outputs

pytest.importorskip("onnx")
from tests.peers import onnx_cells

SHAPES = (([4, 1, 3], 2, 4), ([6, 6], 5, 9), ([1], 1, 4))
SEEN = [spec for spec in SPECS if onnx_cells.supports(spec)]
BY_REFERENCE = [spec for spec in SPECS if onnx_cells.reference_supports(spec)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spec", SEEN, ids=str)
def test_onnx_runtime(spec, shape):
    pytest.importorskip("onnxruntime")
    case = make_case(spec, *shape, seed=len(shape[0]))
    assert_same_outputs(case, onnx_cells.with_runtime(case), naive_outputs(case))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spec", BY_REFERENCE, ids=str)
def test_onnxs_reference(spec, shape):
    case = make_case(spec, *shape, seed=len(shape[0]))
    assert_same_outputs(case, onnx_cells.with_reference(case), naive_outputs(case))


@pytest.mark.parametrize("missing", [0.0, 3.0, -3.0, np.nan])
@pytest.mark.parametrize("spec", [spec for spec in SEEN if spec.coupled], ids=str)
def test_in_onnx_runtime_a_coupled_lstm_derives_its_forget_gate(spec, missing):
    """Whatever stands where the forget gate's weights and peephole would be: f is 1 - i."""
    pytest.importorskip("onnxruntime")
    case = make_case(spec, [4, 2], 3, 5, 0)
    assert_same_outputs(case, onnx_cells.with_runtime(case, missing), naive_outputs(case))
