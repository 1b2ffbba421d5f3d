"""LSTM: long short-term memory (Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.numbers import as_numbers
from ..data.packed import Batch, Lookup, Packed, Strided
from ..errors import ShapeError
from ..kernels import lstm as kernels
from ..kernels import team
from ..kernels.scratch import aligned, borrowed, zeros
from ..simd.host import REGISTERS
from . import lstm_training as training
from . import shared_units
from .base import Gradients, Layer, OfTable, Run, dropped, size
from .gate_layout import in_blocks, span_of, stride_of
from .initializers import glorot_uniform, orthogonal
from .led import Led
from .lstm_training import LSTMCache, put_c0
from .products import times
from .ways import NEVER_ALONE, NO_IDS, Direction, PreparedInputs, run_alone, ways_for

__all__ = ["BRIEF", "LSTM", "LSTMState", "steps_of"]

BRIEF = 60_000.0
"""Nanoseconds of work up to which nobody asks whether cores shall share it."""


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step: ``h`` and ``c``, each (N, H)."""

    h: NDArray[Any]
    c: NDArray[Any]

    def to_user_order(self, batch: Packed) -> "LSTMState":
        """Return a state in packed order as the user's batch was, in arrays of its own."""
        return LSTMState(*(np.array(batch.to_user_order(part)) for part in self))


class Weights(NamedTuple):
    """The parameters in the kernels' layout."""

    input: NDArray[Any]
    recurrent: NDArray[Any]
    bias: NDArray[Any]


class Inference(NamedTuple):
    """A call of `kernels.infer` but for scratch and range."""

    arguments: tuple[Any, ...]
    cells: NDArray[Any]  # (N, B * L): c0, after the call the final c
    scratch: int  # elements that each core needs


class LSTM(Layer):
    """Run a long short-term memory over sequences.

    Parameters
    ----------
    units : int
        H, the features of the hidden state and of the output.
    return_sequences : bool
        Return h of every step (else of the last true step of each sequence).
    return_state : bool
        Calling the layer also returns the final `LSTMState`.
    go_backwards : bool
        Read each sequence from its end; steps go out in the order they were read.
    dropout, recurrent_dropout : float
        Fraction of input features, or of units of ``h_prev``, that training drops: one mask a sequence, the same at
        every step (Gal and Ghahramani 2016).
    unit_forget_bias : bool
        Begin with a forget bias of 1 (Jozefowicz et al. 2015).
    name, dtype
        See `Layer`.

    Notes
    -----
    Parameters bear torch's names: ``weight_ih_l0 (4H, D)`` Glorot uniform, ``weight_hh_l0 (4H, H)`` orthogonal,
    ``bias_ih_l0`` and ``bias_hh_l0 (4H,)``; gates in the order i, f, g, o. ``docs/lstm.md`` has the equations.

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

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        unit_forget_bias: bool = True,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        super().__init__(name=name, dtype=dtype)
        self.units = size("LSTM", "units", units)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.dropout = dropped("LSTM", "dropout", dropout)
        self.recurrent_dropout = dropped("LSTM", "recurrent_dropout", recurrent_dropout)
        self.unit_forget_bias = unit_forget_bias
        self._weights: list[Weights] = []  # none, or the one that all calls use
        self._folded: tuple[Weights, object, NDArray[Any]] | None = None
        self._led = Led()
        self.stride = stride_of(self.units, self.dtype)
        """Units up to whole registers: B * L."""
        self._blocks = self.stride // REGISTERS.lanes(self.dtype.itemsize)
        self.span = span_of(self.units, self.dtype)
        """Units up to halves of a register: S."""

    @property
    def features_out(self) -> int:
        return self.units

    @property
    def returns_steps(self) -> bool:
        return self.return_sequences

    def config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "unit_forget_bias": self.unit_forget_bias,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        units = self.units
        bias = np.zeros(4 * units)
        if self.unit_forget_bias:
            bias[units : 2 * units] = 1.0
        return {
            "weight_ih_l0": glorot_uniform(rng, (4 * units, features), features, 4 * units),
            "weight_hh_l0": orthogonal(rng, 4 * units, units),
            "bias_ih_l0": bias,
            "bias_hh_l0": np.zeros(4 * units),
        }

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        weight = tensors.get("weight_ih_l0")
        return int(weight.shape[1]) if weight is not None and weight.ndim == 2 else 0

    def changed(self) -> None:
        self._weights, self._folded = [], None  # who packs the old ones just now leaves them in the old list
        self._led.forget_weights()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_weights": [], "_folded": None}  # packed anew, in memory of the copy's own

    # --- the kernels' layout ------------------------------------------------------------------------------------

    def packed(self) -> Weights:
        kept = self._weights
        if not kept:
            p = self.params
            parts = p["weight_ih_l0"], p["weight_hh_l0"], p["bias_ih_l0"] + p["bias_hh_l0"]
            kept.append(Weights(*(in_blocks(part, self.units) for part in parts)))
        return kept[0]

    @staticmethod
    def foldable(x: Packed) -> Lookup | None:
        """Return what the rows are made of, if the products of the whole table cost less than those of the rows."""
        lookup = x.lookup
        return lookup if lookup is not None and 2 * len(lookup.table) <= x.total else None

    def folded(self, table: NDArray[Any], edition: object) -> NDArray[Any]:
        """Return ``W_ih e + b`` of every row e of a table: (V, 4 * S), kept until one of them changes."""
        weights, folded = self.packed(), self._folded
        if folded is None or folded[0] is not weights or folded[1] is not edition:
            products = aligned((len(table), 4 * self.span), self.dtype)
            times(table, weights.input, weights.bias, products)
            folded = self._folded = weights, edition, products
        return folded[2]

    # --- forward ------------------------------------------------------------------------------------------------

    def forward(self, x: Packed, run: Run) -> tuple[Packed, LSTMCache | None]:
        y, _, cache = self.run_steps(x, None, run)
        return (y if self.return_sequences else y.one_row_each(y.last_of(y.rows))), cache

    def run_steps(self, x: Packed, state: LSTMState | None, run: Run) -> tuple[Packed, LSTMState, LSTMCache | None]:
        """Return h of every step, the final state and BPTT's cache, from a state in packed order (None: zeros)."""
        if self.go_backwards:
            x = x.reversed()
        count = x.sequences
        shape = (count + x.total, self.units)
        if run.training:
            hidden = run.scratch.take(self, "hidden", shape=shape, dtype=self.dtype)
        else:
            hidden = aligned(shape, self.dtype)
        rows = hidden[count:]
        hidden[:count] = 0.0 if state is None else state.h
        c0 = None if state is None else state.c
        c, cache = training.forward(self, x, hidden, c0, run) if run.training else (self._infer(x, hidden, c0), None)
        h = x.last_of(rows)
        if run.training:  # scratch: the next step writes over it
            h, c = h.copy(), c.copy()
        return x.with_rows(rows), LSTMState(h, c), cache

    def _infer(self, x: Packed, hidden: NDArray[Any], c0: NDArray[Any] | None) -> NDArray[Any]:
        count, units = x.sequences, self.units
        cost = shared_units.cost_of(x.total, units, x.features)
        if x.dense and cost > BRIEF and (ends := self._led_infer(x, hidden, c0, cost)) is not None:
            return ends
        if shared_units.worth_it(count, len(x.batch_sizes), units, self.stride, cost):
            cells = aligned((len(hidden), self.stride), self.dtype)
            put_c0(cells[:count], c0)
            shared_units.forward(x, hidden, cells, units, self.packed(), cells[:0], cost)
            return x.last_of(cells[count:])[:, :units]
        call = self.inference(x, hidden.reshape(-1), units, False, c0)
        parts = team.threads_for(cost, count)
        with borrowed(parts * call.scratch, self.dtype) as memory:
            if parts == 1:
                kernels.infer(*call.arguments, memory, 0, count)
            else:
                team.share(
                    kernels.infer,
                    *call.arguments,
                    count=count,
                    cost=cost,
                    each=[memory[part * call.scratch :] for part in range(parts)],
                    weights=None if x.dense else x.lengths,
                )
        return call.cells[:, :units]

    def _led_infer(self, x: Packed, hidden: NDArray[Any], c0: NDArray[Any] | None, cost: float) -> NDArray[Any] | None:
        """Do what `_infer` does without the GIL, if that is the way for this batch."""
        count, units, threads = x.sequences, self.units, team.get_num_threads()
        shape = count, len(x.batch_sizes), x.features, units
        if self.foldable(x) is not None or not ways_for(shape, self._blocks, threads, False):
            return None
        where = x.strided()
        ways = ways_for(shape, self._blocks, threads, where.step < 0)
        if not ways:
            return None
        cells = zeros((count, self.stride), self.dtype)
        cells[:, :units] = 0.0 if c0 is None else c0
        direction = Direction(where, hidden.reshape(-1), units, False, cells, self.packed())
        return cells[:, :units] if self._led.run(ways, shape, (direction,), cost) else None

    def inference(
        self, x: Packed, hidden: NDArray[Any], h_width: int, h_back: bool, c0: NDArray[Any] | None
    ) -> Inference:
        """Prepare a call of `kernels.infer`, which says what `hidden`, `h_width` and `h_back` are."""
        count, units, stride, features = x.sequences, self.units, self.stride, x.features
        cells = zeros((count, stride), self.dtype)
        if c0 is not None:
            cells[:, :units] = c0
        height = shared_units.chunk_of(count, x.total, stride)
        weights = self.packed()
        if (lookup := self.foldable(x)) is not None:
            inputs = self.folded(lookup.table, lookup.edition).reshape(-1), 0, 0, 0, features, lookup.ids
        else:
            inputs = *x.strided(), features, NO_IDS
        copied = 0 if inputs[2] else features  # rows that do not lie a step apart
        return Inference(
            (
                *(*inputs, hidden, h_width, h_back, cells.reshape(-1), units, x.batch_sizes),
                *(*weights, height),
            ),
            cells,
            -(-height * (4 * self.span + copied) // 16) * 16,  # the next one's begins on a cache line
        )

    # --- backward -----------------------------------------------------------------------------------------------

    def backward(self, dy: NDArray[Any], cache: LSTMCache, run: Run) -> tuple[NDArray[Any] | OfTable, Gradients]:
        if not self.return_sequences:
            last = dy
            dy = run.scratch.take(self, "dy", shape=(cache.x.total, self.units), dtype=self.dtype)
            dy[...] = 0.0
            dy[cache.x.last_rows] = last
        dx, _, gradients = self.backward_steps(dy, None, cache, run, of_state=False)
        return dx, gradients

    def backward_steps(
        self, dy: NDArray[Any], d_state: LSTMState | None, cache: LSTMCache, run: Run, of_state: bool = True
    ) -> tuple[NDArray[Any] | OfTable, LSTMState | None, Gradients]:
        """Return the gradients of the input rows, of the initial state (if wanted: `of_state`) and of the parameters.

        Where the batch is a `Lookup`, that of its table takes the place of that of the rows.
        `dy` (M, H) is the gradient of h of every step, `d_state` that of the final state in packed order (None: zeros).
        """
        dx, d_start, gradients = training.backward(self, dy, d_state, cache, run, of_state)
        return dx, None if d_start is None else LSTMState(*d_start), gradients

    # --- what users call ----------------------------------------------------------------------------------------

    def __call__(
        self,
        x: Batch,
        initial_state: tuple[ArrayLike, ArrayLike] | None = None,
        lengths: ArrayLike | None = None,
    ) -> Any:
        """Run the layer on arrays, for inference.

        Parameters
        ----------
        x : array or list of arrays
            ``(N, T, D)``, or a list of ``(T_n, D)``.
        initial_state : LSTMState or (h, c), optional
            Each ``(N, H)``; default zeros. It is not written to.
        lengths : array of int, shape (N,), optional
            True steps of each sequence of a padded array.

        Returns
        -------
        y : array or list of arrays
            ``(N, T, H)`` in the form of `x`, zeros from each length on; ``(N, H)`` unless `return_sequences`.
        state : LSTMState
            After each sequence's last true step; only with `return_state`.

        Raises
        ------
        ShapeError
            Wrong rank or feature count, or a state that does not fit.
        DataError
            No sequence, no step, a length that is 0 or past the array.
        """
        if lengths is None and (answer := self._directly(x, initial_state)) is not None:
            return answer
        packed, form = self.take(x, lengths)
        state = None if initial_state is None else self.take_state(initial_state, packed)
        y, final, _ = self.run_steps(packed, state, Run())
        if not self.return_sequences:
            y = y.one_row_each(final.h.copy())  # of its own: a view would keep every step in memory
        out = form.unpack(y)
        return (out, final.to_user_order(packed)) if self.return_state else out

    def _directly(self, x: Batch, state: Any) -> Any:
        """Return what a call returns, for an array that kernels take as it is and work for one core; None for all else.

        Or for cores that need no GIL (`Led`). To look at everything that a batch may be takes 10 microseconds.
        """
        if (where := self.where(x)) is None:
            return None
        count, steps, features = x.shape  # type: ignore[union-attr]
        units, stride, total = self.units, self.stride, count * steps
        shape = count, steps, features, units
        cost = shared_units.cost_of(total, units, features)
        ways = ways_for(shape, self._blocks, team.get_num_threads(), self.go_backwards)
        if not ways and cost > BRIEF and self._worth_sharing(shape, cost):
            return None
        hidden, cells = aligned((count + total, units), self.dtype), zeros((count, stride), self.dtype)
        hidden[:count] = 0.0
        if state is not None:
            if not isinstance(state, tuple | list) or len(state) != 2:
                return None
            for part, place in zip(state, (hidden[:count], cells[:, :units]), strict=True):
                if type(part) is not np.ndarray or part.shape != (count, units) or part.dtype != self.dtype:
                    return None
                place[...] = part
        direction = self.direction(where, steps, hidden.reshape(-1), units, cells, self.go_backwards)
        if not ways or not self._led.run(ways, shape, (direction,), cost):
            by_gil = ways and (ways[0] is not PreparedInputs or cost >= NEVER_ALONE)
            if by_gil and self._worth_sharing(shape, cost):
                return None
            run_alone(shape, direction)
        out = steps_of(hidden[count:], count) if self.return_sequences else hidden[total:].copy()
        return (out, LSTMState(hidden[total:].copy(), cells[:, :units].copy())) if self.return_state else out

    def _worth_sharing(self, shape: tuple[int, int, int, int], cost: float) -> bool:
        """Tell whether cores shall share the sequences, or the units, of a batch (N, T, D, H) by the GIL."""
        count, steps, _, units = shape
        return team.threads_for(cost, count) > 1 or shared_units.worth_it(count, steps, units, self.stride, cost)

    def where(self, x: Any) -> Strided | None:
        """Return where the rows of an array are that kernels take as it is; None for all else."""
        if type(x) is not np.ndarray or x.ndim != 3 or x.dtype != self.dtype or x.shape[2] != self.features_in:
            return None
        count, steps, features = x.shape
        if x.size and x.flags.carray:
            return Strided(x.reshape(-1), 0, features, steps * features)
        turned = x.swapaxes(0, 1)  # as other layers return it
        if x.size and turned.flags.carray:
            return Strided(turned.reshape(-1), 0, count * features, features)
        return None

    def direction(
        self,
        where: Strided,
        steps: int,
        hidden: NDArray[Any],
        h_width: int,
        cells: NDArray[Any],
        backwards: bool,
        h_back: bool = False,
    ) -> Direction:
        """Return one direction of a batch; `kernels.lstm.infer` says what the arrays are."""
        if backwards:
            where = Strided(where.values, (steps - 1) * where.step, -where.step, where.sequence)
        return Direction(where, hidden, h_width, h_back, cells, self.packed())

    def take_state(self, state: tuple[ArrayLike, ArrayLike], packed: Packed) -> LSTMState:
        """Check a state in the user's order and return it in packed order."""
        expected = (packed.sequences, self.units)
        try:
            given = dict(zip("hc", state, strict=True))
        except (TypeError, ValueError):
            raise ShapeError(f"{self.kind}: initial_state is no pair (h, c) of arrays {expected}") from None
        h, c = (
            as_numbers(part, f"{self.kind}: initial_state.{word}").astype(self.dtype, copy=False)
            for word, part in given.items()
        )
        for word, part in (("h", h), ("c", c)):
            if part.shape != expected:
                raise ShapeError(
                    f"{self.kind}: initial_state.{word} has shape {part.shape}; expected {expected}: (sequences, units)"
                )
        return LSTMState(packed.to_packed_order(h), packed.to_packed_order(c))


def steps_of(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Return time-major rows (T * N, K) as (N, T, K), a view; of one sequence it is contiguous."""
    width = rows.shape[1]
    return rows[None] if count == 1 else rows.reshape(-1, count, width).swapaxes(0, 1)
