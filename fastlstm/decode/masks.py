"""Masked arrays: a decoder would read what lies under the mask, so they are refused."""

from __future__ import annotations

import numpy as np

from fastlstm.errors import DataError


def refuse_masked(given: object, what: str) -> None:
    """Raise DataError if a masked array was passed in which anything is masked.

    Examples
    --------
    >>> refuse_masked(np.ma.array([0.5, 0.5], mask=[False, True]), "logits")
    Traceback (most recent call last):
        ...
    fastlstm.errors.DataError: logits: a masked array, 1 of its 2 values masked; fill it, -inf for what is impossible
    """
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        masked = int(np.ma.getmaskarray(given).sum())
        raise DataError(
            f"{what}: a masked array, {masked} of its {given.size} values masked; fill it, -inf for what is impossible"
        )
