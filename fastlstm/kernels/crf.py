"""The linear-chain CRF (Lafferty et al. 2001): log-partition, posterior marginals and gradients.

The numbers are those of the equations in ``docs/crf.md``. For a sequence with emissions x_t, over all paths y_1 .. y_T
of K tags::

    1  score(y) = start[y_1] + sum_t x_t[y_t] + sum_{t>1} transitions[y_{t-1}, y_t] + end[y_T]
    2  loss     = log Z - score(gold path)                    log Z = log sum_y exp(score(y))

Everything is float64 inside, whatever the emissions are. There are two ways, chosen for each sequence.

**Scaled**: exponentials instead of logarithms, with the largest value of each step taken out, so that a step is a
product of a vector and a matrix, ``exp(transitions)``, which is made once::

    3  reached_t = alpha_{t-1} E                              E = exp(transitions - their largest)
    4  alpha_t   = reached_t * exp(x_t - max x_t) / c_t       c_t: the largest of the numerator

Factors and products below 1e-308 are lost, and what is negligible at one step might be all that is left at a later one:
behind forbidden transitions, or at emissions hundreds apart. So a bound goes along with alpha: what each step may lose,
at each tag, is taken along by the same products. The way counts only if that bound comes to at most `_LOST` of Z in the
end, and then it bounds the error of every probability too.

**Logarithms**: the textbook recursion, K^2 exponentials a step, where that fails. It has no limits.

Back through the steps, both go from probabilities to probabilities, with what the first pass has kept::

    5  pair_t[i, j] = alpha_{t-1}[i] E[i, j] marginal_t[j] / reached_t[j]
    6  marginal_{t-1}[i] = sum_j pair_t[i, j]

A NaN or +inf in the scores makes the loss, the log-partition and the marginals of its sequence NaN; -inf forbids.

Letters: N sequences, T steps of the longest, M rows, K tags, P = K up to whole float64 registers.
"""

import math

import numpy as np

from ..simd.across import hmax, hsum
from ..simd.denormals import flush, restore
from ..simd.host import REGISTERS
from ..simd.jit import jit, jit_inner
from ..simd.vector import fma, lanes_of, lanewise, load, splat, store, vmax
from .activations import vexp

__all__ = ["crf_gradient", "crf_losses", "crf_marginals", "padded_tags", "scratch_size"]

_LOST = 1e-14
"""Largest share of Z that the scaled way may lose."""

_EACH_STEP = 1e-200
"""More than a step loses at a tag, of what the best tag has: K factors or products of 1e-307, over `_SMALLEST`."""

_SMALLEST = 1e-100
"""Smallest scale c_t, and smallest share of the last step that may end the sequence."""

_VECTORS = 6
"""Rows of scratch for one step: see `_EMISSION` and those after it. The matrix E comes before them."""

_EMISSION, _BOUND, _NEXT_BOUND, _RATIO, _MARGINAL, _EARLIER = range(_VECTORS)


def padded_tags(tags: int) -> int:
    """Return P: how many float64 values a row of K tags takes in whole registers."""
    lanes = REGISTERS.lanes(8)
    return -(-tags // lanes) * lanes


def scratch_size(steps: int, tags: int) -> int:
    """Return how many float64 values of scratch a kernel needs for sequences of at most so many steps."""
    return (tags + _VECTORS + 2 * steps) * padded_tags(tags)


@lanewise
def _allowed(x):
    """``_allowed(x)``: 0 where x is -inf, else 1; 0 for NaN too, whose exponential is NaN anyway."""
    return x.one_above(-1.7e308)


@jit_inner
def _factor(x):
    """Return ``exp(x)``, at least 3e-308; 0 where x is -inf."""
    return vexp(x) * _allowed(x)


@jit_inner
def _read_row(emissions, row, scratch, at, padded):
    """Copy a row of emissions as float64 into scratch, -inf behind it; return its largest value."""
    tags = emissions.shape[1]
    for j in range(tags):
        scratch[at + j] = emissions[row, j]
    for j in range(tags, padded):
        scratch[at + j] = -np.inf
    return _largest(scratch, at, padded)


@jit_inner
def _largest(x, at, count):
    """Return the largest of whole registers (NaN may be passed over: the sums will hold it)."""
    high = load(x, at)
    for j in range(at + lanes_of(x), at + count, lanes_of(x)):
        high = vmax(high, load(x, j))
    return hmax(high)


@jit_inner
def _exponentials_of_moves(chain, tags, scratch):
    """Write E (K, P), of line 3, to scratch; return the largest transition."""
    padded = chain.shape[1]
    moves = chain.reshape(-1)
    highest = _largest(moves, 0, tags * padded)
    for i in range(0, tags * padded, lanes_of(scratch)):
        store(scratch, i, _factor(load(moves, i) - splat(scratch, highest)))
    return highest


@jit_inner
def _step_ahead(scratch, tags, padded, before, after, reached):
    """Take alpha and its bound one step on by lines 3 and 4, but for the scale, which is returned."""
    bound = (tags + _BOUND) * padded
    emission = (tags + _EMISSION) * padded
    high = splat(scratch, 0.0)
    highest = splat(scratch, _largest(scratch, emission, padded))
    for j in range(0, padded, lanes_of(scratch)):
        even, odd = splat(scratch, 0.0), splat(scratch, 0.0)  # two chains: a sum waits for itself only half as often
        lost_even, lost_odd = splat(scratch, 0.0), splat(scratch, 0.0)
        for i in range(0, tags - 1, 2):
            move, next_move = load(scratch, i * padded + j), load(scratch, (i + 1) * padded + j)
            even = fma(splat(scratch, scratch[before + i]), move, even)
            odd = fma(splat(scratch, scratch[before + i + 1]), next_move, odd)
            lost_even = fma(splat(scratch, scratch[bound + i]), move, lost_even)
            lost_odd = fma(splat(scratch, scratch[bound + i + 1]), next_move, lost_odd)
        if tags % 2:
            move = load(scratch, (tags - 1) * padded + j)
            even = fma(splat(scratch, scratch[before + tags - 1]), move, even)
            lost_even = fma(splat(scratch, scratch[bound + tags - 1]), move, lost_even)
        arrived = even + odd
        factor = _factor(load(scratch, emission + j) - highest)
        store(scratch, reached + j, arrived)
        store(scratch, after + j, arrived * factor)
        store(scratch, bound + padded + j, (lost_even + lost_odd) * factor)  # row _NEXT_BOUND
        high = vmax(arrived * factor, high)
    return hmax(high)


@jit_inner
def _scaled_ahead(emissions, offsets, n, length, chain, highest, scratch):
    """Return log Z of sequence n; NaN if it is, or if too much may be lost.

    Keeps alpha and reached of each step, and the last step's marginals.
    """
    tags, padded = emissions.shape[1], chain.shape[1]
    width = lanes_of(scratch)
    scores = chain.reshape(-1)
    emission, bound = (tags + _EMISSION) * padded, (tags + _BOUND) * padded
    alpha = (tags + _VECTORS) * padded
    reached = alpha + length * padded

    _read_row(emissions, n, scratch, emission, padded)
    for j in range(0, padded, width):
        store(scratch, alpha + j, load(scratch, emission + j) + load(scores, tags * padded + j))
    total = _largest(scratch, alpha, padded)
    for j in range(0, padded, width):
        store(scratch, alpha + j, _factor(load(scratch, alpha + j) - splat(scratch, total)))
        store(scratch, bound + j, splat(scratch, _EACH_STEP))
    for t in range(1, length):
        alpha += padded
        top = _read_row(emissions, offsets[t] + n, scratch, emission, padded)
        scale = _step_ahead(scratch, tags, padded, alpha - padded, alpha, reached + t * padded)
        if not scale >= _SMALLEST:
            return np.nan
        total += highest + top + math.log(scale)
        by, each = splat(scratch, 1.0 / scale), splat(scratch, _EACH_STEP)
        for j in range(0, padded, width):
            store(scratch, alpha + j, load(scratch, alpha + j) * by)
            store(scratch, bound + j, fma(load(scratch, bound + padded + j), by, each))

    marginal, end = (tags + _MARGINAL) * padded, (tags + 1) * padded
    top = _largest(scores, end, padded)
    kept, lost = splat(scratch, 0.0), splat(scratch, 0.0)
    for j in range(0, padded, width):
        factor = _factor(load(scores, end + j) - splat(scratch, top))
        ending = load(scratch, alpha + j) * factor
        store(scratch, marginal + j, ending)
        kept = kept + ending
        lost = fma(load(scratch, bound + j), factor, lost)
    share = hsum(kept)
    if not (share >= _SMALLEST and hsum(lost) <= _LOST * share):
        return np.nan
    for j in range(0, padded, width):
        store(scratch, marginal + j, load(scratch, marginal + j) * splat(scratch, 1.0 / share))
    return total + top + math.log(share)


@jit_inner
def _scaled_back(scratch, tags, padded, alpha, reached, sums, at, weight):
    """Take the marginals one step back by lines 5 and 6; add the pairs, times `weight`, to ``sums[at:]``."""
    width = lanes_of(scratch)
    ratio, marginal = (tags + _RATIO) * padded, (tags + _MARGINAL) * padded
    tiny = splat(scratch, 1e-300)  # what is smaller has a marginal of next to 0
    for j in range(0, padded, width):
        store(scratch, ratio + j, load(scratch, marginal + j) / vmax(load(scratch, reached + j), tiny))
    by = splat(scratch, weight)
    for i in range(tags):
        from_i = splat(scratch, scratch[alpha + i])
        total = splat(scratch, 0.0)
        for j in range(0, padded, width):
            pair = load(scratch, i * padded + j) * load(scratch, ratio + j) * from_i
            total = total + pair
            if weight != 0.0:
                place = at + i * padded + j
                store(sums, place, fma(pair, by, load(sums, place)))
        scratch[marginal + i] = hsum(total)


@jit_inner
def _log_sum(x, at, step, y, begin, count):
    """Return ``log sum_k exp(x[at + k * step] + y[begin + k])``; -inf where all are."""
    highest = -np.inf
    for k in range(count):
        value = x[at + k * step] + y[begin + k]
        if not value <= highest:  # NaN too: the sum will be NaN
            highest = value
    if highest == -np.inf:
        return highest
    total = 0.0
    for k in range(count):
        total += math.exp(x[at + k * step] + y[begin + k] - highest)
    return highest + math.log(total)


@jit_inner
def _logs_ahead(emissions, offsets, n, length, chain, scratch):
    """Return log Z of sequence n. Keeps the logarithms of alpha and reached, without scales, and the last marginals."""
    tags, padded = emissions.shape[1], chain.shape[1]
    scores = chain.reshape(-1)
    alpha = (tags + _VECTORS) * padded
    reached = alpha + length * padded
    for j in range(tags):
        scratch[alpha + j] = scores[tags * padded + j] + emissions[n, j]
    for t in range(1, length):
        for j in range(tags):
            arrived = _log_sum(scores, j, padded, scratch, alpha, tags)
            scratch[reached + t * padded + j] = arrived
            scratch[alpha + padded + j] = arrived + emissions[offsets[t] + n, j]
        alpha += padded
    marginal, end = (tags + _MARGINAL) * padded, (tags + 1) * padded
    total = _log_sum(scores, end, 1, scratch, alpha, tags)
    for j in range(tags):
        scratch[marginal + j] = math.exp(scratch[alpha + j] + scores[end + j] - total)
    return total


@jit_inner
def _logs_back(chain, scratch, tags, padded, alpha, reached, sums, at, weight):
    """Do as `_scaled_back` does, from logarithms."""
    scores = chain.reshape(-1)
    marginal, earlier = (tags + _MARGINAL) * padded, (tags + _EARLIER) * padded
    for i in range(tags):
        total = 0.0
        for j in range(tags):
            if scratch[marginal + j] != 0.0:  # else nothing may have arrived
                move = scores[i * padded + j]
                share = math.exp(scratch[alpha + i] + move - scratch[reached + j])
                pair = share * scratch[marginal + j]
                total += pair
                if weight != 0.0:
                    sums[at + i * padded + j] += weight * pair
        scratch[earlier + i] = total
    for i in range(tags):
        scratch[marginal + i] = scratch[earlier + i]


@jit_inner
def _ahead(emissions, offsets, n, length, chain, highest, scratch):
    """Return log Z of sequence n, and whether alpha and reached are scaled or logarithms."""
    log_z = _scaled_ahead(emissions, offsets, n, length, chain, highest, scratch)
    if log_z == log_z:
        return log_z, True
    return _logs_ahead(emissions, offsets, n, length, chain, scratch), False


@jit_inner
def _gold(emissions, tags, offsets, n, length, chain):
    """Return the score of the gold path, by line 1."""
    count = emissions.shape[1]
    tag = tags[n]
    score = chain[count, tag] + np.float64(emissions[n, tag])
    for t in range(1, length):
        row = offsets[t] + n
        score += chain[tag, tags[row]]
        tag = tags[row]
        score += np.float64(emissions[row, tag])
    return score + chain[count + 1, tag]


@jit
def crf_losses(emissions, tags, offsets, lengths, chain, losses, scratch, begin, end):
    """Write the loss of sequences begin to end - 1.

    emissions  (M, K)      float32 or float64, contiguous, in
    tags       (M,)        int64, in: the gold path, each in 0 .. K - 1
    offsets    (T + 1,)    int64, in: row of the first sequence at each step
    lengths    (N,)        int64, in: of each sequence, 1 .. T
    chain      (K + 2, P)  float64, contiguous, in: transitions from row to column, start, end; -inf behind column K
    losses     (N,)        float64, out: log Z - score(gold path)
    scratch    (scratch_size(T, K),)  float64, of this call alone
    """
    mode = flush()
    highest = _exponentials_of_moves(chain, emissions.shape[1], scratch)
    for n in range(begin, end):
        log_z, _ = _ahead(emissions, offsets, n, lengths[n], chain, highest, scratch)
        losses[n] = log_z - _gold(emissions, tags, offsets, n, lengths[n], chain)
    restore(mode)


@jit
def crf_marginals(emissions, offsets, lengths, chain, marginals, partitions, scratch, begin, end):
    """Write the marginals and log Z of sequences begin to end - 1. Arguments not named here: see `crf_losses`.

    marginals   (M, K)  float of the emissions' type, contiguous, out; may be the emissions themselves
    partitions  (N,)    float64, out: log Z; -inf where every path is forbidden, the marginals then being NaN
    """
    mode = flush()
    tags, padded = emissions.shape[1], chain.shape[1]
    highest = _exponentials_of_moves(chain, tags, scratch)
    marginal = (tags + _MARGINAL) * padded
    for n in range(begin, end):
        length = lengths[n]
        partitions[n], scaled = _ahead(emissions, offsets, n, length, chain, highest, scratch)
        alpha = (tags + _VECTORS) * padded
        reached = alpha + length * padded
        for t in range(length - 1, -1, -1):
            row = offsets[t] + n
            for j in range(tags):
                marginals[row, j] = scratch[marginal + j]
            if t:
                before, here = alpha + (t - 1) * padded, reached + t * padded
                if scaled:
                    _scaled_back(scratch, tags, padded, before, here, scratch, 0, 0.0)
                else:
                    _logs_back(chain, scratch, tags, padded, before, here, scratch, 0, 0.0)
    restore(mode)


@jit
def crf_gradient(emissions, tags, weights, offsets, lengths, chain, losses, sums, scratch, begin, end):
    """Write losses, and overwrite emissions with the gradient of ``sum(weights * losses)``.

    The sequences fall into B blocks: block b has the sequences b, b + B, b + 2 B and so on. Blocks begin to end - 1 are
    computed. Which sequences are added up, in which order, thus does not depend on how many cores there are. Arguments
    not named here: see `crf_losses`; the emissions are in/out.

    weights  (N,)            float64, in: d value / d losses[n]; for 0 the loss is not computed, but 0 too
    sums     (B, K + 2, P)   float64, contiguous, out: of each block, the gradient of the chain
    """
    mode = flush()
    count, padded = emissions.shape[1], chain.shape[1]
    highest = _exponentials_of_moves(chain, count, scratch)
    marginal = (count + _MARGINAL) * padded
    flat = sums.reshape(-1)
    blocks, size = sums.shape[0], (count + 2) * padded
    for block in range(begin, end):
        sums[block] = 0.0
        at = block * size
        for n in range(block, len(lengths), blocks):
            length, weight = lengths[n], weights[n]
            if weight == 0.0:
                losses[n] = 0.0
                for t in range(length):
                    for j in range(count):
                        emissions[offsets[t] + n, j] = 0.0
                continue
            log_z, scaled = _ahead(emissions, offsets, n, length, chain, highest, scratch)
            losses[n] = log_z - _gold(emissions, tags, offsets, n, length, chain)
            alpha = (count + _VECTORS) * padded
            reached = alpha + length * padded
            for j in range(count):
                sums[block, count + 1, j] += weight * scratch[marginal + j]
            sums[block, count + 1, tags[offsets[length - 1] + n]] -= weight
            for t in range(length - 1, -1, -1):
                row = offsets[t] + n
                for j in range(count):
                    emissions[row, j] = weight * scratch[marginal + j]
                emissions[row, tags[row]] = weight * (scratch[marginal + tags[row]] - 1.0)
                if t:
                    sums[block, tags[offsets[t - 1] + n], tags[row]] -= weight
                    before, here = alpha + (t - 1) * padded, reached + t * padded
                    if scaled:
                        _scaled_back(scratch, count, padded, before, here, flat, at, weight)
                    else:
                        _logs_back(chain, scratch, count, padded, before, here, flat, at, weight)
            for j in range(count):
                sums[block, count, j] += weight * scratch[marginal + j]
            sums[block, count, tags[n]] -= weight
    restore(mode)
