"""Gradients of a layer: of its inputs and parameters, run once and twice before it goes back."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.packed import Packed, pack
from ..engine.context import PassContext, TableGradient
from ..errors import ContractError, GradientError, OptionError
from ..layers.base import Layer
from .numeric import assert_close

__all__ = ["check_layer"]

_IDS = 5
"""Ids that are drawn for a layer that does not say how many it knows (`input_dim`)."""

_NOISE = 0.1
"""What is added to fresh parameters, times a normal number: a bias of 0 hides mistakes."""

Inputs = tuple[Packed, ...]
Dys = tuple[NDArray[Any], ...]
Arrays = dict[str, NDArray[Any]]


def check_layer(layer: Layer, shapes: Any, lengths: Any, seed: int, tolerance: float) -> float:
    """Return the largest relative difference; see `check_gradients`."""
    rng = np.random.default_rng(seed)
    several = layer.takes_several or isinstance(shapes, list)
    given: Sequence[Any] = list(shapes) if several else [shapes]
    own = [None] * len(given) if lengths is None else list(lengths) if several else [lengths]
    if len(own) != len(given):
        raise OptionError(f"check_gradients: {len(given)} inputs, but lengths for {len(own)}; pass one (or None) each")
    double = _in_double(layer)
    if not double.built:
        features = tuple(_features(layer, one) for one in given)
        double.build(features if layer.takes_several else features[0], rng)
        for array in double.arrays.values():
            array += _NOISE * rng.standard_normal(array.shape)
    double.changed()
    _check_dtype(layer, double, given, own, np.random.default_rng(seed))
    first, other = (
        [_input(double, one, length, rng) for one, length in zip(given, own, strict=True)] for _ in range(2)
    )
    check = _Check(double, tuple(first), rng, seed)
    worst = check.compare(rng, tolerance)
    check.one_output_each(tolerance)
    check.run_twice(tuple(other), tolerance)
    return worst


class _Check:
    """One layer in float64, one set of inputs, and ``sum(dy * y)`` over all outputs: a loss whose gradient is known."""

    def __init__(self, layer: Layer, inputs: Inputs, rng: np.random.Generator, seed: int):
        self.layer, self.inputs, self.seed = layer, inputs, seed
        kept = [one.rows.copy() for one in inputs]
        outputs, _ = self.forward(inputs, self.context())
        for place, (one, rows) in enumerate(zip(inputs, kept, strict=True)):
            if not np.array_equal(one.rows, rows):
                raise ContractError(f"{layer.kind}: forward wrote into the rows of input {place}; write into a copy")
        self.dys: Dys = tuple(rng.standard_normal(output.rows.shape).astype(layer.dtype) for output in outputs)

    def context(self) -> PassContext:
        """Return a context whose generator begins again: dropout draws the same masks in every pass."""
        return PassContext(training=True, rng=np.random.default_rng(self.seed))

    def forward(self, inputs: Inputs, context: PassContext) -> tuple[Inputs, Any]:
        """Run the layer, and check what it returns."""
        outputs, cache = self.layer.run(inputs, context)
        for place, output in enumerate(outputs):
            if not isinstance(output, Packed):
                raise ContractError(
                    f"{self.layer.kind}: forward returned {type(output).__name__} as output {place}; expected a "
                    "Packed: x.with_rows(y) or x.one_row_each(y)"
                )
            if place == 0 and not self.layer.takes_several and output.features != self.layer.features_out:
                raise ContractError(
                    f"{self.layer.kind}: output {place} has {output.features} features, features_out says "
                    f"{self.layer.features_out}"
                )
            if output.rows.dtype != self.layer.dtype:
                raise ContractError(
                    f"{self.layer.kind}: output {place} is {output.rows.dtype}, the layer's dtype {self.layer.dtype}"
                )
        return outputs, cache

    def value(self) -> float:
        """Return the loss for inputs and parameters as they are now."""
        self.layer.changed()
        outputs, _ = self.layer.run(self.inputs, self.context())
        return float(sum((dy * output.rows).sum() for dy, output in zip(self.dys, outputs, strict=True)))

    def arrays(self) -> Arrays:
        """Return what the loss depends on, by name."""
        rows = {f"input {place}": one.rows for place, one in enumerate(self.inputs) if one.rows.dtype.kind == "f"}
        return rows | {f"parameter {name}": array for name, array in self.layer.arrays.items()}

    def back(self, inputs: Inputs, dys: Sequence[NDArray[Any] | None], cache: Any, context: PassContext) -> Arrays:
        """Return copies of the gradients that the layer gives, checked, by the names of `arrays`."""
        kind = self.layer.kind
        returned = self.layer.run_back(tuple(None if dy is None else dy.copy() for dy in dys), cache, context)
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
            raise ContractError(
                f"{kind}: backward returned {returned!r:.80}; expected (dx, gradients), the second a dict"
            )
        dxs, gradients = returned
        found: Arrays = {}
        for place, (x, dx) in enumerate(zip(inputs, dxs, strict=True)):
            if x.rows.dtype.kind == "f":
                found[f"input {place}"] = self._checked(f"input {place}", dx, x.rows.shape)
        if gradients.keys() != self.layer.arrays.keys():
            raise ContractError(
                f"{kind}: backward returned gradients of {sorted(gradients)}; expected those of the parameters, "
                f"{sorted(self.layer.arrays)}"
            )
        for name, param in self.layer.arrays.items():
            found[f"parameter {name}"] = self._checked(f"parameter {name}", gradients[name], param.shape)
        return found

    def _checked(self, what: str, gradient: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        if isinstance(gradient, TableGradient) or not isinstance(gradient, np.ndarray):
            raise ContractError(
                f"{self.layer.kind}: the gradient of {what} is {type(gradient).__name__}; expected an array"
            )
        if gradient.shape != shape or gradient.dtype != self.layer.dtype:
            raise ContractError(
                f"{self.layer.kind}: the gradient of {what} is {gradient.dtype} {gradient.shape}; expected "
                f"{self.layer.dtype} {shape}"
            )
        return gradient.copy()

    def compare(self, rng: np.random.Generator, tolerance: float) -> float:
        """Return the largest difference of the gradients from central differences."""
        context = self.context()
        _, cache = self.forward(self.inputs, context)
        gradients = self.back(self.inputs, self.dys, cache, context)
        return assert_close(self.value, self.arrays(), gradients, self.layer.kind, self._where, rng, tolerance)

    def one_output_each(self, tolerance: float) -> None:
        """Raise GradientError unless a gradient that is None for an output is as good as one of zeros."""
        for place in range(len(self.dys)) if len(self.dys) > 1 else ():
            found = []
            for absent in (None, 0.0):
                dys = tuple(
                    dy.copy() if k == place else None if absent is None else 0.0 * dy for k, dy in enumerate(self.dys)
                )
                context = self.context()
                _, cache = self.layer.run(self.inputs, context)
                found.append(self.back(self.inputs, dys, cache, context))
            for name, expected in found[1].items():
                difference = float(np.abs(found[0][name] - expected).max(initial=0.0))
                if not difference <= tolerance * max(float(np.abs(expected).max(initial=0.0)), 1.0):
                    raise GradientError(
                        f"{self.layer.kind}: the gradient of {name} differs by {difference:.2g} where run_back is "
                        f"given None for all outputs but {place}, from where it is given zeros"
                    )

    def run_twice(self, others: Inputs, tolerance: float) -> None:
        """Raise GradientError unless a layer that runs on `others`, too, before it goes back has the same gradients."""
        alone, contexts = [], (self.context(), self.context())
        dys = tuple(dy[::-1].copy() for dy in self.dys)
        for inputs, own, context in zip((self.inputs, others), (self.dys, dys), contexts, strict=True):
            _, cache = self.layer.run(inputs, context)
            alone.append(self.back(inputs, own, cache, context))
        context = self.context()
        caches = [self.layer.run(self.inputs, context)[1]]
        context = PassContext(True, np.random.default_rng(self.seed), context.workspace)  # the same masks again
        caches.append(self.layer.run(others, context)[1])
        for place, inputs, own in ((0, self.inputs, self.dys), (1, others, dys)):
            both = self.back(inputs, own, caches[place], context)
            for name, expected in alone[place].items():
                scale = max(float(np.abs(expected).max(initial=0.0)), 1.0)
                difference = float(np.abs(both[name] - expected).max(initial=0.0)) / scale
                if not difference <= tolerance:
                    raise GradientError(
                        f"{self.layer.kind}: the gradient of {name} is right when the layer runs once, and differs by "
                        f"{difference:.2g} when it runs twice before it goes back: keep what backward needs in the "
                        "cache that forward returns, not in the layer, and in arrays of its own"
                    )

    def _where(self, name: str, index: tuple[int, ...]) -> str:
        """Return words for a place in an input or parameter; of inputs the sequence, as they were passed, and step."""
        if not name.startswith("input"):
            return f"{name} at [{', '.join(map(str, index))}]"
        x, row = self.inputs[int(name.split()[1])], index[0]
        step = int(np.searchsorted(x.offsets, row, side="right")) - 1
        sequence = row - int(x.offsets[step])
        sequence = sequence if x.order is None else int(x.order[sequence])
        return f"{name} at sequence {sequence}{f', step {step}' if x.steps else ''}, feature {index[1]}"


def _check_dtype(
    layer: Layer, double: Layer, given: Sequence[Any], lengths: Sequence[Any], rng: np.random.Generator
) -> None:
    """Raise ContractError if a layer that computes in float32 returns something else; in float64 nothing would show."""
    if layer.dtype == double.dtype:
        return
    single = copy.deepcopy(layer)
    if not single.built:
        single.allocate(double.features_in)
        single.load_state_dict(double.state_dict())  # type: ignore[arg-type]
    inputs = tuple(_input(single, one, length, rng) for one, length in zip(given, lengths, strict=True))
    check = _Check(single, inputs, rng, 0)
    context = check.context()
    _, cache = check.forward(inputs, context)
    check.back(inputs, check.dys, cache, context)


def _features(layer: Layer, given: Any) -> int:
    """Return the features of an input, from its shape; 0 of ids."""
    return 0 if layer.takes_ids else int(np.shape(given)[-1] if isinstance(given, np.ndarray) else given[-1])


def _input(layer: Layer, given: Any, lengths: ArrayLike | None, rng: np.random.Generator) -> Packed:
    """Return an input of a shape, drawn, or of an array's values, in rows that nothing else has."""
    ids = layer.takes_ids
    if isinstance(given, np.ndarray):
        x = given
    elif ids:
        x = rng.integers(0, getattr(layer, "input_dim", _IDS), given)
    else:
        x = rng.standard_normal(given)
    steps = ids or x.ndim != 2
    packed, _ = pack(
        x, lengths, features=not ids, dtype=None if ids else layer.dtype, who="check_gradients", steps=steps
    )
    return packed.with_rows(packed.rows.copy())


def _in_double(layer: Layer) -> Layer:
    """Return a copy of the layer, and of all layers in it, that computes in float64."""
    double = copy.deepcopy(layer)
    cast: dict[
        int, tuple[NDArray[Any], NDArray[Any]]
    ] = {}  # arrays that two layers share stay shared; each is kept, for its id

    def double_of(array: NDArray[Any]) -> NDArray[Any]:
        _, found = cast.setdefault(id(array), (array, np.ascontiguousarray(array, np.float64)))
        return found

    for one in _layers_in(double):
        one.dtype = np.dtype(np.float64)
        one.arrays = {name: double_of(array) for name, array in one.arrays.items()}
        one.buffers = {name: double_of(array) for name, array in one.buffers.items()}
    for one in _layers_in(double):
        one.changed()
    return double


def _layers_in(layer: Layer, known: set[int] | None = None) -> Iterator[Layer]:
    """Yield the layer and those that its attributes hold, in lists and dicts, too; each once."""
    known = set() if known is None else known
    if id(layer) in known:
        return
    known.add(id(layer))
    yield layer
    for value in vars(layer).values():
        held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        for one in held:
            if isinstance(one, Layer):
                yield from _layers_in(one, known)
