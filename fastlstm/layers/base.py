"""What every layer is: named parameters, a forward, and a backward that takes forward's cache.

A layer remembers nothing between calls but its parameters. ``forward`` returns its output and a cache, a named tuple of
what ``backward`` needs: a layer may run twice before it goes back. ``backward`` returns the gradient of its input and
of each parameter, freshly overwritten: accumulating is the training loop's business. In training, arrays live in a
frame of the context's workspace: what forward returns until its backward, what backward returns until the next forward.
"""

from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..data.numbers import as_numbers, whole
from ..data.packed import BatchLike, Packed, is_ragged, pack
from ..engine.context import Gradients, PassContext, TableGradient
from ..errors import NotBuiltError, OptionError, ShapeError

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


class Layer:
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

    def __init__(self, *, name: str | None = None, dtype: DTypeLike = "float32"):
        self.name = name
        try:
            self.dtype: np.dtype[Any] = np.dtype(dtype)
        except TypeError:
            raise OptionError(f"{self.kind}: dtype is {dtype!r}; expected float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise OptionError(f"{self.kind}: dtype is {self.dtype}; expected float32 or float64")
        self.params: dict[str, NDArray[Any]] = {}
        self.penalties: dict[str, float] = {}
        """Factors of the squares of parameters, by name, that training adds to the loss."""
        self.features_in: int | None = None

    # --- what a layer defines -----------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """Class name, as errors and summaries show it."""
        return type(self).__name__

    @property
    def built(self) -> bool:
        """Whether the layer knows its input size and has its parameters."""
        return self.features_in is not None

    @property
    def features_out(self) -> int:
        """Feature count of the output; known once built."""
        raise NotImplementedError

    @property
    def returns_steps(self) -> bool:
        """Whether steps go out as steps (else one row for each sequence)."""
        return True

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        raise NotImplementedError

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
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

    # --- what every layer has -----------------------------------------------------------------------------------

    def build(self, features: int, rng: np.random.Generator | int | None = None) -> None:
        """Create the parameters for inputs of `features` features (an Embedding ignores the number)."""
        self._take_params(whole(features, f"{self.kind}: features", 0), np.random.default_rng(rng))

    def allocate(self, features: int) -> None:
        """As `build`, without start values: for parameters that are loaded next."""
        self._take_params(features, None)

    def _take_params(self, features: int, rng: np.random.Generator | None) -> None:
        self.params = {
            name: np.ascontiguousarray(value, self.dtype) for name, value in self.create(features, rng).items()
        }
        self.features_in = features
        self.changed()

    def changed(self) -> None:
        """Forget what was derived from the parameters; call it after writing into them."""

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
            In the form of `x`; zeros from each sequence's length on.
        """
        packed, form = self.take(x, lengths)
        y, _ = self.forward(packed, PassContext())
        return form.unpack(y)

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

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return a copy of the parameters by name, with torch's names and shapes."""
        if not self.built:
            raise NotBuiltError(f"{self.kind} has no parameters yet: call it on data or build(features) first")
        return {name: value.copy() for name, value in self.params.items()}

    def load_state_dict(self, tensors: dict[str, ArrayLike]) -> None:
        """Take over parameters by name; all must be there, and fit.

        Parameters
        ----------
        tensors : dict of str to array
            Torch's names and shapes; values are converted to the layer's dtype.

        Raises
        ------
        ShapeError
            A tensor is missing, unknown, or has another shape than this layer's.
        DataError
            A tensor holds no numbers, or masked ones.
        """
        arrays = {name: as_numbers(value, f"{self.kind}: {name}") for name, value in tensors.items()}
        if not self.built:
            self.allocate(self.features_from(arrays))
            try:
                self.load_state_dict(tensors)
            except ShapeError:  # what did not fit shall not decide for how many features this layer is
                self.params, self.features_in = {}, None
                raise
            return
        if missing := self.params.keys() - arrays.keys():
            raise ShapeError(f"{self.kind}: no tensor {sorted(missing)}; given: {sorted(arrays)}")
        if unknown := arrays.keys() - self.params.keys():
            raise ShapeError(f"{self.kind}: unknown tensor {sorted(unknown)}; expected: {sorted(self.params)}")
        for name, value in arrays.items():
            if value.shape != self.params[name].shape:
                raise ShapeError(f"{self.kind}: {name} has shape {value.shape}; expected {self.params[name].shape}")
        for name, value in arrays.items():
            self.params[name][...] = value
        self.changed()

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        """Return the input features that the shapes of `tensors` speak of."""
        return 0
