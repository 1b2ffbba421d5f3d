"""What every loss is: a value over rows, and its gradient with respect to the model's output.

``output`` is always ``(M, K)`` rows. A loss of the user's own returns what it computes, and this file checks it:
`Loss.rows` and `Loss.gradient_rows`. Losses that the library brings are `KernelLoss`: they may take the values before
the last activation ("logits"), which needs no logarithm of a rounded 0, and write the gradient over the output.
"""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...data.labels import Labels
from ...data.packed import Packed
from ...errors import ContractError, DataError, OptionError, ShapeError
from ...layers.registry import snake_case
from ..returned import checked_gradient, checked_losses, read_only

__all__ = ["EPSILON", "KernelLoss", "Labels", "Loss", "Rows", "SequenceLoss"]

Rows = NDArray[Any]

EPSILON = 1e-7
"""What Keras keeps probabilities away from 0 and 1 by, and divisors away from 0: `keras.config.epsilon()`."""


class Loss:
    """Base of the losses, also of your own.

    A loss of your own defines `rows` and `gradient_rows`, in NumPy; `config`, if its constructor takes arguments; and
    `check_targets`, if a target is neither a row like the output nor a class. Everything else is here.

    The value of a batch is ``sum(weights * row losses) / M``, as in Keras: weights are not normalised.

    Attributes
    ----------
    name : str
        What errors and files call it: the class name in lower case, unless the class says otherwise.
    from_logits : bool
        Whether it takes the model's output as it is before a sigmoid or softmax: a model that ends with one is refused.
    takes_classes : bool
        Whether a target is the number of a class, from 0 to K - 1, rather than a row like the output.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> class Cauchy(fl.Loss):
    ...     def rows(self, output, target):
    ...         return np.log1p((output - target) ** 2).mean(axis=1)
    ...
    ...     def gradient_rows(self, output, target):
    ...         error = output - target
    ...         return 2 * error / (1 + error**2) / output.shape[1]
    >>> fl.testing.check_gradients(Cauchy(), (5, 3)) < 1e-6
    True
    """

    name: ClassVar[str] = "loss"
    fuses: ClassVar[str | None] = None
    """The activation whose input a `KernelLoss` can take, or None."""
    from_logits: bool = False
    takes_classes: ClassVar[bool] = False
    by_sequence: ClassVar[bool] = False
    """Whether it looks at whole sequences: see `SequenceLoss`."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        if "differentiate" in cls.__dict__:
            raise ContractError(
                f"{cls.__name__} defines differentiate, which nothing calls; define gradient_rows(output, target) and "
                "return the gradient of each row's loss, shape (M, K)"
            )
        if cls.fuses is not None and not issubclass(cls, KernelLoss | SequenceLoss):
            raise ContractError(
                f"{cls.__name__} sets fuses={cls.fuses!r}; a loss of your own that takes logits sets from_logits = True"
            )

    # --- what a loss of your own defines --------------------------------------------------------------------------

    def rows(self, output: Rows, target: Rows) -> Rows:
        """Return the loss of each row.

        Parameters
        ----------
        output : array, shape (M, K)
            What the model puts out; it cannot be written to.
        target : array
            What `check_targets` returned: ``(M, K)`` of the output's dtype, or ``(M,)`` classes; neither can this.

        Returns
        -------
        array, shape (M,)
        """
        raise _undefined(self, "rows")

    def gradient_rows(self, output: Rows, target: Rows) -> Rows:
        """Return the gradient of each row's loss with respect to that row of the output.

        Parameters
        ----------
        output, target
            As in `rows`.

        Returns
        -------
        array, shape (M, K)
            ``[m, k]`` is the derivative of loss m with respect to ``output[m, k]``: weights and 1 / M come later.
        """
        raise _undefined(self, "gradient_rows")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets in the shape and type that the loss computes with.

        Raises
        ------
        ShapeError
            They do not go with ``output`` (M, K).
        DataError
            They hold NaN, infinity, or classes outside 0 .. K - 1.
        """
        if self.takes_classes:
            return class_numbers(self.name, target, output)
        if target.ndim == 1:
            target = target[:, None]
        if target.shape != output.shape:
            raise ShapeError(
                f"{self.name}: targets have shape {target.shape} by row, the model's output {output.shape}; "
                "expected the same"
            )
        return finite(self.name, target, output.dtype)

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return an output (M, K), in float64, and targets to check gradients with: by default any numbers.

        A loss of your own defines it if it can only take others, such as positive ones.
        """
        target = rng.integers(0, shape[1], shape[0]) if self.takes_classes else rng.standard_normal(shape)
        return rng.standard_normal(shape), target

    # --- what training calls --------------------------------------------------------------------------------------

    def ignored(self, target: Rows) -> NDArray[np.bool_] | None:
        """Return which rows of checked targets count nothing (M,); None where all count."""
        return None

    def row_losses(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row, in float64; `output` stays as it is."""
        output, target = read_only(output), read_only(target)
        return checked_losses(self, "rows", self.rows(output, target), len(output), (output, target))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient of ``sum(weights * row losses)``; return the losses of the rows."""
        losses = self.row_losses(output, target, fused)
        if math.isfinite(losses.sum()):  # else training has diverged, and says so
            gradient = checked_gradient(self, self.gradient_rows(read_only(output), read_only(target)), output.shape)
            np.multiply(gradient, weights[:, None], out=output, casting="same_kind")
        return losses

    def value(
        self, output: Rows, target: Rows, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets; `output` stays as it is."""
        return self._mean(self.row_losses(output, target, fused), target, weights)

    def gradient(
        self, output: Rows, target: Rows, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets, and overwrite `output` with its gradient."""
        by_row = self._by_row(len(output), target, weights)
        losses = self.overwrite(output, target, by_row, fused)
        if fused and self.fuses == "softmax":  # its last bit, as earlier versions had it
            return float((losses * by_row).sum())
        return self._mean(losses, target, weights)

    def _by_row(self, count: int, target: Rows, weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return what each row's loss counts in the value: ``weights / M``, where M are the rows that count."""
        if weights is not None and weights.shape != (count,):
            raise ShapeError(f"the loss has {count} rows, its weights have shape {weights.shape}; expected one each")
        ignored = self.ignored(target)
        if ignored is not None:
            kept = ~ignored
            each: NDArray[np.float64] = np.where(kept, 1.0 if weights is None else weights, 0.0)
            return each / max(int(kept.sum()), 1)
        return np.full(count, 1.0 / count) if weights is None else weights / count

    def _mean(self, losses: NDArray[np.float64], target: Rows, weights: NDArray[np.float64] | None) -> float:
        """Return the value of a batch whose rows have these losses."""
        if weights is None and self.ignored(target) is None:
            return float(losses.mean())
        return float((losses * self._by_row(len(losses), target, weights)).sum())


class KernelLoss(Loss):
    """Base of losses that write their gradient over the output, and that may take the values before an activation.

    A subclass defines `rows`, with a third argument, and `overwrite`. `fused` says that ``output`` is what the
    activation that it `fuses` with would take.
    """

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        own = cls.__dict__
        if "overwrite" not in own and ("gradient_rows" in own or "rows" in own):
            raise ContractError(
                f"{cls.__name__} changes rows or gradient_rows of {cls.__base__.__name__}, whose kernel would not know "  # type: ignore[union-attr]
                "of it; derive from fastlstm.Loss and define both (they may call those of the other loss)"
            )

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row, in float64; `output` stays as it is."""
        raise NotImplementedError

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient of ``sum(weights * row losses)``; return the losses of the rows."""
        raise NotImplementedError

    def gradient_rows(self, output: Rows, target: Rows) -> Rows:
        """Return the gradient of each row's loss; see `Loss.gradient_rows`."""
        gradient = output.copy()
        self.overwrite(gradient, target, np.ones(len(output)), False)
        return gradient

    def row_losses(self, output: Rows, target: Rows, fused: bool) -> NDArray[np.float64]:
        """Return the loss of each row."""
        return self.rows(output, target, fused)


class SequenceLoss(Loss):
    """Base of losses over whole sequences, such as CTC.

    ``output`` is a `Packed` instead of rows. The value of a batch is ``sum(weights * sequence losses) / N``; weights
    are one a sequence, in packed order. A loss of your own defines `sequences` and `gradient_rows`; one with a kernel
    may define `gradient` instead, which overwrites the rows of the output.
    """

    by_sequence = True
    own_lengths: ClassVar[bool] = False
    """Whether targets are `Labels`, of other lengths than the output; else they are rows, one for each of its rows."""

    def sequences(self, output: Packed, target: Any, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each sequence (N,), in packed order; `output` stays as it is."""
        raise _undefined(self, "sequences")

    def example(self, shape: tuple[int, ...], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Any]:
        """Return an output (N, T, K) to check gradients with; None for targets, which are drawn as for any loss."""
        return rng.standard_normal(shape), None

    def gradient_rows(self, output: Packed, target: Any) -> Rows:  # type: ignore[override]
        """Return the gradient (M, K) of the sum of all sequence losses with respect to the rows of the output."""
        raise _undefined(self, "gradient_rows")

    def value(  # type: ignore[override]
        self, output: Packed, target: Any, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets; `output` stays as it is."""
        losses = self.sequences(output, target, fused)
        losses = checked_losses(self, "sequences", losses, output.sequences, (output.rows,))
        return float(losses.mean() if weights is None else (losses * weights).sum() / len(losses))

    def gradient(  # type: ignore[override]
        self, output: Packed, target: Any, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets, and overwrite the rows of `output` with its gradient."""
        value = self.value(output, target, weights, fused)
        if math.isfinite(value):
            rows, count = output.rows, output.sequences
            gradient = checked_gradient(self, self.gradient_rows(output, target), rows.shape)
            each = np.full(count, 1.0 / count) if weights is None else weights / count
            np.multiply(gradient, each[output.sequence_of_row][:, None], out=rows, casting="same_kind")
        return value


def _undefined(loss: Loss, method: str) -> NotImplementedError:
    return NotImplementedError(f"{type(loss).__name__} defines no {method}(output, target); see fastlstm.Loss.{method}")


def finite(name: str, target: Rows, dtype: np.dtype[Any]) -> Rows:
    """Return targets as contiguous `dtype`; raise DataError if they hold NaN or infinity."""
    if not np.isfinite(target).all():
        raise DataError(f"{name}: targets hold NaN or infinity")
    return np.ascontiguousarray(target, dtype)


def class_numbers(name: str, target: Rows, output: Rows, ignore: int | None = None) -> NDArray[np.int64]:
    """Return targets as class numbers (M,), -1 where they are `ignore`; raise unless they are from 0 to K - 1."""
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.shape != output.shape[:1]:
        raise ShapeError(
            f"{name}: targets have shape {target.shape} by row; expected ({len(output)},): a class number each"
        )
    classes = output.shape[1]
    wrong = ~((target >= 0) & (target < classes))
    if ignore is not None:
        wrong &= target != ignore
    if wrong.any():
        raise DataError(
            f"{name}: target {target[wrong][0]}; the model has {classes} classes: 0 to {classes - 1}"
            + ("" if ignore is None else f", and ignore_class={ignore}")
        )
    whole = target.astype(np.int64)
    if (whole != target).any():
        raise DataError(f"{name}: targets are no whole numbers; for distributions take categorical_crossentropy")
    if ignore is not None:
        whole[whole == ignore] = -1
    return np.ascontiguousarray(whole)


def number_from(
    who: str, word: str, value: object, low: float, high: float = math.inf, *, above: bool = False
) -> float:
    """Return the number passed as `word`; raise OptionError unless it is from (`above`: above) `low` to `high`."""
    number = float(value) if isinstance(value, int | float | np.integer | np.floating) else math.nan
    inside = low < number <= high if above else low <= number <= high
    if isinstance(value, bool) or not inside or not math.isfinite(number):
        upto = " on" if high == math.inf else f" to {high:g}"
        expected = f"above {low:g}, up to {high:g}" if above else f"from {low:g}{upto}"
        raise OptionError(f"{who}: {word}={value!r}; expected a number {expected}")
    return number
