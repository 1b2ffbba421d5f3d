"""GRU (Cho et al. 2014), its reset gate after the recurrent product (cuDNN, torch) or before it. ``docs/gru.md``."""

from functools import lru_cache

from ...simd.jit import jit_inline
from ...simd.vector import fma, lanes_of, load, splat, store
from ..activations import ACTIVATIONS, LOG2E, exp2_minus_1, one_plus_exp2
from .cell import Cell
from .units import load_units, store_units

__all__ = ["gru"]


@jit_inline
def _store_three(values, place, r, z, n):
    width = lanes_of(values)
    store(values, place, r)
    store(values, place + width, z)
    store(values, place + 2 * width, n)


@jit_inline
def _pointwise(at, apart, carry, hidden, kept, diagonals):
    """Take one block one step on, with sigmoid and tanh: z and n are fractions until they meet."""
    gates, g, _ = at
    recurrent, e = apart
    h, h_from, h_to, left = hidden
    save_gates, values, k = kept
    width = lanes_of(gates)
    r = splat(gates, 1.0) / one_plus_exp2(load(gates, g) + load(recurrent, e))  # 1
    over_z = one_plus_exp2(load(gates, g + width) + load(recurrent, e + width))  # 2: z = 1 / over_z
    above_n = exp2_minus_1(fma(r, load(recurrent, e + 2 * width), load(gates, g + 2 * width)))  # 3: above_n / over_n
    over_n = above_n + splat(gates, 2.0)
    both = splat(gates, 1.0) / (over_z * over_n)
    n = above_n * over_z * both
    z = over_n * both
    store_units(h, h_to, left, fma(z, load_units(h, h_from, left) - n, n))  # 4: h = (1 - z) * n + z * h_prev
    if save_gates:
        _store_three(values, k, r, z, n)


def _general(name, activation, recurrent_activation):
    """Return the forward pointwise function with other activations."""
    act, _ = ACTIVATIONS[activation]
    gate, _ = ACTIVATIONS[recurrent_activation]

    def pointwise(at, apart, carry, hidden, kept, diagonals):
        gates, g, _ = at
        recurrent, e = apart
        h, h_from, h_to, left = hidden
        save_gates, values, k = kept
        width = lanes_of(gates)
        r = gate(load(gates, g) + load(recurrent, e))  # 1
        z = gate(load(gates, g + width) + load(recurrent, e + width))  # 2
        n = act(fma(r, load(recurrent, e + 2 * width), load(gates, g + 2 * width)))  # 3
        store_units(h, h_to, left, fma(z, load_units(h, h_from, left) - n, n))  # 4
        if save_gates:
            _store_three(values, k, r, z, n)

    return jit_inline(pointwise, name)


def _backward(name, activation, recurrent_activation, unscale):
    """Return the backward pointwise function; `unscale` times the kept product of n's weights is the product itself."""
    _, act_slope = ACTIVATIONS[activation]
    _, gate_slope = ACTIVATIONS[recurrent_activation]

    def pointwise_backward(at, apart, carry, hidden, diagonals, back):
        gates, g, _ = at
        recurrent, out, e = apart
        h, h_from, _, left = hidden
        dc, d, dc_to, e_to, da, a, dh = back
        width = lanes_of(gates)
        r, z, n = load(gates, g), load(gates, g + width), load(gates, g + 2 * width)
        product = load(recurrent, e + 2 * width) * splat(gates, unscale)
        total = dh + load(dc, d)
        dz = total * (load_units(h, h_from, left) - n)  # 4b
        store(dc_to, e_to, total * z)
        da_n = total * (splat(gates, 1.0) - z) * act_slope(n)  # 4b, 3b
        da_z = dz * gate_slope(z)  # 2b
        da_r = da_n * product * gate_slope(r)  # 3b, 1b
        _store_three(da, a, da_r, da_z, da_n)
        _store_three(out, e, da_r, da_z, da_n * r)

    return jit_inline(pointwise_backward, name)


def _reset_before(name, activation, recurrent_activation):
    """Return the four pointwise functions of a GRU whose reset gate comes before the recurrent product of n.

    `apart` holds ``r * h_prev``, which that product reads, and beside it the product; going back the gradient of a_n.
    """
    act, act_slope = ACTIVATIONS[activation]
    gate, gate_slope = ACTIVATIONS[recurrent_activation]

    def pointwise(at, apart, carry, hidden, kept, diagonals):
        gates, g, _ = at
        gated, e = apart
        h, h_from, _, left = hidden
        width = lanes_of(gates)
        r = gate(load(gates, g))  # 1
        store(gates, g, r)
        store(gates, g + width, gate(load(gates, g + width)))  # 2
        store(gated, e, r * load_units(h, h_from, left))

    def second(at, product, hidden, save_gates):
        gates, g, _ = at
        products, e = product
        h, h_from, h_to, left = hidden
        width = lanes_of(gates)
        z = load(gates, g + width)
        n = act(load(gates, g + 2 * width) + load_units(products, e, left))  # 3r
        store_units(h, h_to, left, fma(z, load_units(h, h_from, left) - n, n))  # 4
        if save_gates:
            store(gates, g + 2 * width, n)

    def second_backward(at, product, hidden, back):
        gates, g, _ = at
        products, e = product
        h, h_from, left = hidden
        dc, d, dh = back
        width = lanes_of(gates)
        z, n = load(gates, g + width), load(gates, g + 2 * width)
        total = dh + load(dc, d)
        store(dc, d, total * z)  # 4b
        da_n = total * (splat(gates, 1.0) - z) * act_slope(n)  # 4b, 3rb
        store(gates, g + width, total * (load_units(h, h_from, left) - n) * gate_slope(z))  # 4b, 2b
        store(gates, g + 2 * width, da_n)
        store(products, e, da_n)

    def pointwise_backward(at, apart, carry, hidden, diagonals, back):
        gates, g, _ = at
        h, h_from, _, left = hidden
        dc, d, dc_to, e_to, da, a, d_gated = back
        r = load(gates, g)
        store(dc_to, e_to, fma(d_gated, r, load(dc, d)))
        store(da, a, d_gated * load_units(h, h_from, left) * gate_slope(r))  # 1b

    return tuple(jit_inline(function, name) for function in (pointwise, pointwise_backward, second, second_backward))


def gru(activation: str = "tanh", recurrent_activation: str = "sigmoid", reset_after: bool = True) -> Cell:
    """Return the GRU cell with these options."""
    return _made(activation, recurrent_activation, reset_after)


@lru_cache(maxsize=64)
def _made(activation: str, recurrent_activation: str, reset_after: bool) -> Cell:
    """Make the cell once for each set of options."""
    gates = "r", "z", "n"
    if not reset_after:
        name, scales = f"gru_before_{activation}_{recurrent_activation}", (1.0, 1.0, 1.0)
        forward, backward, second, second_backward = _reset_before(name, activation, recurrent_activation)
        stages = {"second": second, "second_backward": second_backward}
        return Cell(name, gates, scales, forward, backward, has_carry=True, reset_before=True, **stages)
    if (activation, recurrent_activation) == ("tanh", "sigmoid"):
        name, scales, forward = "gru", (-LOG2E, -LOG2E, 2.0 * LOG2E), _pointwise
    else:
        name, scales = f"gru_{activation}_{recurrent_activation}", (1.0, 1.0, 1.0)
        forward = _general(name, activation, recurrent_activation)
    backward = _backward(name, activation, recurrent_activation, 1.0 / scales[2])
    return Cell(name, gates, scales, forward, backward, has_carry=True, is_apart=True)
