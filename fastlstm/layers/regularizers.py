"""Penalties on parameters that training adds to the loss."""

from ..errors import OptionError

__all__ = ["L2", "checked_regularizer"]


class L2:
    """Add ``l2 * sum(w ** 2)`` to the loss, and so ``2 * l2 * w`` to the gradient.

    Parameters
    ----------
    l2 : float
        The factor, 0 or more.

    Raises
    ------
    OptionError
        `l2` is negative or no number.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.LSTM(4, kernel_regularizer=fl.L2(0.001)).kernel_regularizer
    L2(0.001)
    """

    def __init__(self, l2: float = 0.01):
        if isinstance(l2, bool) or not isinstance(l2, int | float) or not 0.0 <= l2 < float("inf"):
            raise OptionError(f"L2: l2={l2!r}; expected a number from 0 on")
        self.l2 = float(l2)

    def __repr__(self) -> str:
        return f"L2({self.l2:g})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, L2) and other.l2 == self.l2

    def __hash__(self) -> int:
        return hash(self.l2)


def checked_regularizer(kind: str, word: str, value: object) -> L2 | None:
    """Return the regularizer that was passed as `word`: an `L2`, its factor, or "l2" for 0.01; None for none."""
    if value is None or isinstance(value, L2):
        return value
    if value == "l2":
        return L2()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return L2(value)
    factor = getattr(value, "l2", None)  # Keras's own object
    if isinstance(factor, float | int) and not getattr(value, "l1", 0.0):
        return L2(float(factor))
    raise OptionError(f"{kind}: {word}={value!r}; expected None, fastlstm.L2(factor), a factor, or 'l2'")
