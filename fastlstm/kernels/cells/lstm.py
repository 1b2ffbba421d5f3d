"""LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000). Equations: ``docs/lstm.md``.

Options: peepholes (Gers and Schmidhuber 2000), coupled input and forget gates (Greff et al. 2017), projection of h
(Sak et al. 2014), other activations.
"""

from functools import lru_cache

from ...simd.across import join, upper
from ...simd.jit import jit_inline
from ...simd.vector import fma, lanes_of, load, splat, store
from ..activations import ACTIVATIONS, LOG2E, exp2_minus_1, expm1_twice, one_plus_exp2, tanh
from .cell import Cell
from .units import store_units

__all__ = ["lstm"]


@jit_inline
def _load_four(gates, g, half):
    """Return the four gates of a block; of half a block in the lower lanes."""
    width = lanes_of(gates)
    i, f = load(gates, g), load(gates, g + width)
    if half:
        return i, upper(i), f, upper(f)
    return i, f, load(gates, g + 2 * width), load(gates, g + 3 * width)


@jit_inline
def _store_four(gates, g, half, i, f, z, o):
    """Store the four gates of a block as they are laid out."""
    width = lanes_of(gates)
    if half:
        store(gates, g, join(i, f))
        store(gates, g + width, join(z, o))
    else:
        store(gates, g, i)
        store(gates, g + width, f)
        store(gates, g + 2 * width, z)
        store(gates, g + 3 * width, o)


@jit_inline
def _load_three(gates, g, half):
    """Return the gates of a block of a coupled LSTM; the second and third stand for f, too."""
    width = lanes_of(gates)
    i = load(gates, g)
    return i, i, load(gates, g + width), load(gates, g + 2 * width)


@jit_inline
def _store_three(gates, g, half, i, f, z, o):
    """Store the gates of a block of a coupled LSTM."""
    width = lanes_of(gates)
    store(gates, g, i)
    store(gates, g + width, z)
    store(gates, g + 2 * width, o)


@jit_inline
def _pointwise(at, apart, carry, hidden, kept, diagonals):
    """Take one block one step on. Sigmoid and tanh are fractions until they meet: three divisions instead of five."""
    gates, g, half = at
    cells, c_from, c_to = carry
    h, _, h_to, left = hidden
    save_gates, values, k = kept
    a_i, a_f, a_g, a_o = _load_four(gates, g, half)
    over_i = one_plus_exp2(a_i)  # 1: i = 1 / over_i
    f = splat(over_i, 1.0) / one_plus_exp2(a_f)  # 2
    above_g = exp2_minus_1(a_g)  # 3: g = above_g / over_g
    over_o = one_plus_exp2(a_o)  # 4: o = 1 / over_o
    over_g = above_g + splat(over_i, 2.0)
    both = splat(over_i, 1.0) / (over_i * over_g)
    c = fma(f, load(cells, c_from), above_g * both)  # 5: c = f * c_prev + i * g
    store(cells, c_to, c)
    above = expm1_twice(c)  # tanh(c) = above / over
    over = above + splat(over_i, 2.0)
    last = splat(over_i, 1.0) / (over_o * over)
    store_units(h, h_to, left, above * last)  # 6: h = o * tanh(c)
    if save_gates:
        z = above_g / over_g  # by itself: never beyond 1, as a product might be
        _store_four(values, k, half, over_g * both, f, z, over * last)


@jit_inline
def _pointwise_backward(at, apart, carry, hidden, diagonals, back):
    """Take one block one step back, from its gates' values."""
    gates, g, half = at
    cells, c_from, c_to = carry
    dc, d, dc_to, e, da, a, dh = back
    i, f, z, o = _load_four(gates, g, half)
    one = splat(i, 1.0)
    tanh_c = tanh(load(cells, c_to))
    do = dh * tanh_c  # 6b: h = o * tanh(c)
    total = fma(dh * o, one - tanh_c * tanh_c, load(dc, d))
    df = total * load(cells, c_from)  # 5b: c = f * c_prev + i * g
    di = total * z
    dz = total * i
    store(dc_to, e, total * f)
    da_o = do * o * (one - o)  # 4b: o = sigmoid(a_o)
    da_g = dz * (one - z * z)  # 3b: g = tanh(a_g)
    da_f = df * f * (one - f)  # 2b: f = sigmoid(a_f)
    da_i = di * i * (one - i)  # 1b: i = sigmoid(a_i)
    _store_four(da, a, half, da_i, da_f, da_g, da_o)


def _general(name, activation, recurrent_activation, peephole, coupled):
    """Return both pointwise functions of an LSTM with options."""
    act, act_slope = ACTIVATIONS[activation]
    gate, gate_slope = ACTIVATIONS[recurrent_activation]
    load_gates, store_gates = (_load_three, _store_three) if coupled else (_load_four, _store_four)
    second = 0 if coupled else 1  # the peephole vector of o is the last one
    third = second + 1

    def pointwise(at, apart, carry, hidden, kept, diagonals):
        gates, g, half = at
        cells, c_from, c_to = carry
        h, _, h_to, left = hidden
        save_gates, values, k = kept
        weights, p, padded_units = diagonals
        a_i, a_f, a_g, a_o = load_gates(gates, g, half)
        c_prev = load(cells, c_from)
        if peephole:
            a_i = fma(load(weights, p), c_prev, a_i)  # 1p
            a_f = fma(load(weights, p + second * padded_units), c_prev, a_f)  # 2p
        i = gate(a_i)  # 1
        f = splat(i, 1.0) - i if coupled else gate(a_f)  # 2, or 2c
        z = act(a_g)  # 3
        c = fma(f, c_prev, i * z)  # 5
        if peephole:
            a_o = fma(load(weights, p + third * padded_units), c, a_o)  # 4p
        o = gate(a_o)  # 4
        store(cells, c_to, c)
        store_units(h, h_to, left, o * act(c))  # 6
        if save_gates:
            store_gates(values, k, half, i, f, z, o)

    def pointwise_backward(at, apart, carry, hidden, diagonals, back):
        gates, g, half = at
        cells, c_from, c_to = carry
        weights, p, padded_units = diagonals
        dc, d, dc_to, e, da, a, dh = back
        i, f, z, o = load_gates(gates, g, half)
        if coupled:
            f = splat(i, 1.0) - i
        c_prev = load(cells, c_from)
        act_c = act(load(cells, c_to))
        da_o = dh * act_c * gate_slope(o)  # 6b, 4b
        total = fma(dh * o, act_slope(act_c), load(dc, d))
        if peephole:
            total = fma(da_o, load(weights, p + third * padded_units), total)  # 4pb
        da_g = total * i * act_slope(z)  # 5b, 3b
        di, df = total * z, total * c_prev
        before = total * f
        if coupled:
            da_i = (di - df) * gate_slope(i)  # 2cb, 1b
            da_f = da_i
        else:
            da_f = df * gate_slope(f)  # 2b
            da_i = di * gate_slope(i)  # 1b
        if peephole:
            before = fma(da_i, load(weights, p), before)  # 1pb
            if not coupled:
                before = fma(da_f, load(weights, p + second * padded_units), before)  # 2pb
        store(dc_to, e, before)
        store_gates(da, a, half, da_i, da_f, da_g, da_o)

    return jit_inline(pointwise, name), jit_inline(pointwise_backward, name)


def lstm(
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    peephole: bool = False,
    coupled: bool = False,
    project: bool = False,
) -> Cell:
    """Return the LSTM cell with these options."""
    return _made(activation, recurrent_activation, peephole, coupled, project)


@lru_cache(maxsize=64)
def _made(
    activation: str,
    recurrent_activation: str,
    peephole: bool,
    coupled: bool,
    project: bool,
) -> Cell:
    """Make the cell once for each set of options."""
    gates = ("i", "g", "o") if coupled else ("i", "f", "g", "o")
    diagonals = tuple(gate for gate in gates if gate != "g") if peephole else ()
    parts = ["lstm", *(word for word, on in (("peephole", peephole), ("coupled", coupled), ("project", project)) if on)]
    plain = (activation, recurrent_activation, peephole, coupled) == ("tanh", "sigmoid", False, False)
    if plain:
        name = "_".join(parts)
        # A gate then needs ``2**a`` and nothing before it.
        scales: tuple[float, ...] = (-LOG2E, -LOG2E, 2.0 * LOG2E, -LOG2E)
        forward, backward = _pointwise, _pointwise_backward
    else:
        name = "_".join([*parts, activation, recurrent_activation])
        scales = (1.0,) * len(gates)
        forward, backward = _general(name, activation, recurrent_activation, peephole, coupled)
    return Cell(
        *(name, gates, scales, forward, backward),
        has_cell=True,
        has_carry=True,
        diagonals=diagonals,
        project=project,
    )
