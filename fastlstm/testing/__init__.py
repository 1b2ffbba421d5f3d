"""For tests of layers and losses of your own: whether gradients are the derivatives of what is computed."""

from typing import Any

from ..errors import GradientError, OptionError
from ..layers.base import Layer
from ..layers.crf import CRF
from ..training.losses import Loss
from .of_crf import with_its_loss
from .of_layers import check_layer
from .of_losses import check_loss

__all__ = ["GradientError", "check_gradients"]


def check_gradients(
    layer_or_loss: Layer | Loss,
    shapes: Any,
    *,
    lengths: Any = None,
    targets: Any = None,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> float:
    """Hold the gradients of a layer or loss against central differences, in float64.

    A layer's are those of every input and parameter; it runs once, and twice before it goes back. It is copied first:
    yours is left as it is, and may compute in float32. Where it is not built yet, the copy is, for these shapes.
    Dropout draws the same masks in every pass. A CRF's gradients are those of its loss.

    Parameters
    ----------
    layer_or_loss : Layer or Loss
    shapes : tuple of int, or array
        Of a layer's input: ``(N, T, F)``, ``(N, F)`` or, of ids, ``(N, T)``; a list of such for a layer that is called
        on a list. Of a loss's output: ``(M, K)``, or ``(N, T, K)`` of a loss over sequences. Random numbers fill it;
        an array in the place of a shape gives them itself.
    lengths : array of int, shape (N,), optional
        True steps of each sequence; a list of such (or None) for a list of shapes.
    targets : array or list of arrays, optional
        For a loss; by default what its `Loss.example` draws.
    seed : int
        Of everything that is drawn.
    tolerance : float
        Largest difference, relative to the largest derivative of the same array.

    Returns
    -------
    float
        The largest relative difference found.

    Raises
    ------
    GradientError
        A gradient differs by more: the message names the array, the place and both numbers. It is an AssertionError.
    ContractError
        The layer or loss returned something else than its base class asks for.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.testing.check_gradients(fl.LSTM(3, return_sequences=True), (2, 5, 4), lengths=[5, 3]) < 1e-6
    True
    >>> fl.testing.check_gradients(fl.losses.Huber(), (6, 2)) < 1e-6
    True
    """
    if isinstance(layer_or_loss, Loss):
        return check_loss(layer_or_loss, shapes, lengths, targets, seed, tolerance)
    if not isinstance(layer_or_loss, Layer):
        raise OptionError(f"check_gradients: {type(layer_or_loss).__name__} is neither a Layer nor a Loss")
    if targets is not None:
        raise OptionError("check_gradients: targets= goes with a loss; a layer has none")
    layer = with_its_loss(layer_or_loss) if type(layer_or_loss) is CRF else layer_or_loss
    return check_layer(layer, shapes, lengths, seed, tolerance)
