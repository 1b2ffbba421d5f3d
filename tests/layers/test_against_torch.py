"""Live against torch, over shapes of every kind: outputs, final states, all gradients, float32 and float64."""

import numpy as np
import pytest

import fastlstm as fl
from tests.layers import stacks
from tests.oracle.make_arrays import Shape, make_case, parameter_names, torch_results

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    """Its threads spin: on cores that are busy otherwise, small layers would take seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SHAPES = (
    Shape(1, 1, 1, 1),
    Shape(1, 1, 128, 128),
    Shape(1, 200, 13, 37),
    Shape(1, 50, 300, 300),
    Shape(1, 9, 1, 300),
    Shape(1, 9, 300, 1),
    Shape(2, 3, 1, 1),
    Shape(2, 17, 31, 29, layers=3),
    Shape(3, 11, 8, 16),
    Shape(4, 5, 16, 32),
    Shape(5, 7, 3, 2, directions=2),
    Shape(6, 200, 2, 3),
    Shape(7, 13, 17, 19, layers=2, directions=2),
    Shape(8, 20, 64, 64),
    Shape(9, 4, 127, 129),
    Shape(11, 23, 65, 63, directions=2),
    Shape(13, 3, 299, 257),
    Shape(16, 12, 48, 100, layers=2),
    Shape(31, 8, 33, 47),
    Shape(32, 6, 7, 255),
    Shape(33, 10, 100, 7, layers=3, directions=2),
    Shape(64, 15, 40, 40),
    Shape(65, 20, 300, 300),
    Shape(65, 2, 1, 5),
    Shape(1, 7, 5, 11, ragged=True),
    Shape(2, 30, 19, 23, ragged=True),
    Shape(3, 200, 5, 6, ragged=True),
    Shape(4, 9, 1, 1, layers=2, directions=2, ragged=True),
    Shape(7, 41, 37, 53, directions=2, ragged=True),
    Shape(10, 25, 90, 33, layers=3, ragged=True),
    Shape(17, 19, 61, 151, ragged=True),
    Shape(29, 14, 3, 300, ragged=True),
    Shape(40, 30, 128, 128, layers=2, ragged=True),
    Shape(65, 33, 21, 45, layers=2, directions=2, ragged=True),
    Shape(65, 50, 15, 10, ragged=True),
    Shape(12, 60, 200, 111, directions=2, ragged=True),
    Shape(9, 3, 30, 530),  # 2,120 gates: their sums go in blocks
    Shape(5, 4, 530, 515, layers=2, ragged=True),
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_states_and_gradients(shape, dtype):
    case = make_case(shape, SHAPES.index(shape))
    stacks.assert_as_torch(stacks.results(shape, case, dtype), torch_results(shape, case, dtype))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.directions == 2], ids=str)
def test_bidirectional_layers_stacked(shape):
    case = make_case(shape, 1)
    x, finals = case["x"], []
    for layer in range(shape.layers):
        both = fl.Bidirectional(fl.LSTM(shape.h, return_sequences=True, return_state=True, dtype="float64"))
        both.load_state_dict(
            {
                name.replace(f"_l{layer}", "_l0"): case[name]
                for place, _, _, name, _ in parameter_names(shape)
                if place == layer
            }
        )
        state = tuple((case["h0"][2 * layer + k], case["c0"][2 * layer + k]) for k in range(2))
        x, states = both(x, initial_state=state, lengths=case["lengths"])
        finals += states
    found = {"y": x, "h_n": np.stack([s.h for s in finals]), "c_n": np.stack([s.c for s in finals])}
    expected = torch_results(shape, case, "float64")
    stacks.assert_as_torch(found, {name: expected[name] for name in found})


def test_torch_takes_our_tensors_as_they_are(dtype):
    ours = fl.LSTM(9, return_sequences=True, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((3, 8, 5)).astype(dtype)
    y = ours(x)
    theirs = torch.nn.LSTM(5, 9, batch_first=True, dtype=getattr(torch, dtype))
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()}, strict=True)
    stacks.assert_as_torch({"y": y}, {"y": theirs(torch.tensor(x))[0].detach().numpy()})


def test_we_take_torchs_tensors_as_they_are():
    theirs = torch.nn.LSTM(5, 9, batch_first=True, bidirectional=True, dtype=torch.float64)
    ours = fl.Bidirectional(fl.LSTM(9, return_sequences=True, dtype="float64"))
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((3, 8, 5))
    stacks.assert_as_torch({"y": ours(x)}, {"y": theirs(torch.tensor(x))[0].detach().numpy()})
