"""Load any saved model by what its file says it is."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union

from numpy.typing import NDArray

from ..errors import ModelFileError
from ..layers import registry
from ..training import checkpoint

if TYPE_CHECKING:
    from .language_model import LanguageModel
    from .model import Model
    from .sequential import Sequential

__all__ = ["load"]


def load(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, type] | None = None,
    compile: bool = True,
) -> Union["Sequential", "Model", "LanguageModel"]:
    """Return the model that was saved to `path`.

    Parameters
    ----------
    path : path
    custom_objects : mapping of str to class, optional
        Classes of your own that the model holds, by their names: ``{"Scale": Scale}``. Those that are registered
        (`register`) need not be passed.
    compile : bool
        Whether the model comes compiled as it was; without, its loss, metrics and optimizer are not looked for.

    Raises
    ------
    ModelFileError
        No such file; truncated or damaged; not a model, or one with layers or losses that neither this version nor
        the program knows.
    OptionError
        `custom_objects` is no mapping of names to classes, or one has a class of another kind than was saved.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl, os, tempfile
    >>> model = fl.Sequential([fl.Dense(2)], seed=0)
    >>> expected = model(np.ones((1, 3)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "m.safetensors"))
    ...     again = fl.load(os.path.join(folder, "m.safetensors"))
    >>> bool((again(np.ones((1, 3))) == expected).all())
    True
    """
    tensors, config = checkpoint.load_file(path)
    if not compile:
        tensors, config = _without_compiled(tensors, config)
    kind = config.get("model")
    with registry.custom_objects(custom_objects):
        if kind == "Sequential":
            from .sequential import Sequential

            return Sequential.from_saved(tensors, config, str(path))
        if kind == "Model":
            from .model import Model

            return Model.from_saved(tensors, config, str(path))
        if kind == "LanguageModel":
            from .language_model import LanguageModel

            return LanguageModel.from_saved(tensors, config, str(path))
    raise ModelFileError(f"{path} holds a model of kind {kind!r}, which this fastlstm does not know")


def _without_compiled(
    tensors: dict[str, NDArray[Any]], config: dict[str, Any]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the contents of a file as if the model had not been compiled, nor its optimizer kept."""
    if config.get("compiled") is None:
        return tensors, config
    kept = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
    return (kept if "generator" in config else tensors), config | {"compiled": None}
