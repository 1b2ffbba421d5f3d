"""GRU: gated recurrent unit (Cho et al. 2014)."""

from typing import Any, NamedTuple

from numpy.typing import DTypeLike, NDArray

from ..kernels import cells
from ..kernels.cells import Cell
from .recurrent import CommonOptions, RecurrentLayer
from .regularizers import L2

__all__ = ["GRU", "GRUState"]


class GRUState(NamedTuple):
    """What a GRU carries from step to step: ``h`` (N, H)."""

    h: NDArray[Any]


class GRU(RecurrentLayer):
    """Run a gated recurrent unit over sequences.

    Parameters
    ----------
    units : int
        H, the features of h and of the output.
    activation, recurrent_activation : str or None
        Of the candidate n; of the gates r and z. See `LSTM`.
    reset_after : bool
        Whether the reset gate is applied after the recurrent product, as in torch, cuDNN and Keras's default; else
        before it, as in the paper. See ``docs/gru.md``.
    use_bias, kernel_initializer, recurrent_initializer, bias_initializer
        See `LSTM`.
    kernel_regularizer, recurrent_regularizer, bias_regularizer
        See `LSTM`.
    dropout, recurrent_dropout, return_sequences, return_state, go_backwards, stateful, unroll
        See `LSTM`. The state is a `GRUState`; an array (N, H) is taken for one.
    name, dtype
        See `Layer`.

    Notes
    -----
    Parameters bear torch's names: ``weight_ih_l0 (3H, D)``, ``weight_hh_l0 (3H, H)``, ``bias_ih_l0`` and ``bias_hh_l0
    (3H,)``; gates in the order r, z, n. (Keras has z, r, h.) What `LSTM` says of bits holds here too.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> gru = fl.GRU(8, return_sequences=True, return_state=True)
    >>> y, state = gru(np.ones((2, 5, 3)))
    >>> y.shape, state.h.shape
    ((2, 5, 8), (2, 8))
    """

    state_type = GRUState

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
        reset_after: bool = True,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        options = {word: value for word, value in locals().items() if word in CommonOptions._fields}
        super().__init__(units, CommonOptions(**options), name=name, dtype=dtype)
        self.reset_after = reset_after

    def own_config(self) -> dict[str, Any]:
        return {"reset_after": self.reset_after}

    def cell(self) -> Cell:
        return cells.gru(self.activation, self.recurrent_activation, self.reset_after)
