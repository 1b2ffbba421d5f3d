"""Gradients of attention: numbers with a b are those of the equations, backwards."""

from ...simd.across import hsum
from ...simd.denormals import flush, restore
from ...simd.dots import WIDTH
from ...simd.jit import jit, jit_inner
from ...simd.tile import COLUMNS, load_rows, store_rows
from ...simd.vector import fma, lanes_of, load_n, splat, store_n
from ..activations import tanh
from ..gemm import SAME_FOR_ALL
from .rows import ACROSS, QUERY_BLOCK, add, clear, copy, dots, gather, multiply, scatter, times

__all__ = ["attend_backward"]


@jit_inner
def _through_softmax(d, i, a, j, count):
    """Overwrite ``d[i:i + count]``, the gradient of the weights at ``a[j:]``, with that of their scores.

    ``de_s = a_s (da_s - sum over s of a_s da_s)``
    """
    lanes = lanes_of(d)
    part = splat(d, 0.0)
    for s in range(0, count, lanes):
        n = min(lanes, count - s)
        part = fma(load_n(a, j + s, n), load_n(d, i + s, n), part)
    mean = splat(d, hsum(part))
    for s in range(0, count, lanes):
        n = min(lanes, count - s)
        store_n(d, i + s, load_n(a, j + s, n) * (load_n(d, i + s, n) - mean), n)


@jit_inner
def _tanh_backward(u, key, scratch, rows, steps, padded, features, du, du_at):
    """Add to the panels dkey and to `du` what a block of query rows adds; write its own gradient to dquery.

    With the scores' gradient g_rs in dscores and ``y = tanh(q_r + k_s)``::

        dq_r = u sum over s of g (1 - y^2)      dk_s += sum over r of g (1 - y^2)      du += sum over both of g y

    dk_s lacks the factor u, which `_scale_panels` brings in when it is complete.
    """
    query, dquery, dkey, dscores = scratch.query, scratch.dquery, scratch.dkey, scratch.dscores
    width = COLUMNS * lanes_of(u)
    for r in range(rows):
        for f in range(0, features, width):
            at = f * rows + r * width
            q = load_rows(1, COLUMNS, query, at, 0)
            one = splat(q, 1.0)
            dq = splat(q, 0.0)
            for_u = splat(q, 0.0)
            for s in range(steps):
                g = splat(q, dscores[r * padded + s])
                k = f * padded + s * width
                y = tanh(q + load_rows(1, COLUMNS, key, k, 0))
                for_u = fma(g, y, for_u)
                slope = one - y * y
                dq = fma(g, slope, dq)
                store_rows(fma(g, slope, load_rows(1, COLUMNS, dkey, k, 0)), dkey, k, 0)
            store_rows(dq * load_rows(1, COLUMNS, u, f, 0), dquery, at, 0)
            store_rows(for_u + load_rows(1, COLUMNS, du, du_at + f, 0), du, du_at + f, 0)


@jit_inner
def _scale_panels(rows, u, features, padded):
    """Multiply panels of `padded` rows by u, feature by feature."""
    width = COLUMNS * lanes_of(u)
    for f in range(0, features, width):
        by = load_rows(1, COLUMNS, u, f, 0)
        for s in range(padded):
            at = f * padded + s * width
            store_rows(load_rows(1, COLUMNS, rows, at, 0) * by, rows, at, 0)


@jit
def attend_backward(pairs, query, key, value, u, mask, weights, outer, inner, scratch, begin, end):
    """Write the gradients of the rows of the pairs `begin` to `end`.

    pairs .. mask  as `attend` had them
    weights        (M, S)  float, in: as `attend` wrote them
    outer          ``(dcontext, dweights)``, in: gradients of the context, (M, F), and of the weights after dropout,
                   (M, S), or (0, S): none
    inner          ``(dquery, dkey, dvalue, du)``, out: gradients of the rows, (M, E), (rows of the memory, E) and
                   (rows of the memory, F), and of u for each pair, (N, P). With the values as keys theirs is the sum of
                   both, and dkey of length 0; so is du where the scores are dot products
    scratch        `BackwardScratch`, overwritten; one for each core
    """
    mode = flush()
    own_key = len(key[0]) > 0
    longest = weights.shape[1]
    kept, factors = weights.reshape(-1), mask.reshape(-1)
    dcontext, dweights = outer[0].reshape(-1), outer[1].reshape(-1)
    dquery, dkey, dvalue = inner[0].reshape(-1), inner[1].reshape(-1), inner[2].reshape(-1)
    du, each_u = inner[3].reshape(-1), inner[3].shape[1]
    rows, wide = query
    features = value[1]
    width = COLUMNS * lanes_of(kept)
    left, dscores = scratch.weights, scratch.dscores
    zeros = scratch.zeros, SAME_FOR_ALL
    for n in range(begin, end):
        partner = pairs.partners[n]
        steps = pairs.memory_steps[partner]
        padded = (steps + WIDTH - 1) // WIDTH * WIDTH
        gather(value[0], features, pairs.memory_rows, partner, 0, steps, scratch.value, padded)
        keys = scratch.value
        if own_key:
            keys = scratch.key
            gather(key[0], wide, pairs.memory_rows, partner, 0, steps, keys, padded)
        own_u = n * each_u
        if len(u):
            for f in range(each_u):
                du[own_u + f] = 0.0
            clear(scratch.dkey, (wide + width - 1) // width * width * padded)
        for first in range(0, pairs.query_steps[n], QUERY_BLOCK):
            count = min(QUERY_BLOCK, pairs.query_steps[n] - first)
            gather(rows, wide, pairs.query_rows, n, first, count, scratch.query, count)
            gather(dcontext, features, pairs.query_rows, n, first, count, scratch.dcontext, count)
            dots(
                scratch.dcontext, count, count, scratch.value, padded, features, dscores
            )  # 3b: da_ts = m_ts dc_t . v_s
            for r in range(count):
                at = r * padded
                m = (pairs.query_rows[first + r] + n) * longest
                copy(kept, m, left, at, steps)
                if len(dweights):
                    add(dscores, at, dweights, m, steps)
                if len(factors):
                    multiply(left, at, factors, m, steps)
                    multiply(dscores, at, factors, m, steps)
                _through_softmax(dscores, at, kept, m, steps)  # 2b
            # 3b: dv_s = sum over t of a_ts m_ts dc_t
            dvalues, dkeys = scratch.dvalue, scratch.dkey
            before = zeros if first == 0 else (dvalues, width)
            times((left, ACROSS), padded, steps, scratch.dcontext, count, count, features, before, dvalues, padded)
            # 1b
            if len(u):
                _tanh_backward(u, keys, scratch, count, steps, padded, wide, du, own_u)
            else:
                times((dscores, padded), 1, count, keys, padded, steps, wide, zeros, scratch.dquery, count)
                if not own_key:
                    dkeys = dvalues
                before = (dkeys, width) if first or not own_key else zeros
                times((dscores, ACROSS), padded, steps, scratch.query, count, count, wide, before, dkeys, padded)
            scatter(scratch.dquery, count, dquery, wide, pairs.query_rows, n, first, count)
        if len(u):
            _scale_panels(scratch.dkey, u, wide, padded)
        if own_key:
            scatter(scratch.dkey, padded, dkey, wide, pairs.memory_rows, partner, 0, steps)
        elif len(u):
            add(scratch.dvalue, 0, scratch.dkey, 0, (wide + width - 1) // width * width * padded)
        scatter(scratch.dvalue, padded, dvalue, features, pairs.memory_rows, partner, 0, steps)
    restore(mode)
