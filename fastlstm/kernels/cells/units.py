"""The units of one block that exist: loaded and stored, for arrays whose rows end with the last unit."""

from ...simd.jit import jit_inline
from ...simd.vector import lanes_of, load, load_n, store, store_n

__all__ = ["load_units", "store_units"]


@jit_inline
def load_units(values, place, left):
    """Return the next L units; zeros where only `left` of them exist."""
    return load(values, place) if left >= lanes_of(values) else load_n(values, place, left)


@jit_inline
def store_units(values, place, left, y):
    """Store the next L units, or the `left` that exist."""
    if left >= lanes_of(values):
        store(values, place, y)
    else:
        store_n(values, place, y, left)
