"""The problems that contenders solve: shapes, and the arrays that all of them get alike."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GATES", "STATES", "Problem", "Shape"]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Gates of each kind of cell; the names are torch's and ONNX's."""
STATES = {"LSTM": "hc", "GRU": "h", "RNN": "h"}
"""Names of the arrays of each kind's state."""


class Shape(NamedTuple):
    """N sequences of T steps with D features through `layers` of H units, in one direction or both."""

    N: int
    T: int
    D: int
    H: int
    layers: int = 1
    directions: int = 1
    kind: str = "LSTM"

    def __str__(self) -> str:
        words = "" if self.layers == 1 else f", {self.layers} layers"
        return ",".join(map(str, self[:4])) + words + ("" if self.directions == 1 else ", both directions")

    @property
    def rows(self) -> int:
        """Rows of a weight matrix: the gates of all units."""
        return GATES[self.kind] * self.H

    def features_of(self, layer: int) -> int:
        """Return how many features `layer` reads."""
        return self.D if layer == 0 else self.H * self.directions

    @property
    def flops(self) -> float:
        """Multiplications and additions of the forward products; training has three times as many."""
        inputs = sum(self.features_of(layer) + self.H for layer in range(self.layers))
        return 2.0 * self.N * self.T * self.rows * self.directions * inputs

    @property
    def recurrent_bytes(self) -> int:
        """Size of the float32 recurrent weights of one layer and direction: every step reads them all."""
        return 4 * self.rows * self.H

    @property
    def passes(self) -> int:
        """How often a whole sequence reads such weights."""
        return self.T * self.layers * self.directions


class Problem:
    """A shape with its arrays, the same ones at every making: torch-named weights, x (N, T, D), dy (N, T, features)."""

    def __init__(self, shape: Shape):
        rng = np.random.default_rng(0)
        self.shape = shape
        bound = shape.H**-0.5  # as torch begins
        self.weights: dict[str, NDArray[np.float32]] = {}
        for layer in range(shape.layers):
            columns = {"weight_ih": (shape.features_of(layer),), "weight_hh": (shape.H,), "bias_ih": (), "bias_hh": ()}
            for suffix in ("", "_reverse")[: shape.directions]:
                for name, more in columns.items():
                    values = rng.uniform(-bound, bound, (shape.rows, *more))
                    self.weights[f"{name}_l{layer}{suffix}"] = values.astype(np.float32)
        self.x = rng.standard_normal((shape.N, shape.T, shape.D), dtype=np.float32)
        self.dy = rng.standard_normal((shape.N, shape.T, shape.directions * shape.H), dtype=np.float32)

    def of_layer(self, layer: int) -> dict[str, NDArray[np.float32]]:
        """Return the weights of one layer, named as if it were the only one."""
        mark = f"_l{layer}"
        return {name.replace(mark, "_l0"): value for name, value in self.weights.items() if mark in name}
