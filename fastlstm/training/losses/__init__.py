"""Losses: a value over rows or sequences, and its gradient. `get` finds them by Keras's names."""

from collections.abc import Mapping
from typing import Any

from ...errors import OptionError
from ...layers import registry
from .base import KernelLoss, Labels, Loss, SequenceLoss
from .crf import CRFLoss
from .crossentropy import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from .ctc import CTC, ctc_loss
from .elementwise import MAE, MAPE, MSE, MSLE, Hinge, Huber, LogCosh, Poisson, SquaredHinge
from .rowwise import CategoricalHinge, CosineSimilarity, KLDivergence, Pinball

__all__ = [
    "CTC",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "BinaryCrossentropy",
    "CRFLoss",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "KernelLoss",
    "Labels",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Pinball",
    "Poisson",
    "SequenceLoss",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "ctc_loss",
    "get",
    "known",
]

MeanSquaredError = MSE
MeanAbsoluteError = MAE
MeanAbsolutePercentageError = MAPE
MeanSquaredLogarithmicError = MSLE

_NAMES: dict[type[Loss], tuple[str, ...]] = {
    BinaryCrossentropy: ("binary_crossentropy", "bce"),
    CategoricalCrossentropy: ("categorical_crossentropy",),
    SparseCategoricalCrossentropy: ("sparse_categorical_crossentropy",),
    MSE: ("mse", "mean_squared_error", "MeanSquaredError"),
    MAE: ("mae", "mean_absolute_error", "MeanAbsoluteError"),
    MAPE: ("mape", "mean_absolute_percentage_error", "MeanAbsolutePercentageError"),
    MSLE: ("msle", "mean_squared_logarithmic_error", "MeanSquaredLogarithmicError"),
    Huber: ("huber",),
    LogCosh: ("log_cosh", "logcosh"),
    KLDivergence: ("kl_divergence", "kld", "kullback_leibler_divergence"),
    Poisson: ("poisson",),
    CosineSimilarity: ("cosine_similarity",),
    Pinball: ("pinball", "quantile"),
    Hinge: ("hinge",),
    SquaredHinge: ("squared_hinge",),
    CategoricalHinge: ("categorical_hinge",),
    CRFLoss: ("crf",),
    CTC: ("ctc",),
}
"""The names of each loss; files have the first one. A class's own name is one, too."""

_BY_NAME = {name.lower(): kind for kind, names in _NAMES.items() for name in (*names, kind.__name__)}


def known(loss: Loss) -> bool:
    """Tell whether `get` makes this loss again from its name and `config`, in any program."""
    return type(loss) in _NAMES


def get(loss: str | type[Loss] | Loss, config: Mapping[str, Any] | None = None) -> Loss:
    """Return the loss of a name, with the arguments in `config`; or the loss itself.

    Parameters
    ----------
    loss : str, Loss, or subclass of Loss
        One of Keras's names or of its class names, in any case; or the name that a file gives a class of your own.
    config : mapping, optional
        Arguments of the constructor.

    Raises
    ------
    OptionError
        No loss has this name.
    ModelFileError
        It is the name of a class of someone's own, which this program has not told of.

    Examples
    --------
    >>> get("MeanSquaredError").name, get("huber", {"delta": 2.0}).config()
    ('mse', {'delta': 2.0})
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        return loss(**(config or {}))
    if callable(loss):
        raise OptionError(
            f"loss={loss!r}: a function has no gradient here; derive a class from fastlstm.Loss that has rows and "
            "gradient_rows (docs/extending.md shows how)"
        )
    kind = _BY_NAME.get(str(loss).lower())
    if kind is not None:
        return kind(**(config or {}))
    if isinstance(loss, str) and (">" in loss or ":" in loss):
        made: Loss = registry.make(loss, Loss, config or {})
        return made
    raise OptionError(f"loss={loss!r}; expected a Loss or one of {', '.join(names[0] for names in _NAMES.values())}")
