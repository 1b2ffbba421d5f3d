"""What recurrent layers have in common: options, parameters by torch's names, passes, and what users call."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.numbers import as_numbers
from ..data.packed import BatchLike, Packed
from ..engine import tracing, training
from ..engine.geometry import Geometry
from ..engine.recurrence import Recurrence
from ..engine.training import RecurrentCache
from ..errors import NotBuiltError, OptionError, ShapeError
from ..kernels.activations import ACTIVATIONS
from ..kernels.cells import Cell
from .base import Gradients, Layer, PassContext, TableGradient, dropped, size
from .initializers import checked_initializer, initial
from .regularizers import L2, checked_regularizer
from .states import StatesInGraph, initial_symbols
from .symbol import Spec, connect, is_symbolic, symbols_in

__all__ = ["CommonOptions", "RecurrentLayer", "State", "steps_of"]

State = tuple[NDArray[Any], ...]
"""A state: a named tuple of arrays, each (N, features)."""


class CommonOptions(NamedTuple):
    """Keras's arguments that every recurrent layer takes."""

    activation: str
    recurrent_activation: str
    use_bias: bool
    kernel_initializer: str
    recurrent_initializer: str
    bias_initializer: str
    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    dropout: float
    recurrent_dropout: float
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    unroll: bool


class RecurrentLayer(StatesInGraph, Layer):
    """Base of recurrent layers: a layer says what its cell and parameters are, the engine runs it."""

    state_type: ClassVar[Any]
    """The named tuple of its state."""

    def __init__(self, units: int, options: CommonOptions, *, name: str | None, dtype: DTypeLike):
        super().__init__(name=name, dtype=dtype)
        kind = self.kind
        self.units = size(kind, "units", units)
        for word in ("activation", "recurrent_activation"):
            value = getattr(options, word)
            value = "linear" if value is None else value
            if not isinstance(value, str) or value not in ACTIVATIONS:
                raise OptionError(f"{kind}: {word}={value!r}; expected one of {', '.join(ACTIVATIONS)}")
            setattr(self, word, value)
        if options.stateful:
            raise OptionError(
                f"{kind}: stateful=True; a state is a value here: pass return_state=True, and what a call returns as "
                "the next call's initial_state. model.stream() keeps one for you"
            )
        self.activation: str
        self.recurrent_activation: str
        self.use_bias = bool(options.use_bias)
        for word in ("kernel_initializer", "recurrent_initializer", "bias_initializer"):
            setattr(self, word, checked_initializer(kind, word, getattr(options, word)))
        self.kernel_initializer: str
        self.recurrent_initializer: str
        self.bias_initializer: str
        self.kernel_regularizer = checked_regularizer(kind, "kernel_regularizer", options.kernel_regularizer)
        self.recurrent_regularizer = checked_regularizer(kind, "recurrent_regularizer", options.recurrent_regularizer)
        self.bias_regularizer = checked_regularizer(kind, "bias_regularizer", options.bias_regularizer)
        self.dropout = dropped(kind, "dropout", options.dropout)
        self.recurrent_dropout = dropped(kind, "recurrent_dropout", options.recurrent_dropout)
        self.return_sequences = options.return_sequences
        self.return_state = options.return_state
        self.go_backwards = options.go_backwards
        self._recurrence: Recurrence | None = None

    # --- what a recurrent layer defines ---------------------------------------------------------------------------

    def cell(self) -> Cell:
        """Return the cell with this layer's options."""
        raise NotImplementedError

    def more_parameters(self, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        """Return start values of parameters besides weights and biases."""
        return {}

    def own_config(self) -> dict[str, Any]:
        """Return the constructor's arguments that not all recurrent layers have."""
        return {}

    # --- parameters -----------------------------------------------------------------------------------------------

    @property
    def features_out(self) -> int:
        return self.units

    @property
    def returns_steps(self) -> bool:
        return self.return_sequences

    def config(self) -> dict[str, Any]:
        words = [word for word in CommonOptions._fields if word not in ("stateful", "unroll")]
        common = {word: getattr(self, word) for word in words}
        common = {word: value.l2 if isinstance(value, L2) else value for word, value in common.items()}
        return {"units": self.units, **common, **self.own_config(), "name": self.name, "dtype": self.dtype.name}

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        rows = len(self.cell().gates) * self.units
        params = {
            "weight_ih_l0": initial(self.kernel_initializer, rng, (rows, features)),
            "weight_hh_l0": initial(self.recurrent_initializer, rng, (rows, self.features_out)),
        }
        if self.use_bias:
            params["bias_ih_l0"] = initial(self.bias_initializer, rng, (rows,))
            params["bias_hh_l0"] = np.zeros(rows)
        return params | self.more_parameters(rng)

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        weight = tensors.get("weight_ih_l0")
        return int(weight.shape[1]) if weight is not None and weight.ndim == 2 else 0

    def changed(self) -> None:
        recurrence = self._recurrence
        if recurrence is None or recurrence.params is not self.arrays:
            self._recurrence = None
            regularizers = (self.kernel_regularizer, self.recurrent_regularizer, self.bias_regularizer)
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
            self.penalties = {
                name: regularizer.l2
                for name, regularizer in zip(names, regularizers, strict=True)
                if regularizer is not None and name in self.arrays
            }
        else:
            recurrence.changed()

    @property
    def recurrence(self) -> Recurrence:
        """What runs the layer, once built."""
        recurrence = self._recurrence
        if recurrence is None:
            if self.features_in is None:
                raise NotBuiltError(f"{self.kind} has no parameters yet: call it on data or build(features) first")
            geometry = Geometry(self.cell(), self.units, self.features_in, self.features_out, self.dtype)
            recurrence = self._recurrence = Recurrence(geometry, self.arrays)
        return recurrence

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_recurrence": None}  # packed again, in memory of the copy's own

    # --- passes ---------------------------------------------------------------------------------------------------

    @property
    def state_words(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.state_type._fields  # type: ignore[no-any-return]

    @property
    def state_sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.features_out, self.units)[: len(self.state_words)]

    @property
    def gives_state(self) -> bool:  # type: ignore[override]
        return self.return_state

    def specs(self, inputs: tuple[Spec, ...]) -> tuple[Spec, ...]:
        return self.specs_from(Layer.specs(self, inputs[:1]), inputs[1:])

    def run_from(self, x: Packed, start: State | None, context: PassContext) -> tuple[Packed, State, Any]:
        y, final, cache = self.run_steps(x, start, context)
        return (y if self.return_sequences else y.one_row_each(y.last_of(y.rows))), final, cache

    def back_from(
        self,
        dy: NDArray[Any] | None,
        d_final: State | None,
        cache: RecurrentCache,
        context: PassContext,
        of_state: bool,
    ) -> tuple[Any, State, Gradients]:
        if dy is None or not self.return_sequences:
            last, dy = dy, cache.frame.take("dy", (cache.x.total, self.features_out), self.dtype)
            dy[...] = 0.0
            if last is not None:
                dy[cache.x.last_rows] = last
        dx, d_start, gradients = self.backward_steps(dy, d_final, cache, context, of_state)
        return dx, d_start or (), gradients

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, RecurrentCache | None]:
        return self.run_from(x, None, context)[::2]

    def run_steps(
        self, x: Packed, state: State | None, context: PassContext
    ) -> tuple[Packed, Any, RecurrentCache | None]:
        """Return h of every step, the final state and BPTT's cache, from a state in packed order (None: zeros)."""
        if self.go_backwards:
            x = x.reversed()
        cache = None
        if context.traces is not None:
            traced, final = tracing.trace(self.recurrence, x, state)
            rows = traced.hidden
            context.traces.append((self, traced.turned() if self.go_backwards else traced))
        elif context.training:
            rows, final, cache = training.forward(
                self.recurrence, x, state, context, self.dropout, self.recurrent_dropout
            )
        else:
            rows, final = self.recurrence.infer(x, state)
        return x.with_rows(rows), self.state_type(*final), cache

    def backward(
        self, dy: NDArray[Any], cache: RecurrentCache, context: PassContext
    ) -> tuple[NDArray[Any] | TableGradient, Gradients]:
        dx, _, gradients = self.back_from(dy, None, cache, context, of_state=False)
        return dx, gradients

    def backward_steps(
        self,
        dy: NDArray[Any],
        d_state: State | None,
        cache: RecurrentCache,
        context: PassContext,
        of_state: bool = True,
    ) -> tuple[NDArray[Any] | TableGradient, Any, Gradients]:
        """Return the gradients of the input rows, of the initial state (if wanted: `of_state`) and of the parameters.

        Where the batch is an `EmbeddingGather`, that of its table takes the place of that of the rows. `dy` (M, P) is
        the gradient of h of every step, `d_state` that of the final state in packed order (None: zeros).
        """
        dx, d_start, gradients = training.backward(self.recurrence, dy, d_state, cache, context, of_state)
        if self.go_backwards and not isinstance(dx, TableGradient):
            dx = cache.x.with_rows(dx).reversed().rows
        return dx, None if d_start is None else self.state_type(*d_start), gradients

    # --- what users call ------------------------------------------------------------------------------------------

    def __call__(self, x: BatchLike, initial_state: Any = None, lengths: ArrayLike | None = None) -> Any:
        """Run the layer on arrays, for inference.

        Parameters
        ----------
        x : array or list of arrays
            ``(N, T, D)``, or a list of ``(T_n, D)``.
        initial_state : state or tuple of arrays, optional
            As a call with ``return_state=True`` returns it, each ``(N, H)``; default zeros. It is not written to.
        lengths : array of int, shape (N,), optional
            True steps of each sequence of a padded array.

        Returns
        -------
        y : array or list of arrays
            ``(N, T, H)`` in the form of `x`, zeros from each length on; ``(N, H)`` unless `return_sequences`.
        state : named tuple of arrays
            After each sequence's last true step; only with `return_state`. Symbols (see `Input`) give symbols, and
            each part of the state is one of its own, as in Keras: ``y, h, c``.

        Raises
        ------
        ShapeError
            Wrong rank or feature count, or a state that does not fit.
        DataError
            No sequence, no step, a length that is 0 or past the array.
        """
        if lengths is None and (answer := self._call_dense(x, initial_state)) is not None:
            return answer
        if is_symbolic(x):
            made = connect(self, (*symbols_in(x, self.kind), *initial_symbols(initial_state, self.kind)))
            return made[0] if len(made) == 1 else made
        packed, form = self.take(x, lengths)
        state = None if initial_state is None else self.take_state(initial_state, packed)
        y, final, _ = self.run_steps(packed, state, PassContext())
        if not self.return_sequences:
            y = y.one_row_each(final[0].copy())  # of its own: a view would keep every step in memory
        out = form.unpack(y)
        return (out, self.to_user_order(final, packed)) if self.return_state else out

    def _call_dense(self, x: Any, state: Any) -> Any:
        """Return what a call returns for an array that kernels take as it is; None for all else.

        To look at everything that a batch may be takes 10 microseconds.
        """
        if (where := self.where(x)) is None:
            return None
        count, steps, _ = x.shape
        if state is not None:
            if not isinstance(state, tuple | list) or len(state) != len(self.state_type._fields):
                return None
            for part, features in zip(state, (self.features_out, self.units), strict=False):
                if type(part) is not np.ndarray or part.shape != (count, features) or part.dtype != self.dtype:
                    return None
        rows, final = self.recurrence.infer_dense(where, count, steps, state, self.go_backwards)
        out = steps_of(rows, count) if self.return_sequences else final[0].copy()
        return (out, self.state_type(*(part.copy() for part in final))) if self.return_state else out

    def where(self, x: Any) -> tuple[NDArray[Any], int, int, int] | None:
        """Return where the rows of an array are that kernels take as it is; None for all else."""
        if type(x) is not np.ndarray or x.ndim != 3 or x.dtype != self.dtype or x.shape[2] != self.features_in:
            return None
        count, steps, features = x.shape
        if x.size and x.flags.carray:
            return x.reshape(-1), 0, features, steps * features
        turned = x.swapaxes(0, 1)  # as other layers return it
        if x.size and turned.flags.carray:
            return turned.reshape(-1), 0, count * features, features
        return None

    def to_user_order(self, state: State, batch: Packed) -> Any:
        """Return a state in packed order as the user's batch was, in arrays of its own."""
        return self.state_type(*(np.array(batch.to_user_order(part)) for part in state))

    def take_state(self, state: Any, packed: Packed) -> State:
        """Check a state in the user's order and return it in packed order."""
        words = self.state_type._fields
        shapes = [(packed.sequences, features) for features in (self.features_out, self.units)]
        if len(words) == 1 and not (isinstance(state, tuple | list) and len(state) == 1 and _is_matrix(state[0])):
            state = (state,)  # an array, or the rows of one
        if not isinstance(state, Sequence) or len(state) != len(words):
            wanted = f"pair (h, c) of arrays {shapes[0]}" if len(words) == 2 else f"array {shapes[0]}"
            raise ShapeError(f"{self.kind}: initial_state is no {wanted}")
        taken = []
        for word, part, shape in zip(words, state, shapes, strict=False):
            array = as_numbers(part, f"{self.kind}: initial_state.{word}").astype(self.dtype, copy=False)
            if array.shape != shape:
                raise ShapeError(
                    f"{self.kind}: initial_state.{word} has shape {array.shape}; expected {shape}: (sequences, units)"
                )
            taken.append(packed.to_packed_order(array))
        return cast(State, self.state_type(*taken))


def _is_matrix(value: Any) -> bool:
    """Tell whether this is an array (N, H) or a list of its rows, without looking at the numbers."""
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], list | tuple | np.ndarray)
    return bool(getattr(value, "ndim", 0) == 2)


def steps_of(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Return time-major rows (T * N, K) as (N, T, K), a view; of one sequence it is contiguous."""
    width = rows.shape[1]
    return rows[None] if count == 1 else rows.reshape(-1, count, width).swapaxes(0, 1)
