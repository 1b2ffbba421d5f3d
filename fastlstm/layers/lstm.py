"""LSTM: long short-term memory (Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import OptionError
from ..kernels import cells
from ..kernels.cells import Cell
from .base import size
from .initializers import initial, uniform
from .recurrent import CommonOptions, RecurrentLayer
from .regularizers import L2

__all__ = ["LSTM", "LSTMState"]


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step: ``h`` (N, H), of a projection (N, P), and ``c`` (N, H)."""

    h: NDArray[Any]
    c: NDArray[Any]


class LSTM(RecurrentLayer):
    """Run a long short-term memory over sequences.

    Parameters
    ----------
    units : int
        H, the features of the cell state, and of h and the output unless there is a projection.
    activation, recurrent_activation : str or None
        Of the candidate g and the cell state; of the gates i, f, o: "tanh", "sigmoid", "hard_sigmoid",
        "hard_sigmoid_keras2", "relu", "softsign", "linear" (None). The pair tanh and sigmoid is the fastest.
    use_bias : bool
        Whether there are biases.
    kernel_initializer, recurrent_initializer, bias_initializer : str
        Start values of W_ih, W_hh and the biases, by Keras's names.
    kernel_regularizer, recurrent_regularizer, bias_regularizer : L2, float or None
        Penalties on them that training adds to the loss.
    dropout, recurrent_dropout : float
        Fraction of input features, or of units of ``h_prev``, that training drops: one mask a sequence, the same at
        every step (Gal and Ghahramani 2016).
    return_sequences : bool
        Return h of every step (else of the last true step of each sequence).
    return_state : bool
        Calling the layer also returns the final `LSTMState`.
    go_backwards : bool
        Read each sequence from its end; steps go out in the order they were read.
    stateful : bool
        Refused: a state is a value that goes in and comes out.
    unroll : bool
        Accepted for Keras's sake; it changes nothing.
    unit_forget_bias : bool
        Begin with a forget bias of 1 (Jozefowicz et al. 2015).
    peephole : bool
        Let i and f read c before the step, and o c after it, by a weight for each unit (Gers and Schmidhuber 2000).
    coupled : bool
        One gate for input and forget: f = 1 - i (Greff et al. 2017). It has three gates: i, g, o.
    projection : int or None
        P, the features of h and of the output: h = W_hr (o * tanh(c)) (Sak et al. 2014; torch's ``proj_size``).
    name, dtype
        See `Layer`.

    Notes
    -----
    Parameters bear torch's names: ``weight_ih_l0 (4H, D)`` Glorot uniform, ``weight_hh_l0 (4H, P)`` orthogonal,
    ``bias_ih_l0`` and ``bias_hh_l0 (4H,)``; gates in the order i, f, g, o. A projection has ``weight_hr_l0 (P, H)``,
    peepholes ``weight_ci_l0``, ``weight_cf_l0`` and ``weight_co_l0 (H,)``. ``docs/lstm.md`` has the equations.

    Outputs are bitwise the same for a sequence alone or in any batch, whole or in chunks, on any number of cores.
    Numbers below 1.2e-38 (of float64: 2.2e-308) count as zeros on x86: they would cost time.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> lstm = fl.LSTM(8, return_sequences=True, return_state=True)
    >>> y, state = lstm(np.ones((2, 5, 3)))
    >>> y.shape, state.h.shape
    ((2, 5, 8), (2, 8))
    >>> more, state = lstm(np.ones((2, 5, 3)), initial_state=state)
    """

    state_type = LSTMState

    def __init__(
        self,
        units: int,
        activation: str | None = "tanh",
        recurrent_activation: str | None = "sigmoid",
        *,
        use_bias: bool = True,
        kernel_initializer: str = "glorot_uniform",
        recurrent_initializer: str = "orthogonal",
        bias_initializer: str = "zeros",
        kernel_regularizer: L2 | float | str | None = None,
        recurrent_regularizer: L2 | float | str | None = None,
        bias_regularizer: L2 | float | str | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        unit_forget_bias: bool = True,
        peephole: bool = False,
        coupled: bool = False,
        projection: int | None = None,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        options = {word: value for word, value in locals().items() if word in CommonOptions._fields}
        super().__init__(units, CommonOptions(**options), name=name, dtype=dtype)
        self.unit_forget_bias, self.peephole, self.coupled = unit_forget_bias, peephole, coupled
        self.projection = None if projection is None else size("LSTM", "projection", projection)
        if self.projection is not None and self.projection > self.units:
            raise OptionError(f"LSTM: projection={projection}; expected at most units={units}")

    @property
    def features_out(self) -> int:
        return self.projection or self.units

    def own_config(self) -> dict[str, Any]:
        words = "unit_forget_bias", "peephole", "coupled", "projection"
        return {word: getattr(self, word) for word in words}

    def cell(self) -> Cell:
        project = self.projection is not None
        return cells.lstm(self.activation, self.recurrent_activation, self.peephole, self.coupled, project)

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params = super().create(features, rng)
        if self.use_bias and self.unit_forget_bias and not self.coupled:
            params["bias_ih_l0"][self.units : 2 * self.units] = 1.0
        return params

    def more_parameters(self, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params = {f"weight_c{gate}_l0": uniform(rng, (self.units,)) for gate in self.cell().diagonals}
        if self.projection is not None:
            params["weight_hr_l0"] = initial(self.kernel_initializer, rng, (self.projection, self.units))
        return params
