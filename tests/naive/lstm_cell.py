"""One step of an LSTM with all its options; the numbered lines are those of ``docs/lstm.md``."""

import numpy as np

from tests.naive.activations import slope, value
from tests.naive.products import Part, product, product_backward


def preactivations(spec, x, h_prev, weights, units):
    """Line 0: (H,) of each gate."""
    of_x, of_h = Part("ih", spec.gates, units, weights), Part("hh", spec.gates, units, weights)
    return {gate: of_x(gate, x) + of_h(gate, h_prev) for gate in spec.gates}


def peephole(weights, gate, unit):
    """The weight with which a gate sees the cell state; 0 without peepholes."""
    name = f"weight_c{gate}_l0"
    return weights[name][unit] if name in weights else 0.0


def step(spec, x, state, weights):
    """x (D,), state (h (P,), c (H,)): what each line computes, by its letter, and each gate's pre-activation."""
    h_prev, c_prev = state
    units = len(c_prev)
    a = preactivations(spec, x, h_prev, weights, units)  # 0
    found = {name: np.zeros(units) for name in "ifgocm"}
    for unit in range(units):
        a["i"][unit] += peephole(weights, "i", unit) * c_prev[unit]  # 1p
        i = value(spec.recurrent_activation, a["i"][unit])  # 1
        if spec.coupled:
            f = 1.0 - i  # 2c
        else:
            a["f"][unit] += peephole(weights, "f", unit) * c_prev[unit]  # 2p
            f = value(spec.recurrent_activation, a["f"][unit])  # 2
        g = value(spec.activation, a["g"][unit])  # 3
        c = f * c_prev[unit] + i * g  # 5
        a["o"][unit] += peephole(weights, "o", unit) * c  # 4p: the new c
        o = value(spec.recurrent_activation, a["o"][unit])  # 4
        m = o * value(spec.activation, c)  # 6
        for name, number in zip("ifgocm", (i, f, g, o, c, m), strict=True):
            found[name][unit] = number
    m = found.pop("m")
    h = product(weights["weight_hr_l0"], m) if spec.projection else m  # 7
    return found | {"h": h, "m": m, "a": a}


def step_backward(spec, x, state, weights, found, d_state, d_weights):
    """Return the gradients of x and of the state before, from that of the state after; add to `d_weights`."""
    h_prev, c_prev = state
    dh, dc_next = d_state
    units = len(c_prev)
    dm = dh
    if spec.projection:
        dm = product_backward(weights["weight_hr_l0"], found["m"], dh, d_weights["weight_hr_l0"])  # 7b
    da = {gate: np.zeros(units) for gate in spec.gates}
    dc_prev = np.zeros(units)
    for unit in range(units):
        i, f, g, o, c = (found[name][unit] for name in "ifgoc")
        before, a = c_prev[unit], {gate: found["a"][gate][unit] for gate in spec.gates}
        do = dm[unit] * value(spec.activation, c)  # 6b
        dc = dc_next[unit] + dm[unit] * o * slope(spec.activation, c)
        da_o = do * slope(spec.recurrent_activation, a["o"])  # 4b
        dc += da_o * peephole(weights, "o", unit)  # 4pb
        di, dg, df = dc * g, dc * i, dc * before  # 5b
        dc_prev[unit] = dc * f
        da_g = dg * slope(spec.activation, a["g"])  # 3b
        if spec.coupled:
            di -= df  # 2cb
            da_f = 0.0
        else:
            da_f = df * slope(spec.recurrent_activation, a["f"])  # 2b
        da_i = di * slope(spec.recurrent_activation, a["i"])  # 1b
        dc_prev[unit] += da_i * peephole(weights, "i", unit) + da_f * peephole(weights, "f", unit)  # 1pb, 2pb
        for gate, number, seen in (("i", da_i, before), ("f", da_f, before), ("g", da_g, 0.0), ("o", da_o, c)):
            if gate in spec.gates:
                da[gate][unit] = number
            if gate in spec.peepholes:
                d_weights[f"weight_c{gate}_l0"][unit] += number * seen
    dx, dh_prev = np.zeros(len(x)), np.zeros(len(h_prev))
    for gate in spec.gates:  # 0b
        dx += Part("ih", spec.gates, units, weights, d_weights).backward(gate, x, da[gate])
        dh_prev += Part("hh", spec.gates, units, weights, d_weights).backward(gate, h_prev, da[gate])
    return dx, (dh_prev, dc_prev)
