"""Losses that look at a row as a whole: directions, distributions, margins, quantiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, OptionError, ShapeError
from .base import EPSILON, KernelLoss, Rows, finite, number_from

__all__ = ["CategoricalHinge", "CosineSimilarity", "KLDivergence", "Pinball"]


class CosineSimilarity(KernelLoss):
    """Minus the cosine of the angle between output and target: from -1, the same direction, to 1.

    A row of zeros has no direction: its loss is 0.

    Examples
    --------
    >>> import numpy as np
    >>> CosineSimilarity().value(np.array([[3.0, 4.0]]), np.array([[6.0, 8.0]]))
    -1.0
    """

    name = "cosine_similarity"

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        return np.asarray(-(_unit(output)[0] * _unit(target)[0]).sum(axis=1))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        (p, length), (y, _) = _unit(output), _unit(target)
        losses: NDArray[np.float64] = -(p * y).sum(axis=1)
        across = np.where(length > EPSILON, losses[:, None], 0.0) * p  # of shorter rows the length counts, too
        output[...] = -(y + across) * (weights[:, None] / length)
        return losses


def _unit(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each row divided by its length, which is at least `EPSILON`, and the lengths (M, 1)."""
    exact = rows.astype(np.float64)
    length = np.maximum(np.sqrt(np.square(exact).sum(axis=1, keepdims=True)), EPSILON)
    return exact / length, length


class KLDivergence(KernelLoss):
    """``sum(y * log(y / p))`` of two distributions, both kept between 1e-7 and 1.

    Below 1e-7 Keras's gradient is 0; here it is the one at 1e-7, which pulls towards the target.
    """

    name = "kl_divergence"

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets of the output's shape; see `Loss.check_targets`."""
        target = super().check_targets(target, output)
        if target.size and (target.min() < 0 or target.max() > 1):
            raise DataError(f"{self.name}: targets reach from {target.min()} to {target.max()}; expected 0 to 1")
        return target

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        y, p = _between(target), _between(output)
        return np.asarray((y * np.log(y / p)).sum(axis=1))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        losses = self.rows(output, target)
        slope = np.where(output > 1.0, 0.0, -_between(target) / _between(output))
        output[...] = slope * weights[:, None]
        return losses

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return distributions; see `Loss.example`."""
        output, target = rng.uniform(0.1, 1.0, (2, *shape))
        return output / output.sum(axis=1, keepdims=True), target / target.sum(axis=1, keepdims=True)


def _between(rows: Rows) -> NDArray[np.float64]:
    return np.clip(rows.astype(np.float64), EPSILON, 1.0)


class CategoricalHinge(KernelLoss):
    """``max(max((1 - y) * output) - sum(y * output) + 1, 0)`` for one-hot targets."""

    name = "categorical_hinge"

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets of the output's shape; see `Loss.check_targets`."""
        target = super().check_targets(target, output)
        if not np.isin(target, (-1.0, 0.0, 1.0)).all():
            raise DataError(f"{self.name}: targets reach from {target.min()} to {target.max()}; expected 0 and 1")
        return target

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        exact = output.astype(np.float64)
        wrong = ((1.0 - target) * exact).max(axis=1)
        return np.asarray(np.maximum(wrong - (target * exact).sum(axis=1) + 1.0, 0.0))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        losses, every = self.rows(output, target), np.arange(len(output))
        others = 1.0 - target
        worst = (others * output).argmax(axis=1)
        slope = -target.astype(np.float64)
        slope[every, worst] += others[every, worst]
        output[...] = slope * np.where(losses > 0.0, weights, 0.0)[:, None]
        return losses

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return any numbers, and one-hot targets; see `Loss.example`."""
        return rng.standard_normal(shape), np.eye(shape[1])[rng.integers(0, shape[1], shape[0])]


class Pinball(KernelLoss):
    """What quantiles are learnt by (Koenker and Bassett 1978): ``max(q * e, (q - 1) * e)`` with ``e = y - output``.

    With Q quantiles of D targets the model puts out K = D * Q numbers: column ``d * Q + q`` is quantile q of target d,
    so that ``prediction.reshape(..., D, Q)`` has both apart. The loss of a row is the mean over its K outputs.
    Quantiles may cross, for each is learnt by itself: sort them if that matters.

    Parameters
    ----------
    quantiles : float or sequence of float
        Each above 0 and below 1; 0.5 is the median.

    Examples
    --------
    A forecast of the 10 %, 50 % and 90 % quantiles of the next value:

    >>> import numpy as np, fastlstm as fl
    >>> model = fl.Sequential([fl.LSTM(8), fl.Dense(3)], seed=0)
    >>> model.compile("adam", fl.losses.Pinball([0.1, 0.5, 0.9]))
    >>> x = np.random.default_rng(0).standard_normal((32, 5, 2))
    >>> history = model.fit(x, x.sum(axis=(1, 2)), verbose=0)
    >>> model.predict(x).shape
    (32, 3)
    """

    name = "pinball"

    def __init__(self, quantiles: float | Sequence[float] = 0.5):
        given = [*quantiles] if isinstance(quantiles, Sequence | np.ndarray) else [quantiles]
        if not given:
            raise OptionError("Pinball: quantiles is empty; expected at least one, such as 0.5")
        self.quantiles = [number_from("Pinball", "quantiles", one, 0.0, 1.0, above=True) for one in given]
        if max(self.quantiles) == 1.0:
            raise OptionError(f"Pinball: quantiles={quantiles!r}; expected numbers above 0 and below 1")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"quantiles": self.quantiles}

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets (M, D) for an output (M, D * Q); see `Loss.check_targets`."""
        if target.ndim == 1:
            target = target[:, None]
        quantiles = len(self.quantiles)
        if target.ndim != 2 or (len(target), target.shape[1] * quantiles) != output.shape:
            raise ShapeError(
                f"{self.name}: targets have shape {target.shape} by row, the model's output {output.shape}; expected "
                f"{quantiles} outputs for each target, one for each of the quantiles {self.quantiles}"
            )
        return finite(self.name, target, output.dtype)

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        error, q = self._errors(output, target)
        return np.asarray(np.maximum(q * error, (q - 1.0) * error).mean(axis=(1, 2)))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        error, q = self._errors(output, target)
        losses = np.maximum(q * error, (q - 1.0) * error).mean(axis=(1, 2))
        slope = np.where(error > 0.0, -q, np.where(error < 0.0, 1.0 - q, 0.0)).reshape(output.shape)
        output[...] = slope * (weights / output.shape[1])[:, None]
        return np.asarray(losses)

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return any numbers; see `Loss.example`."""
        return rng.standard_normal(shape), rng.standard_normal((shape[0], shape[1] // len(self.quantiles)))

    def _errors(self, output: Rows, target: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ``y - output`` (M, D, Q), and the quantiles (Q,)."""
        q = np.array(self.quantiles)
        return target.astype(np.float64)[:, :, None] - output.reshape(len(output), -1, len(q)), q
