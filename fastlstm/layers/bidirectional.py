"""Bidirectional: one layer reads each sequence from its start, its twin from its end."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.packed import Batch, Packed
from ..errors import OptionError, ShapeError
from ..kernels import lstm as kernels
from ..kernels import team
from ..kernels.scratch import aligned, borrowed, zeros
from . import shared_units
from .base import Gradients, Layer, OfTable, Run
from .led import Led
from .lstm import BRIEF, LSTM, LSTMState, steps_of
from .lstm_training import LSTMCache
from .ways import SharedSequences, run_alone

__all__ = ["Bidirectional", "Merge"]

Merge = Literal["concat", "sum", "ave", "mul"]


class _Cache(NamedTuple):
    x: Packed
    forward: LSTMCache
    backward: LSTMCache
    one: NDArray[Any]  # outputs of both, for "mul"
    other: NDArray[Any]


class Bidirectional(Layer):
    """Run an LSTM in both directions and merge what they return (Schuster and Paliwal 1997).

    Parameters
    ----------
    layer : LSTM
        Its options hold for both directions; each has weights of its own.
    merge_mode : {"concat", "sum", "ave", "mul"}
        How the two outputs become one; "concat" doubles the features.
    name : str, optional
        See `Layer`.

    Notes
    -----
    Without ``return_sequences`` the output joins the last step of one direction and the first step of the other, which
    is each direction's last. Parameters bear torch's names; those of the backward direction end in ``_reverse``.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> fl.Bidirectional(fl.LSTM(8, return_sequences=True))(np.ones((2, 5, 3))).shape
    (2, 5, 16)
    """

    def __init__(self, layer: LSTM, merge_mode: Merge = "concat", *, name: str | None = None):
        if not isinstance(layer, LSTM):
            raise OptionError(f"Bidirectional: layer is {type(layer).__name__}; expected an LSTM")
        if layer.go_backwards:
            raise OptionError("Bidirectional: the layer has go_backwards=True; pass one that reads forwards")
        if merge_mode not in ("concat", "sum", "ave", "mul"):
            raise OptionError(f"Bidirectional: merge_mode={merge_mode!r}; expected concat, sum, ave or mul")
        super().__init__(name=name, dtype=layer.dtype)
        self.merge_mode = merge_mode
        options = layer.config()
        self.directions = LSTM(**options), LSTM(**options)
        self._led = Led()

    @property
    def features_out(self) -> int:
        return self.directions[0].units * (2 if self.merge_mode == "concat" else 1)

    @property
    def returns_steps(self) -> bool:
        return self.directions[0].return_sequences

    def config(self) -> dict[str, Any]:
        return {"layer": self.directions[0].config(), "merge_mode": self.merge_mode, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Bidirectional":
        """Return a new layer of the given `config`."""
        return cls(LSTM(**config["layer"]), config["merge_mode"], name=config["name"])

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params: dict[str, NDArray[Any]] = {}
        for layer, suffix in zip(self.directions, ("", "_reverse"), strict=True):
            params |= {name + suffix: value for name, value in layer.create(features, rng).items()}
        return params

    def _take_params(self, features: int, rng: np.random.Generator | None) -> None:
        super()._take_params(features, rng)
        for layer, suffix in zip(self.directions, ("", "_reverse"), strict=True):
            # the same arrays under their own names: what is written to one is written to the other
            names = [name for name in self.params if name.endswith("_reverse") == bool(suffix)]
            layer.params = {name.removesuffix("_reverse"): self.params[name] for name in names}
            layer.features_in = features
            layer.changed()

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        return self.directions[0].features_from(tensors)

    def changed(self) -> None:
        for layer in self.directions:
            layer.changed()
        self._led.forget_weights()

    def forward(self, x: Packed, run: Run) -> tuple[Packed, _Cache | None]:
        y, _, cache = self._run(x, (None, None), run)
        return y, cache

    def _run(
        self, x: Packed, states: tuple[LSTMState | None, LSTMState | None], run: Run
    ) -> tuple[Packed, tuple[LSTMState, LSTMState], _Cache | None]:
        """Return the merged output, both final states and the cache."""
        if self.merge_mode == "concat" and self.returns_steps and x.dense and not run.training:
            return *self._run_beside(x, states), None
        ahead, back = self.directions
        x = x.with_rows(x.in_place)
        y, final, cache = ahead.run_steps(x, states[0], run)
        z, final_back, cache_back = back.run_steps(x.reversed(), states[1], run)
        one, other = (y.rows, z.reversed().in_place) if self.returns_steps else (final.h, final_back.h)
        merged = self._merge(one, other, run)
        out = x.with_rows(merged) if self.returns_steps else x.one_row_each(merged)
        if cache is None or cache_back is None:
            return out, (final, final_back), None
        return out, (final, final_back), _Cache(x, cache, cache_back, one, other.reshape(one.shape))

    def _run_beside(
        self, x: Packed, states: tuple[LSTMState | None, LSTMState | None]
    ) -> tuple[Packed, tuple[LSTMState, LSTMState]]:
        """Let both directions write into the halves of the same rows, and cores share directions and sequences."""
        count, total, units = x.sequences, x.total, self.directions[0].units
        ahead, back = self.directions
        # N rows of h0 for the forward direction, the M rows of the output, N rows of h0 for the backward one
        hidden = aligned((total + 2 * count, 2 * units), self.dtype)
        hidden[:count, :units] = 0.0 if states[0] is None else states[0].h
        hidden[total + count :, units:] = 0.0 if states[1] is None else states[1].h
        values = hidden.reshape(-1)
        calls = (
            ahead.inference(x, values, 2 * units, False, None if states[0] is None else states[0].c),
            back.inference(
                x.reversed(),
                values[(2 * count + 1) * units :],
                2 * units,
                True,
                None if states[1] is None else states[1].c,
            ),
        )
        cost, size = 2 * shared_units.cost_of(total, units, x.features), max(call.scratch for call in calls)
        parts = team.threads_for(cost, 2 * count)

        def run(memory: NDArray[Any], begin: int, end: int) -> None:
            """Run the sequences of the forward direction from `begin` on, then those of the backward one."""
            if begin < count:
                kernels.infer(*calls[0].arguments, memory, begin, min(end, count))
            if end > count:
                kernels.infer(*calls[1].arguments, memory, max(begin, count) - count, end - count)

        with borrowed(parts * size, self.dtype) as memory:
            team.share(run, count=2 * count, cost=cost, each=[memory[part * size :] for part in range(parts)])
        finals = (
            LSTMState(hidden[total : total + count, :units], calls[0].cells[:, :units]),
            LSTMState(hidden[count : 2 * count, units:], calls[1].cells[:, :units]),
        )
        return x.with_rows(hidden[count : count + total]), finals

    def _merge(self, one: NDArray[Any], other: NDArray[Any], run: Run) -> NDArray[Any]:
        """Return the merged outputs (M, K) of `one` (M, H) and `other`, which may be (T, N, H)."""
        if self.merge_mode == "concat":
            count, units = one.shape
            joined = run.scratch.take(self, "merged", shape=(count, 2 * units), dtype=self.dtype)
            joined[:, :units] = one
            joined.reshape(*other.shape[:-1], 2 * units)[..., units:] = other
            return joined
        other = other.reshape(one.shape)
        if self.merge_mode == "mul":
            merged: NDArray[Any] = one * other
        elif self.merge_mode == "sum":
            merged = one + other
        else:
            merged = (one + other) * self.dtype.type(0.5)
        return merged

    def _split(self, dy: NDArray[Any], cache: _Cache) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the gradient of each direction's output."""
        if self.merge_mode == "concat":
            units = self.directions[0].units
            return dy[:, :units], dy[:, units:]
        if self.merge_mode == "mul":
            return dy * cache.other, dy * cache.one
        half = dy * self.dtype.type(0.5) if self.merge_mode == "ave" else dy
        return half, half

    def backward(self, dy: NDArray[Any], cache: _Cache, run: Run) -> tuple[NDArray[Any], Gradients]:
        x, parts = cache.x, []
        for place, part in enumerate(self._split(dy, cache)):
            given = x.with_rows(part).reversed().in_place if place and self.returns_steps else part
            parts.append(run.scratch.take(self, "dy", place, shape=part.shape, dtype=self.dtype))
            parts[-1].reshape(given.shape)[...] = given
        done, other = parts
        dx, gradients = self.directions[0].backward(done, cache.forward, run)
        dx_back, gradients_back = self.directions[1].backward(other, cache.backward, run)
        assert not isinstance(dx, OfTable)
        assert not isinstance(dx_back, OfTable)  # both directions asked for the rows
        turned = x.with_rows(dx_back).reversed().in_place
        summed = dx.reshape(turned.shape)
        summed += turned
        return dx, gradients | {f"{name}_reverse": value for name, value in gradients_back.items()}

    def __call__(
        self,
        x: Batch,
        initial_state: tuple[tuple[ArrayLike, ArrayLike], tuple[ArrayLike, ArrayLike]] | None = None,
        lengths: ArrayLike | None = None,
    ) -> Any:
        """Run both directions on arrays, for inference.

        Parameters
        ----------
        x, lengths
            As for `LSTM`.
        initial_state : pair of LSTMState, optional
            Of the forward and of the backward direction.

        Returns
        -------
        y : array or list of arrays
            In the form of `x`; ``(N, 2H)`` or ``(N, H)`` unless the layer returns sequences.
        states : pair of LSTMState
            Only if the layer has ``return_state``.
        """
        if lengths is None and initial_state is None and (answer := self._directly(x)) is not None:
            return answer
        packed, form = self.take(x, lengths)
        states: tuple[LSTMState | None, LSTMState | None] = (None, None)
        if initial_state is not None:
            if len(initial_state) != 2:
                raise ShapeError("Bidirectional: initial_state is no pair of states, one for each direction")
            ahead, back = self.directions
            states = ahead.take_state(initial_state[0], packed), back.take_state(initial_state[1], packed)
        y, finals, _ = self._run(packed, states, Run())
        out = form.unpack(y)
        if not self.directions[0].return_state:
            return out
        return out, tuple(final.to_user_order(packed) for final in finals)

    def _directly(self, x: Batch) -> Any:
        """Return what a call returns where `LSTM._directly` would; None for all else."""
        ahead, back = self.directions
        where = ahead.where(x) if self.built else None
        if where is None or self.merge_mode != "concat" or ahead.return_state:
            return None
        count, steps, features = x.shape  # type: ignore[union-attr]
        units, total = ahead.units, count * steps
        shape = count, steps, features, units
        cost = 2 * shared_units.cost_of(total, units, features)
        led = SharedSequences.worth_it(cost)
        if not led and cost > BRIEF and team.threads_for(cost, 2 * count) > 1:
            return None
        cells = zeros((2, count, ahead.stride), self.dtype)
        if self.returns_steps:  # see `_run_beside`
            hidden = aligned((total + 2 * count, 2 * units), self.dtype)
            hidden[:count] = hidden[total + count :] = 0.0
            values = hidden.reshape(-1)
            directions = (
                ahead.direction(where, steps, values, 2 * units, cells[0], False),
                back.direction(where, steps, values[(2 * count + 1) * units :], 2 * units, cells[1], True, h_back=True),
            )
        else:
            both = aligned((2, count + total, units), self.dtype)
            both[:, :count] = 0.0
            directions = (
                ahead.direction(where, steps, both[0].reshape(-1), units, cells[0], False),
                back.direction(where, steps, both[1].reshape(-1), units, cells[1], True),
            )
        if not led or not self._led.run((SharedSequences,), shape, directions, cost):
            if team.threads_for(cost, 2 * count) > 1:
                return None
            for direction in directions:
                run_alone(shape, direction)
        if self.returns_steps:
            return steps_of(hidden[count : count + total], count)
        return np.concatenate([both[0, total:], both[1, total:]], axis=1)
