"""Simple recurrent network (Elman 1990): h = activation(W_ih x + b + W_hh h_prev). Equations: ``docs/rnn.md``."""

from functools import lru_cache

from ...simd.jit import jit_inline
from ...simd.vector import load, splat, store
from ..activations import ACTIVATIONS, LOG2E, exp2_minus_1
from .cell import Cell
from .units import store_units

__all__ = ["rnn"]


@jit_inline
def _fused_tanh(a):
    """Return tanh of what was packed times 2 log2(e)."""
    above = exp2_minus_1(a)
    return above / (above + splat(a, 2.0))


def rnn(activation: str = "tanh") -> Cell:
    """Return the cell with this activation."""
    return _made(activation)


@lru_cache(maxsize=64)
def _made(activation: str) -> Cell:
    """Make the cell once for each set of options."""
    act, slope = ACTIVATIONS[activation]
    name, scale = f"rnn_{activation}", 1.0
    if activation == "tanh":
        act, scale = _fused_tanh, 2.0 * LOG2E

    def pointwise(at, apart, carry, hidden, kept, diagonals):
        gates, g, _ = at
        values, _, h_to, left = hidden
        save_gates, gate_values, k = kept
        h = act(load(gates, g))  # 1
        store_units(values, h_to, left, h)
        if save_gates:
            store(gate_values, k, h)

    def pointwise_backward(at, apart, carry, hidden, diagonals, back):
        gates, g, _ = at
        _, _, _, _, da, a, dh = back
        store(da, a, dh * slope(load(gates, g)))  # 1b

    return Cell(name, ("h",), (scale,), jit_inline(pointwise, name), jit_inline(pointwise_backward, name))
