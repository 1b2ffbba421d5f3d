"""A layer's parameters: how a program reads and writes them, and how they are saved and loaded."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers
from ..errors import NotBuiltError, OptionError, ShapeError

__all__ = ["Parameters", "Parametric"]


class Parameters(Mapping[str, NDArray[Any]]):
    """A layer's parameters by name, as they are at the moment; arrays that cannot be written to.

    What passes use is derived from the parameters and kept: a write that the layer did not hear of would be without
    effect, or have one on some passes only. `Layer.edit`, `Layer.set_weights` and `Layer.load_state_dict` write.

    Parameters
    ----------
    arrays : mapping of str to array
        The layer's own.
    kind : str
        Of the layer, named in errors.
    """

    __slots__ = ("_arrays", "_kind")

    def __init__(self, arrays: Mapping[str, NDArray[Any]], kind: str):
        self._arrays, self._kind = arrays, kind

    def __getitem__(self, name: str) -> NDArray[Any]:
        view = self._arrays[name].view()
        view.flags.writeable = False
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __setitem__(self, name: str, value: object) -> NoReturn:
        _refuse(self._kind, f"params[{name!r}]")

    def __delitem__(self, name: str) -> NoReturn:
        _refuse(self._kind, f"params[{name!r}]")

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self._arrays.items())
        return f"<parameters of {self._kind}, for reading: {shapes}>"


def _refuse(kind: str, what: str) -> NoReturn:
    """Raise OptionError that says how parameters are written."""
    raise OptionError(
        f"{kind}: {what} is for reading; write with `with layer.edit() as params:`, layer.set_weights or "
        "layer.load_state_dict, after which the layer forgets what it had derived from the old values"
    )


class Parametric:
    """What a layer has for its parameters: to read, to write, to save and to load them."""

    arrays: dict[str, NDArray[Any]]
    """The parameters themselves, by name: what passes read and training moves. After a write, call `changed`."""
    buffers: dict[str, NDArray[Any]]
    """Arrays that are saved beside the parameters but not trained, such as running means."""
    features_in: Any
    beside: "tuple[Parametric, ...]" = ()
    """Layers that hold some of the same arrays, and must hear of a write, too."""

    @property
    def kind(self) -> str:
        """Class name, as errors and summaries show it."""
        return type(self).__name__

    @property
    def built(self) -> bool:
        """Whether the layer knows its input size and has its parameters."""
        return self.features_in is not None

    def allocate(self, features: Any) -> None:
        """Make parameters for inputs of `features` features, without start values."""
        raise NotImplementedError

    def changed(self) -> None:
        """Forget what was derived from the parameters; call it after writing into them."""

    @property
    def params(self) -> Parameters:
        """The parameters by name, as they are at the moment, for reading: the arrays cannot be written to."""
        return Parameters(self.arrays, self.kind)

    @params.setter
    def params(self, value: object) -> None:
        _refuse(self.kind, "params")

    @contextmanager
    def edit(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Give the parameters by name to write into, or to put others in their place; they count from the end on.

        Raises
        ------
        NotBuiltError
            The layer has no parameters yet.
        ShapeError
            Another array was put in the place of a parameter, and has another shape or name.

        Examples
        --------
        >>> import numpy as np, fastlstm as fl
        >>> layer = fl.Dense(2, use_bias=False)
        >>> layer.build(3, 0)
        >>> with layer.edit() as params:
        ...     params["weight"][0] = 0.0
        ...     params["weight"][1] = [1.0, 2.0, 3.0]
        >>> layer(np.ones((1, 3)))
        array([[0., 6.]], dtype=float32)
        """
        self._need_built()
        given = dict(self.arrays)
        try:
            yield given
            self._take_over(given, self.arrays)
        finally:
            self._tell()

    def get_weights(self) -> list[NDArray[Any]]:
        """Return copies of all parameters and buffers, in the order of `state_dict`."""
        return [value.copy() for value in self.saved().values()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all parameters and buffers with what `get_weights` returned.

        Raises
        ------
        NotBuiltError
            The layer has no parameters yet.
        ShapeError
            The arrays do not fit in number or shape.
        DataError
            One holds no numbers, or masked ones.
        """
        self._need_built()
        own = self.saved()
        if len(weights) != len(own):
            raise ShapeError(
                f"{self.kind}: set_weights got {len(weights)} arrays; expected {len(own)}: {', '.join(own)}"
            )
        self._take_over(dict(zip(own, weights, strict=True)), own)
        self._tell()

    def _tell(self) -> None:
        """Tell all that hold these arrays that they have new values."""
        for layer in (self, *self.beside):
            layer.changed()

    def _need_built(self) -> None:
        if not self.built:
            raise NotBuiltError(f"{self.kind} has no parameters yet: call it on data or build(features) first")

    def _take_over(self, given: Mapping[str, ArrayLike], own: dict[str, NDArray[Any]]) -> None:
        """Write arrays of the same names and shapes into the layer's own; raise before anything is written."""
        arrays = {name: as_numbers(value, f"{self.kind}: {name}") for name, value in given.items()}
        if missing := own.keys() - arrays.keys():
            raise ShapeError(f"{self.kind}: no tensor {sorted(missing)}; given: {sorted(arrays)}")
        if unknown := arrays.keys() - own.keys():
            raise ShapeError(f"{self.kind}: unknown tensor {sorted(unknown)}; expected: {sorted(own)}")
        for name, value in arrays.items():
            if value.shape != own[name].shape:
                raise ShapeError(f"{self.kind}: {name} has shape {value.shape}; expected {own[name].shape}")
        for name, value in arrays.items():
            if value is not own[name]:
                own[name][...] = value

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return a copy of the parameters by name, with torch's names and shapes."""
        self._need_built()
        return {name: value.copy() for name, value in self.saved().items()}

    def saved(self) -> dict[str, NDArray[Any]]:
        """Return what a model file keeps: the parameters and buffers themselves."""
        return self.arrays | self.buffers

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
                self.arrays, self.buffers, self.features_in = {}, {}, None
                raise
            return
        self._take_over(arrays, self.saved())
        self._tell()

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> Any:
        """Return the input features that the shapes of `tensors` speak of."""
        return 0
