"""One step of a GRU, the reset gate after the product or before it; the numbered lines are those of ``docs/gru.md``."""

import numpy as np

from tests.naive.activations import slope, value
from tests.naive.products import Part


def step(spec, x, state, weights):
    """x (D,), state (h (H,),): what each line computes, by its letter."""
    (h_prev,) = state
    units = len(h_prev)
    of_x, of_h = Part("ih", spec.gates, units, weights), Part("hh", spec.gates, units, weights)
    a = {gate: of_x(gate, x) for gate in "rzn"}  # 0
    r, z, n, h = (np.zeros(units) for _ in range(4))
    for gate, out in (("r", r), ("z", z)):
        a[gate] = a[gate] + of_h(gate, h_prev)
        for unit in range(units):
            out[unit] = value(spec.recurrent_activation, a[gate][unit])  # 1, 2
    u = of_h("n", h_prev if spec.reset_after else r * h_prev)
    a["n"] = a["n"] + (r * u if spec.reset_after else u)
    for unit in range(units):
        n[unit] = value(spec.activation, a["n"][unit])  # 3
        h[unit] = (1.0 - z[unit]) * n[unit] + z[unit] * h_prev[unit]  # 4
    return {"r": r, "z": z, "n": n, "h": h, "u": u, "a": a}


def step_backward(spec, x, state, weights, found, d_state, d_weights):
    """Return the gradients of x and of the state before, from that of the state after; add to `d_weights`."""
    (h_prev,), (dh,) = state, d_state
    units = len(h_prev)
    of_x = Part("ih", spec.gates, units, weights, d_weights)
    of_h = Part("hh", spec.gates, units, weights, d_weights)
    r, z, n, u, a = (found[name] for name in ("r", "z", "n", "u", "a"))
    da = {gate: np.zeros(units) for gate in "rzn"}
    dh_prev = np.zeros(units)
    for unit in range(units):
        dz = dh[unit] * (h_prev[unit] - n[unit])  # 4b
        dh_prev[unit] = dh[unit] * z[unit]
        da["n"][unit] = dh[unit] * (1.0 - z[unit]) * slope(spec.activation, a["n"][unit])  # 3b
        da["z"][unit] = dz * slope(spec.recurrent_activation, a["z"][unit])  # 2b
    if spec.reset_after:
        dr = da["n"] * u
        dh_prev += of_h.backward("n", h_prev, da["n"] * r)
    else:
        d_reset = of_h.backward("n", r * h_prev, da["n"])
        dr = d_reset * h_prev
        dh_prev += d_reset * r
    for unit in range(units):
        da["r"][unit] = dr[unit] * slope(spec.recurrent_activation, a["r"][unit])  # 1b
    for gate in "rz":  # 0b
        dh_prev += of_h.backward(gate, h_prev, da[gate])
    dx = sum(of_x.backward(gate, x, da[gate]) for gate in "rzn")
    return dx, (dh_prev,)
