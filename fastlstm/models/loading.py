"""Load any saved model by what its file says it is."""

import os
from typing import TYPE_CHECKING, Union

from ..errors import ModelFileError
from ..training import checkpoint

if TYPE_CHECKING:
    from .language_model import LanguageModel
    from .model import Model
    from .sequential import Sequential

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> Union["Sequential", "Model", "LanguageModel"]:
    """Return the model that was saved to `path`.

    Raises
    ------
    ModelFileError
        No such file; truncated or damaged; not a model, or one of a kind this version does not know.
    """
    tensors, config = checkpoint.load_file(path)
    kind = config.get("model")
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
