"""Every recurrent layer live against torch and ONNX Runtime, over small shapes and large ones."""

import numpy as np
import pytest

import fastlstm as fl
from tests.cell_cases import SPECS, assert_same_gradients, assert_same_outputs, make_case
from tests.layers.cells import CLASSES, call, layer_of, train
from tests.naive import Spec
from tests.tolerances import assert_outputs_close

torch_cells = pytest.importorskip("tests.peers.torch_cells", exc_type=ImportError, reason="needs torch")
onnx_cells = pytest.importorskip("tests.peers.onnx_cells", exc_type=ImportError, reason="needs onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

TORCH_HAS = [spec for spec in SPECS if torch_cells.supports(spec)]
ONNX_HAS = [spec for spec in SPECS if onnx_cells.supports(spec)]
SHAPES = (
    ([1], 1, 4),
    ([9, 9, 9], 31, 29),
    ([20] * 17, 64, 64),
    ([17, 3, 25, 1, 8], 13, 130),
    ([30, 12, 30], 100, 257),
)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"N{len(shape[0])} D{shape[1]} H{shape[2]}")


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    """Its threads spin: on cores that are busy otherwise, small layers would take seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sized(spec, shape):
    """Build a case; a projection grows with its layer."""
    if spec.projection and shape[2] > 100:
        spec = spec._replace(projection=shape[2] // 4)
    return make_case(spec, *shape, seed=shape[2])


@pytest.mark.parametrize("spec", TORCH_HAS, ids=str)
@every_shape
def test_outputs_states_and_gradients_are_torchs(spec, shape, dtype):
    case = sized(spec, shape)
    *expected, gradients = torch_cells.results(case, dtype)
    outputs, found = train(layer_of(case, dtype), case)
    assert_same_outputs(case, outputs, expected)
    assert_same_gradients(case, found, gradients)


@pytest.mark.parametrize("spec", ONNX_HAS, ids=str)
@every_shape
def test_outputs_and_states_are_onnx_runtimes(spec, shape):
    case = sized(spec, shape)
    assert_same_outputs(case, call(layer_of(case, "float32"), case), onnx_cells.with_runtime(case))


@pytest.mark.parametrize("spec", TORCH_HAS, ids=str)
def test_torch_takes_our_tensors_as_they_are(spec, dtype):
    layer = layer_of(sized(spec, SHAPES[1]), dtype, return_state=False)
    theirs = torch_cells.module(spec, layer.state_dict(), dtype)
    x = np.random.default_rng(0).standard_normal((3, 8, 31)).astype(dtype)
    assert_outputs_close(layer(x), torch_cells.run(theirs, torch.tensor(x))[0].detach().numpy())


@pytest.mark.parametrize("kind", CLASSES)
def test_we_take_torchs_tensors_as_they_are_in_both_directions(kind):
    theirs = torch_cells.KINDS[kind](5, 9, batch_first=True, bidirectional=True, dtype=torch.float64)
    ours = fl.Bidirectional(getattr(fl, CLASSES[kind])(9, return_sequences=True, dtype="float64"))
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((3, 8, 5))
    assert_outputs_close(ours(x), torch_cells.run(theirs, torch.tensor(x))[0].detach().numpy())


def test_a_projected_lstm_in_both_directions_is_torchs():
    theirs = torch.nn.LSTM(5, 9, batch_first=True, bidirectional=True, proj_size=4, dtype=torch.float64)
    ours = fl.Bidirectional(fl.LSTM(9, projection=4, return_sequences=True, dtype="float64"))
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((3, 8, 5))
    assert_outputs_close(ours(x), torch_cells.run(theirs, torch.tensor(x))[0].detach().numpy())


@pytest.mark.parametrize("spec", [Spec("gru"), Spec("gru", reset_after=False), Spec("rnn")], ids=str)
def test_both_directions_of_onnx_runtime(spec):
    """One node with two directions, each with weights of its own."""
    import onnxruntime

    pair = [make_case(spec, [7] * 3, 5, 9, seed) for seed in (1, 2)]
    node = onnx_cells.model(spec, [case.weights for case in pair], direction="bidirectional")
    session = onnxruntime.InferenceSession(node.SerializeToString(), providers=["CPUExecutionProvider"])
    y = session.run(["Y"], onnx_cells.feed(pair[0], "float32", directions=2))[0]  # (T, 2, N, H)
    both = fl.Bidirectional(
        getattr(fl, CLASSES[spec.kind])(
            9, return_sequences=True, **({"reset_after": spec.reset_after} if spec.kind == "gru" else {})
        )
    )
    both.load_state_dict(pair[0].weights | {f"{name}_reverse": value for name, value in pair[1].weights.items()})
    start = tuple(tuple(part for part in pair[0].states) for _ in range(2))
    found = both(np.stack(pair[0].xs).astype(np.float32), initial_state=start)
    assert_outputs_close(found, np.concatenate([y[:, 0], y[:, 1]], axis=-1).swapaxes(0, 1))
