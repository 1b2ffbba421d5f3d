"""Bidirectional: one layer reads each sequence from its start, another from its end."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.packed import BatchLike, Packed
from ..engine.autotuner import AutoTuner
from ..engine.geometry import NO_IDS
from ..engine.recurrence import Source, run_both
from ..errors import ShapeError
from . import described
from .base import Gradients, Layer, PassContext
from .merge import BothCache, Merge, check_pair, merge, merge_both, split_kept
from .recurrent import RecurrentLayer, State, steps_of
from .states import StatesOfBoth, initial_symbols
from .symbol import Spec, connect, is_symbolic, symbols_in

__all__ = ["Bidirectional"]


States = tuple[State | None, State | None]


class Bidirectional(StatesOfBoth, Layer):
    """Run a recurrent layer in both directions and merge what they return (Schuster and Paliwal 1997).

    Parameters
    ----------
    layer : recurrent layer, such as LSTM
        Its options hold for both directions; each has weights of its own.
    merge_mode : {"concat", "sum", "ave", "mul"}
        How the two outputs become one; "concat" joins the features of both.
    backward_layer : recurrent layer, optional
        Another layer for the backward direction, with ``go_backwards=True`` as in Keras. It returns sequences and
        states if `layer` does.
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

    def __init__(
        self, layer: Any, merge_mode: Merge = "concat", *, backward_layer: Any = None, name: str | None = None
    ):
        check_pair(layer, backward_layer, merge_mode)
        back: RecurrentLayer = layer if backward_layer is None else backward_layer
        super().__init__(name=name, dtype=layer.dtype)
        self.merge_mode = merge_mode
        turned = type(back)(**(back.config() | {"go_backwards": False}))
        self.directions: tuple[RecurrentLayer, RecurrentLayer] = (type(layer)(**layer.config()), turned)
        self._own_backward = backward_layer is not None
        alike = [(layer.cell(), layer.units, layer.features_out) for layer in self.directions]
        self._alike = alike[0] == alike[1]
        """Whether both directions have one geometry, so that one call runs both."""
        self._tuner = AutoTuner()

    @property
    def features_out(self) -> int:
        ahead, back = (layer.features_out for layer in self.directions)
        return ahead + back if self.merge_mode == "concat" else ahead

    @property
    def returns_steps(self) -> bool:
        return self.directions[0].return_sequences

    def config(self) -> dict[str, Any]:
        ahead, back = self.directions
        one, other = described.describe(ahead), described.describe(back)
        config = {"layer": one["config"], "kind": one["kind"], "merge_mode": self.merge_mode, "name": self.name}
        if self._own_backward:
            config |= {"backward_layer": other["config"] | {"go_backwards": True}, "backward_kind": other["kind"]}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Bidirectional":
        """Return a new layer of the given `config`."""
        layer = described.make({"kind": config.get("kind", "LSTM"), "config": config["layer"]})
        given = config.get("backward_layer")
        back = described.make({"kind": config["backward_kind"], "config": given}) if given else None
        return cls(layer, config["merge_mode"], backward_layer=back, name=config["name"])

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params: dict[str, NDArray[Any]] = {}
        for layer, suffix in zip(self.directions, ("", "_reverse"), strict=True):
            params |= {name + suffix: value for name, value in layer.create(features, rng).items()}
        return params

    def _take_params(self, features: int, rng: np.random.Generator | None) -> None:
        super()._take_params(features, rng)
        self.penalties = {}
        for layer, suffix in zip(self.directions, ("", "_reverse"), strict=True):
            # the same arrays under their own names: what is written to one is written to the other
            names = [name for name in self.arrays if name.endswith("_reverse") == bool(suffix)]
            layer.arrays = {name.removesuffix("_reverse"): self.arrays[name] for name in names}
            layer.features_in, layer.beside = features, (self,)
            layer.changed()
            self.penalties |= {name + suffix: factor for name, factor in layer.penalties.items()}

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        return self.directions[0].features_from(tensors)

    def changed(self) -> None:
        for layer in self.directions:
            layer.changed()
        self._tuner.forget_weights()

    # --- passes ---------------------------------------------------------------------------------------------------

    def specs(self, inputs: tuple[Spec, ...]) -> tuple[Spec, ...]:
        return self.specs_from(Layer.specs(self, inputs[:1]), inputs[1:])

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, BothCache | None]:
        return self.run_from(x, None, context)[::2]

    def run_steps(
        self, x: Packed, states: States, context: PassContext
    ) -> tuple[Packed, tuple[State, State], BothCache | None]:
        """Return the merged output, both final states and the cache."""
        ahead, back = self.directions
        out = x.with_rows if self.returns_steps else x.one_row_each
        if x.dense and not context.training and context.traces is None and self._alike:
            plan = ahead.recurrence.plan(x.sequences, len(x.batch_sizes), 2, False)
            sources = ahead.recurrence.input_of(x, plan), back.recurrence.input_of(x.reversed(), plan)
            merged, finals = self._run_both(sources, (x.sequences, len(x.batch_sizes)), states)
            final, final_back = finals()
            return out(merged), (ahead.state_type(*final), back.state_type(*final_back)), None
        x = x.with_rows(x.in_place)
        y, final, cache = ahead.run_steps(x, states[0], context)
        z, final_back, cache_back = back.run_steps(x.reversed(), states[1], context)
        one, other = (y.rows, z.reversed().in_place) if self.returns_steps else (final[0], final_back[0])
        frame = context.workspace.frame(self) if context.training else None
        merged = merge(self.merge_mode, one, other, frame)
        if cache is None or cache_back is None or frame is None:
            return out(merged), (final, final_back), None
        both = BothCache(x, cache, cache_back, one, other.reshape(len(one), -1), frame)
        return out(merged), (final, final_back), both

    def _run_both(
        self, sources: tuple[Source, Source], shape: tuple[int, int], states: States
    ) -> tuple[NDArray[Any], Callable[[], tuple[State, State]]]:
        """Run both directions of a dense batch; return the merged rows and what gives both final states."""
        ahead, back = self.directions
        recurrences = ahead.recurrence, back.recurrence
        rows, finals = run_both(recurrences, sources, shape, states, self._tuner)
        rows = merge_both(self.merge_mode, rows, finals, ahead.features_out, self.returns_steps)
        return rows, finals

    def backward(self, dy: NDArray[Any], cache: BothCache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        dx, _, gradients = self.back_from(dy, None, cache, context, of_state=False)
        return dx, gradients

    def back_from(
        self, dy: NDArray[Any] | None, d_final: State | None, cache: BothCache, context: PassContext, of_state: bool
    ) -> tuple[NDArray[Any], State, Gradients]:
        d_states = self.of_each(d_final)
        if dy is None:
            dy = np.zeros((len(cache.one), self.features_out), self.dtype)
        x, found = cache.x, []
        parts = split_kept(self.merge_mode, dy, cache, self.returns_steps)
        caches = cache.forward, cache.backward
        for layer, part, d_state, own in zip(self.directions, parts, d_states, caches, strict=True):
            found.append(layer.back_from(part, d_state, own, context, of_state))
        (dx, d_start, gradients), (dx_back, d_start_back, gradients_back) = found
        turned = x.with_rows(dx_back).reversed().in_place
        summed = dx.reshape(turned.shape)
        summed += turned
        context.workspace.release(self, cache.frame)
        gradients |= {f"{name}_reverse": value for name, value in gradients_back.items()}
        return dx, (*d_start, *d_start_back), gradients

    # --- what users call ------------------------------------------------------------------------------------------

    def __call__(self, x: BatchLike, initial_state: Any = None, lengths: ArrayLike | None = None) -> Any:
        """Run both directions on arrays, for inference.

        As a call of `LSTM`; `initial_state`, and the states that ``return_state`` returns, are pairs: of the forward
        and of the backward direction.
        """
        if lengths is None and initial_state is None and (answer := self._call_dense(x)) is not None:
            return answer
        if is_symbolic(x):
            made = connect(self, (*symbols_in(x, self.kind), *initial_symbols(initial_state, self.kind)))
            return made[0] if len(made) == 1 else made
        packed, form = self.take(x, lengths)
        ahead, back = self.directions
        states: States = (None, None)
        if initial_state is not None:
            if len(initial_state) != 2:
                raise ShapeError("Bidirectional: initial_state is no pair of states, one for each direction")
            states = ahead.take_state(initial_state[0], packed), back.take_state(initial_state[1], packed)
        y, finals, _ = self.run_steps(packed, states, PassContext())
        out = form.unpack(y)
        if not ahead.return_state:
            return out
        return out, (ahead.to_user_order(finals[0], packed), back.to_user_order(finals[1], packed))

    def _call_dense(self, x: Any) -> Any:
        """Return what a call returns for an array that kernels take as it is; None for all else."""
        ahead = self.directions[0]
        where = ahead.where(x) if self.built else None
        if where is None or ahead.return_state or not self._alike:
            return None
        count, steps, _ = x.shape
        turned = where[0], (steps - 1) * where[2], -where[2], where[3]
        rows, _ = self._run_both(((where, NO_IDS), (turned, NO_IDS)), (count, steps), (None, None))
        return steps_of(rows, count) if self.returns_steps else rows
