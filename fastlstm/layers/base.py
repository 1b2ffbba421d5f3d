"""What every layer is: named parameters, a forward, and a backward that takes forward's cache.

A layer remembers nothing between calls but its parameters. ``forward`` returns its output and a cache, a named tuple of
what ``backward`` needs: a layer may run twice before it goes back. ``backward`` returns the gradient of its input and
of each parameter, freshly overwritten: accumulating is the training loop's business. In training, arrays live in a
frame of the context's workspace: what forward returns until its backward, what backward returns until the next forward.
"""

from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.numbers import whole
from ..data.packed import BatchFormat, BatchLike, Packed, is_ragged, pack
from ..engine.context import Gradients, PassContext, TableGradient
from ..errors import ContractError, OptionError, ShapeError
from .params import Parametric
from .symbol import Spec, connect, is_symbolic, symbols_in

__all__ = ["Gradients", "Layer", "PassContext", "TableGradient", "dropped", "size"]


def size(kind: str, word: str, value: object) -> int:
    """Return the size that was passed as `word`; raise OptionError unless it is a whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{kind}: {word}={value!r}; expected a whole number from 1 on")
    return int(value)


def dropped(kind: str, word: str, value: object) -> float:
    """Return the fraction that was passed as `word`; raise OptionError unless it is from 0 to below 1."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0.0 <= float(value) < 1.0:  # type: ignore[arg-type]
        raise OptionError(f"{kind}: {word}={value!r}; expected 0 <= {word} < 1")
    return float(value)  # type: ignore[arg-type]


class Layer(Parametric):
    """Base of all layers.

    Parameters
    ----------
    name : str, optional
        Prefix of the saved tensors; a model names its nameless layers by their kind: ``lstm``, ``lstm_1``, ...
    dtype : {"float32", "float64"}
        Type of the parameters and of everything computed.
    """

    takes_ids: ClassVar[bool] = False
    """Whether input is integer ids, one a step, rather than feature vectors."""
    takes_samples: ClassVar[bool] = False
    """Whether input may also be ``(N, F)``, one row a sample, without time."""
    takes_several: ClassVar[bool] = False
    """Whether it is called on a list of inputs; `build` then takes a tuple of their features."""
    changes_lengths: bool = False
    """Whether sequences go out with other lengths than they came in: see `lengths_out`."""
    makes_steps: ClassVar[bool] = False
    """Whether one row a sequence goes out as steps."""
    by_row: ClassVar[bool] = False
    """Whether, in inference, each row of the output comes from one row of the input alone."""

    def __init__(self, *, name: str | None = None, dtype: DTypeLike = "float32"):
        self.name = name
        try:
            self.dtype: np.dtype[Any] = np.dtype(dtype)
        except TypeError:
            raise OptionError(f"{self.kind}: dtype is {dtype!r}; expected float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise OptionError(f"{self.kind}: dtype is {self.dtype}; expected float32 or float64")
        self.arrays, self.buffers = {}, {}
        self.trainable = True
        """Whether training moves the parameters."""
        self.penalties: dict[str, float] = {}
        """Factors of the squares of parameters, by name, that training adds to the loss."""
        self.features_in: Any = None
        """F of the input; a tuple where there are several; None until the layer is built."""

    # --- what a layer defines -----------------------------------------------------------------------------------

    @property
    def fused_by(self) -> str | None:
        """The activation that the layer ends with, if it gives the values before it; a loss may fuse with that.

        ``forward(x, context, linear=True)`` then gives them, in memory of the layer's own: a gradient may be written
        over them.
        """
        return None

    @property
    def features_out(self) -> int:
        """Feature count of the output, known once built; by default that of the input."""
        return self.features_in or 0

    def features_for(self, features: Any) -> int | None:
        """Return the features of the output for inputs of `features` features: known before the layer is built."""
        return self.features_out or features

    @property
    def returns_steps(self) -> bool:
        """Whether steps go out as steps (else one row for each sequence)."""
        return True

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them: a subclass adds its own to these."""
        return {"name": self.name, "dtype": self.dtype.name}

    def create(self, features: Any, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        """Return fresh parameters for inputs of `features` features; without `rng`, of the right shapes only."""
        return {}

    def forward(self, x: Packed, context: PassContext) -> tuple[Packed, Any]:
        """Return the output and the cache that `backward` takes (None where not training)."""
        raise NotImplementedError

    def backward(
        self, dy: NDArray[Any], cache: Any, context: PassContext
    ) -> tuple[NDArray[Any] | TableGradient | None, Gradients]:
        """Return the gradient of the input rows (None where ids went in) and of each parameter.

        `dy` has the shape of the rows that `forward` returned, and may be overwritten.
        """
        raise NotImplementedError

    def create_buffers(self, features: Any) -> dict[str, NDArray[Any]]:
        """Return fresh `buffers` for inputs of `features` features."""
        return {}

    def lengths_out(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths that sequences of these lengths go out with; it must not change which is longer."""
        return lengths

    def form_out(self, form: BatchFormat) -> BatchFormat:
        """Return the form in which a batch goes out that came in as `form`: a padded array of so many steps less."""
        if not (self.changes_lengths and form.length):
            return form
        return replace(form, length=int(self.lengths_out(np.array([form.length]))[0]))

    # --- several inputs or outputs: a layer that has them defines these three, the others forward and backward ----

    def specs(self, inputs: tuple[Spec, ...]) -> tuple[Spec, ...]:
        """Return what is known of the outputs, given what is known of the inputs.

        Raises
        ------
        ShapeError
            The layer cannot take such inputs.
        """
        if len(inputs) != 1:
            raise ShapeError(f"{self.kind}: called on {len(inputs)} inputs; it takes one")
        [x] = inputs
        if not x.steps and not self.takes_samples:
            raise ShapeError(
                f"{self.kind}: the input has one row a sequence; expected steps: set return_sequences=True in the "
                "layer before, or repeat the row with RepeatVector"
            )
        if self.built and not self.takes_ids and x.features is not None:
            self.check_features(x.features)
        axis = x.axis if self.returns_steps else None
        if axis is not None and self.changes_lengths:
            axis = axis.then(self)
        return (Spec(self.features_for(x.features), axis),)

    def run(self, inputs: tuple[Packed, ...], context: PassContext) -> tuple[tuple[Packed, ...], Any]:
        """Return all outputs, and the cache that `run_back` takes."""
        y, cache = _pair(self, "forward", self.forward(inputs[0], context), "(y, cache)")
        return (y,), cache

    def run_back(
        self, dys: tuple[NDArray[Any] | None, ...], cache: Any, context: PassContext
    ) -> tuple[tuple[NDArray[Any] | TableGradient | None, ...], Gradients]:
        """Return the gradient of the rows of each input (None: it has none), and of each parameter.

        `dys` has the gradient of each output's rows, None for an output that the loss does not depend on; at least one
        is there. They may be overwritten. No two arrays that are returned may share memory.
        """
        dy = dys[0]
        assert dy is not None
        dx, gradients = _pair(self, "backward", self.backward(dy, cache, context), "(dx, gradients)")
        return (dx,), gradients

    # --- what every layer has -----------------------------------------------------------------------------------

    def build(self, features: Any, rng: np.random.Generator | int | None = None) -> None:
        """Create the parameters for inputs of `features` features (an Embedding ignores the number).

        A layer that is called on a list of inputs takes a tuple, the features of each.
        """
        what = f"{self.kind}: features"
        checked = tuple(whole(one, what, 0) for one in features) if self.takes_several else whole(features, what, 0)
        self._take_params(checked, np.random.default_rng(rng))

    def allocate(self, features: Any) -> None:
        """As `build`, without start values: for parameters that are loaded next."""
        self._take_params(tuple(features) if self.takes_several else features, None)

    def _take_params(self, features: Any, rng: np.random.Generator | None) -> None:
        self.arrays = {
            name: np.ascontiguousarray(value, self.dtype) for name, value in self.create(features, rng).items()
        }
        self.buffers = {
            name: np.ascontiguousarray(value, self.dtype) for name, value in self.create_buffers(features).items()
        }
        self.features_in = features
        self.changed()

    def check_features(self, count: int) -> None:
        """Raise ShapeError unless the input has as many features as the layer was built for."""
        if count != self.features_in:
            raise ShapeError(
                f"{self.kind}: x has {count} features, this layer was built for {self.features_in}; "
                "pass the same features, or build a new layer"
            )

    def __call__(self, x: BatchLike, *, lengths: ArrayLike | None = None) -> Any:
        """Apply the layer to arrays, for inference.

        Parameters
        ----------
        x : array or list of arrays
            ``(N, T, F)`` features (``(N, T)`` ids for an Embedding), or a list of ``(T_n, F)``; layers that do not
            look at time also take ``(N, F)``.
        lengths : array of int, shape (N,), optional
            True steps of each sequence of a padded array.

        Returns
        -------
        array or list of arrays
            In the form of `x`; zeros from each sequence's length on. For symbols (see `Input`) a symbol.
        """
        if is_symbolic(x):
            made = connect(self, symbols_in(x, self.kind))
            return made[0] if len(made) == 1 else made
        packed, form = self.take(x, lengths)
        y, _ = self.forward(packed, PassContext())
        return self.form_out(form).unpack(y)

    def take(self, x: BatchLike, lengths: ArrayLike | None = None) -> tuple[Packed, Any]:
        """Check and pack what a user passed; a layer that is not built yet builds itself for it."""
        steps = not (self.takes_samples and not is_ragged(x) and np.ndim(cast(ArrayLike, x)) == 2)
        packed, form = pack(
            x,
            lengths,
            features=not self.takes_ids,
            dtype=None if self.takes_ids else self.dtype,
            who=self.kind,
            steps=steps,
        )
        if not self.built:
            self.build(0 if self.takes_ids else packed.features)
        if not self.takes_ids:
            self.check_features(packed.features)
        return packed, form


def _pair(layer: Layer, method: str, returned: Any, expected: str) -> Any:
    """Return the two things that a method returned; raise ContractError for anything else."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ContractError(
            f"{layer.kind}: {method} returned {type(returned).__name__}; expected {expected}"
            + (": a return statement may be missing" if returned is None else "")
        )
    return returned
