"""torch's LSTM as an oracle: all that it computes for a case, live or as the small arrays beside this file.

The arrays stand in where torch is not installed. To make them again, with torch installed, from the project's root::

    python -m tests.oracle.make_arrays
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parent


class Shape(NamedTuple):
    """N sequences of at most T steps (`ragged`: of different lengths), D features, H units, layers, directions."""

    n: int
    t: int
    d: int
    h: int
    layers: int = 1
    directions: int = 1
    ragged: bool = False

    def __str__(self):
        words = f"N{self.n}-T{self.t}-D{self.d}-H{self.h}-L{self.layers}"
        return words + ("-both" if self.directions == 2 else "") + ("-ragged" if self.ragged else "")


STORED = (
    Shape(1, 5, 3, 4),
    Shape(3, 4, 7, 5, ragged=True),
    Shape(2, 6, 4, 17, directions=2),
    Shape(4, 7, 5, 3, layers=2, ragged=True),
    Shape(5, 5, 2, 9, layers=3, directions=2, ragged=True),
)
"""Small, and each beyond a register's width or with a remainder somewhere."""


def parameter_names(shape):
    """Yield (layer, direction, name without suffixes, torch's name, shape) of every parameter."""
    for layer in range(shape.layers):
        features = shape.d if layer == 0 else shape.h * shape.directions
        for direction in range(shape.directions):
            sizes = {
                "weight_ih": (4 * shape.h, features),
                "weight_hh": (4 * shape.h, shape.h),
                "bias_ih": (4 * shape.h,),
                "bias_hh": (4 * shape.h,),
            }
            for name, size in sizes.items():
                yield layer, direction, name, f"{name}_l{layer}{'_reverse' * direction}", size


def make_case(shape, seed):
    """Return the arrays that go in, float64: x, lengths, h0, c0, dy, dh, dc and the parameters by torch's names.

    ``dy dh dc`` are the gradients of the loss ``sum(dy * y) + sum(dh * h_n) + sum(dc * c_n)``.
    """
    rng = np.random.default_rng(seed)
    lengths = np.full(shape.n, shape.t)
    if shape.ragged:
        lengths = rng.integers(1, shape.t + 1, shape.n)
        lengths[rng.integers(shape.n)] = shape.t
    states = (shape.layers * shape.directions, shape.n, shape.h)
    bound = 1 / np.sqrt(shape.h)
    case = {
        "lengths": lengths,
        "x": rng.standard_normal((shape.n, shape.t, shape.d)),
        "h0": rng.standard_normal(states),
        "c0": rng.standard_normal(states),
        "dy": rng.standard_normal((shape.n, shape.t, shape.h * shape.directions)),
        "dh": rng.standard_normal(states),
        "dc": rng.standard_normal(states),
    }
    past_the_end = np.arange(shape.t) >= lengths[:, None]
    case["x"][past_the_end] = 0
    case["dy"][past_the_end] = 0
    return case | {name: rng.uniform(-bound, bound, size) for *_, name, size in parameter_names(shape)}


def torch_results(shape, case, dtype):
    """Return what torch makes of `case`: y, h_n, c_n and the gradients (``d_`` and the name) of all that went in."""
    import torch

    kind = getattr(torch, dtype)
    lstm = torch.nn.LSTM(
        shape.d, shape.h, shape.layers, batch_first=True, bidirectional=shape.directions == 2, dtype=kind
    )
    names = [name for *_, name, _ in parameter_names(shape)]
    lstm.load_state_dict({name: torch.tensor(case[name], dtype=kind) for name in names}, strict=True)
    x, h0, c0 = (torch.tensor(case[name], dtype=kind, requires_grad=True) for name in ("x", "h0", "c0"))
    if shape.ragged:
        lengths = torch.tensor(case["lengths"])
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, (h, c) = lstm(packed, (h0, c0))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    else:
        y, (h, c) = lstm(x, (h0, c0))
    loss = sum((torch.tensor(case[name], dtype=kind) * out).sum() for name, out in (("dy", y), ("dh", h), ("dc", c)))
    loss.backward()
    gradients = {"x": x.grad, "h0": h0.grad, "c0": c0.grad} | {name: getattr(lstm, name).grad for name in names}
    results = {"y": y, "h_n": h, "c_n": c} | {f"d_{name}": gradient for name, gradient in gradients.items()}
    return {name: value.detach().numpy() for name, value in results.items()}


def stored(shape):
    """Return the path of the arrays of `shape`."""
    return FOLDER / f"lstm-{shape}.npz"


def main():
    for seed, shape in enumerate(STORED):
        case = make_case(shape, seed)
        results = torch_results(shape, case, "float64")
        # dy ... go in, d_x ... come out; what NumPy draws from a seed may change one day: inputs are stored too
        np.savez_compressed(stored(shape), **case, **{f"out_{name}": value for name, value in results.items()})
        print(stored(shape).name, stored(shape).stat().st_size)


if __name__ == "__main__":
    main()
