"""A model as a file: how it was made, connected and compiled, its parameters, and what its optimizer remembers."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from numpy.typing import ArrayLike, NDArray

from ..errors import ModelFileError, OptionError
from ..layers import registry
from ..training import checkpoint, losses, optimizers
from .compilable import Compilable
from .description import describe_compiled
from .resuming import describe_generator, make_generator, name_state, restore_state

__all__ = ["Saved"]

M = TypeVar("M", bound="Saved")


class Saved(Compilable):
    """A model that can be saved and loaded."""

    def get_config(self) -> dict[str, Any]:
        """Return how the layers are made and connected, as JSON can hold it."""
        raise NotImplementedError

    @classmethod
    def from_config(cls: type[M], config: Mapping[str, Any]) -> M:
        """Return a model of what `get_config` returned, its parameters without values."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = False) -> None:
        """Write the model to a safetensors file; what stood there stays whole until the new one is complete.

        Tensors are named ``layer.parameter`` with torch's names. How the model was compiled is kept.

        Parameters
        ----------
        path : path
            Usually ``*.safetensors``.
        optimizer : bool
            Also keep what the optimizer remembers, its step count and running means, and where the model's random
            generator stands. A fit of the loaded model, with `initial_epoch` set to the epochs done, then takes the
            same steps as one that was never broken off, bit for bit. What callbacks remember is not kept. Adam's file
            is three times as large.

        Raises
        ------
        NotBuiltError
            The model has no weights; or `optimizer` is asked for and the model is not compiled.
        OptionError
            `optimizer` is asked for, but an optimizer, loss, metric or generator of your own cannot be made again.
        ModelFileError
            The file cannot be written.

        Examples
        --------
        >>> import numpy as np, fastlstm as fl, os, tempfile
        >>> model = fl.Sequential([fl.LSTM(4), fl.Dense(1)], seed=0)
        >>> model.compile("adam", "mse")
        >>> x, y = np.ones((8, 3, 2)), np.zeros(8)
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(os.path.join(folder, "m.safetensors"), optimizer=True)
        ...     resumed = fl.load(os.path.join(folder, "m.safetensors"))
        >>> on = model.fit(x, y, epochs=2, initial_epoch=1, verbose=0).history
        >>> on == resumed.fit(x, y, epochs=2, initial_epoch=1, verbose=0).history
        True
        """
        self._need_built("save")
        tensors: dict[str, NDArray[Any]] = self.state_dict()
        compiled = None if self._compiled is None else describe_compiled(self._compiled)
        config = {"model": self.kind, **self.get_config(), "compiled": compiled}
        if optimizer:
            trained_by = self._need_compiled("save with optimizer=True").optimizer
            if compiled is None:
                raise OptionError(
                    "save: optimizer=True, but an optimizer, loss or metric is of a class of your own, which no file "
                    "can make again; save without, and keep optimizer.state_dict() yourself"
                )
            tensors |= name_state(trained_by, self._trained_names)
            config["generator"] = describe_generator(self.rng)
        checkpoint.save_file(path, tensors, config)

    @classmethod
    def load(cls: type[M], path: str | os.PathLike[str], custom_objects: Mapping[str, type] | None = None) -> M:
        """Return the model that `save` wrote, compiled as it was; with its optimizer's state where that was kept.

        `custom_objects` are classes of your own, as `fastlstm.load` takes them.
        """
        with registry.custom_objects(custom_objects):
            return cls.from_saved(*checkpoint.load_file(path), str(path))

    @classmethod
    def from_saved(cls: type[M], tensors: Mapping[str, ArrayLike], config: Mapping[str, Any], path: str) -> M:
        """Return the model that the contents of a file describe; a ModelFileError names the file."""
        if config.get("model") != cls.__name__:
            raise ModelFileError(f"{path} holds a {config.get('model')}, not a {cls.__name__}; use fastlstm.load")
        try:
            model = cls.from_config(config)
            model._restore(tensors, config)
        except (KeyError, TypeError, ValueError, IndexError, ModelFileError) as error:
            raise ModelFileError(f"{path} is not a {cls.__name__} that this version can read: {error}") from error
        return model

    def _restore(self, tensors: Mapping[str, ArrayLike], config: Mapping[str, Any]) -> None:
        compiled = config.get("compiled")
        if compiled is not None:
            given = dict(compiled)
            optimizer = optimizers.get(*given.pop("optimizer"))
            kinds = given.pop("loss")
            loss = losses.get(*kinds) if isinstance(kinds[0], str) else [losses.get(*one) for one in kinds]
            self.compile(optimizer, loss, **given)
            if "generator" in config:  # saved with the optimizer's state
                tensors = restore_state(optimizer, self._trained_names, tensors)
                self.rng = make_generator(config["generator"])
        self.load_state_dict(tensors)
