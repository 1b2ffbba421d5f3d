"""SimpleRNN: a fully connected recurrent network (Elman 1990)."""

from typing import Any, NamedTuple

from numpy.typing import DTypeLike, NDArray

from ..kernels import cells
from ..kernels.cells import Cell
from .recurrent import CommonOptions, RecurrentLayer
from .regularizers import L2

__all__ = ["RNNState", "SimpleRNN"]


class RNNState(NamedTuple):
    """What a SimpleRNN carries from step to step: ``h`` (N, H)."""

    h: NDArray[Any]


class SimpleRNN(RecurrentLayer):
    """Run a simple recurrent network over sequences: h = activation(W_ih x + b_ih + W_hh h_prev + b_hh).

    It forgets: gradients shrink or grow with every step. ``docs/lstm.md`` says what an `LSTM` does about it.

    Parameters
    ----------
    units : int
        H, the features of h and of the output.
    activation : str or None
        See `LSTM`.
    use_bias, kernel_initializer, recurrent_initializer, bias_initializer
        See `LSTM`.
    kernel_regularizer, recurrent_regularizer, bias_regularizer
        See `LSTM`.
    dropout, recurrent_dropout, return_sequences, return_state, go_backwards, stateful, unroll
        See `LSTM`. The state is an `RNNState`; an array (N, H) is taken for one.
    name, dtype
        See `Layer`.

    Notes
    -----
    Parameters bear torch's names: ``weight_ih_l0 (H, D)``, ``weight_hh_l0 (H, H)``, ``bias_ih_l0`` and ``bias_hh_l0
    (H,)``. What `LSTM` says of bits holds here too.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> fl.SimpleRNN(8, return_sequences=True)(np.ones((2, 5, 3))).shape
    (2, 5, 8)
    """

    state_type = RNNState

    def __init__(
        self,
        units: int,
        activation: str | None = "tanh",
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
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        options: dict[str, Any] = {word: value for word, value in locals().items() if word in CommonOptions._fields}
        super().__init__(units, CommonOptions(recurrent_activation="sigmoid", **options), name=name, dtype=dtype)

    def config(self) -> dict[str, Any]:
        config = super().config()
        del config["recurrent_activation"]  # it has no gates
        return config

    def cell(self) -> Cell:
        return cells.rnn(self.activation)
