"""What a metric is: figures gathered over many batches. It looks at the output and changes nothing."""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..engine.rows import activate
from ..errors import ContractError, ShapeError
from ..layers.registry import snake_case
from .returned import read_only, returned_array

__all__ = ["Metric"]

Rows = NDArray[Any]


class Metric:
    """Base of the metrics, also of your own: a mean over rows, unless `result` says otherwise.

    A metric of your own defines `rows`; `result`, if it is no mean; `config`, if its constructor takes arguments.

    Attributes
    ----------
    name : str
        What figures are called: the class name in lower case, unless the class says otherwise.
    total, count
        Of what `rows` returned, the weighted sum over all rows since `reset`, and the sum of the weights.

    Examples
    --------
    Counts that belong together are columns of `rows`, and of `total`:

    >>> import numpy as np, fastlstm as fl
    >>> class F1(fl.Metric):
    ...     def rows(self, output, target):
    ...         found, true = output > 0.5, target > 0.5
    ...         return np.hstack([found & true, found ^ true])
    ...
    ...     def result(self):
    ...         right, wrong = self.total
    ...         return 2 * right / (2 * right + wrong)
    >>> f1 = F1()
    >>> f1.update(np.array([[0.9], [0.8], [0.1]]), np.array([[1.0], [0.0], [0.0]]))
    >>> f1.name, round(float(f1.result()), 4)
    ('f1', 0.6667)
    """

    name: str = "metric"
    running: ClassVar[bool] = True
    """Whether `result` is cheap enough to be shown after each batch."""
    before_activation: ClassVar[bool] = False
    """Whether `rows` takes what the last activation would take, and a third argument that names it (or None)."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        if "rows" in cls.__dict__ and "before_activation" not in cls.__dict__:
            cls.before_activation = False

    def __init__(self) -> None:
        self.reset()

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def reset(self) -> None:
        """Begin again."""
        self.total: Any = 0.0
        self.count = 0.0

    def update(
        self,
        output: Rows,
        target: Rows,
        pending: str | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in a batch.

        Parameters
        ----------
        output : array, shape (M, K)
        target : array
            As the loss checked it. Rows whose class is negative are left out: the loss ignores them.
        pending : {"softmax", "sigmoid"}, optional
            The last activation, where the loss takes care of it and `output` holds the values before it.
        weights : array of float64, shape (M,), optional
            What each row counts; all alike by default.
        """
        if (
            isinstance(target, np.ndarray)
            and target.ndim == 1
            and target.dtype == np.int64
            and target.min(initial=0) < 0
        ):
            kept = target >= 0
            output, target, weights = output[kept], target[kept], None if weights is None else weights[kept]
        values = self._values(output, target, pending)
        self.total = self.total + (values.sum(axis=0) if weights is None else weights @ values)
        self.count += float(len(values) if weights is None else weights.sum())

    def _values(self, output: Rows, target: Rows, pending: str | None) -> Rows:
        """Return what `rows` does, checked."""
        if self.before_activation:
            return self.rows(output, target, pending)  # type: ignore[call-arg]
        if pending is not None:
            output = output.copy()
            activate(output, pending)
        what = f"{type(self).__name__}.rows"
        values = returned_array(what, self.rows(read_only(output), read_only(target)), f"{len(output)} figures")
        if values.ndim not in (1, 2) or len(values) != len(output):
            raise ShapeError(
                f"{what} returned shape {values.shape}; expected ({len(output)},), a figure for each row, or "
                f"({len(output)}, C) for C of them"
            )
        if values.dtype.kind not in "fiub":
            raise ContractError(f"{what} returned {values.dtype}; expected numbers or bool")
        return values

    def rows(self, output: Rows, target: Rows) -> Rows:
        """Return the figure of each row (M,), or several of each (M, C): numbers or bool.

        Parameters
        ----------
        output : array, shape (M, K)
            What the model puts out, after its last activation; it cannot be written to.
        target : array
            As the loss takes it: ``(M, K)``, or ``(M,)`` classes; neither can this.
        """
        raise NotImplementedError

    def result(self) -> float:
        """Return the figure over all that came in; NaN for nothing."""
        if np.ndim(self.total):
            raise ContractError(
                f"{type(self).__name__}.rows returns {len(self.total)} figures a row; define result(), which makes one "
                "of total"
            )
        return float(self.total / self.count) if self.count else math.nan
