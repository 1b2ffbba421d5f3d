"""The filters of sampling, each on one row: which candidates stay.

A row is a set of candidates with a score ``y`` (the logit, over the temperature) each. A filter takes candidates out
in one of two ways that mean the same: their score becomes -inf and their weight 0, or, where few are left, the rest
moves together and ``ids`` remembers who they were. Either way candidates stay in the order of their ids.

Every filter works on what the filters before it left, as if its probabilities were computed again, and leaves at least
one candidate. Weights are ``e = exp(y - top)``, computed by the first filter that asks and cut down with the rest.
"""

from libc.math cimport INFINITY, exp, fabs, fmin, isinf, log, sqrt
from libc.stdint cimport int32_t, int64_t

from common.select cimport (
    ROW_LANES, count_at_least, cumulate, gather, mask, mask_weighed, midpoint, next_at_least, next_between, rank_of,
    real, row_max, smallest_at_least, sort_candidates, sum_above, top_k_threshold, value_of, weigh_cumulate,
)

cdef enum:
    SAMPLE = 3072  # candidates, or up to twice as many, that tell about where the cut by mass is
    FEW = 32  # candidates that are sorted rather than narrowed further


cdef struct Row:
    Py_ssize_t n  # candidates, those of score -inf included
    const void* y  # real[n] scores: the caller's logits themselves, or own
    void* own  # real[V]: scores that may be written
    int32_t* ids  # int32[n] the candidates' ids, ascending; NULL: candidate i is id i
    int32_t* id_space  # int32[V] where ids go
    double top  # what the weights are relative to: the largest score at the start
    double total  # sum of the weights, where weighed
    bint weighed  # whether e holds the weights of y
    void* key  # real[V] scratch: an order other than that of the scores
    void* part  # real[V + V / ROW_LANES + 2] scratch: the candidates near a cut
    void* part_weight  # real[V] scratch
    double* sums  # double[V / ROW_BLOCK + 1] cumulative weights


# ``e`` (real[V], the weights) is the argument that tells every function below the type of the row's arrays.

cdef inline void weigh(Row* row, real* e) noexcept nogil:
    """Compute the weights and their total, unless they are there."""
    if not row.weighed:
        row.total = weigh_cumulate(<const real*>row.y, row.n, <real>row.top, e, row.sums)
        row.weighed = True


cdef inline void keep(Row* row, real* e, const real* key, real cut, Py_ssize_t skip) noexcept nogil:
    """Take out the candidates whose key is below the cut, and the first ``skip`` of those whose key equals it."""
    cdef const real* y = <const real*>row.y
    cdef real* own = <real*>row.own
    cdef Py_ssize_t i, kept = 0
    # Measured: to move one candidate costs what a pass over 100 or so does.
    if count_at_least(key, row.n, cut) * 128 > row.n:
        i = next_at_least(key, row.n, 0, cut) if skip > 0 else row.n
        if skip > 0 and y != own:
            mask(key, row.n, cut, y, own)
            y = own
        while skip > 0 and i < row.n:
            if key[i] == cut:
                own[i] = <real>-INFINITY
                if row.weighed:
                    e[i] = 0
                skip -= 1
            i = next_at_least(key, row.n, i + 1, cut)
        if row.weighed:
            row.total = mask_weighed(key, row.n, cut, y, own, e, row.sums)
        else:
            mask(key, row.n, cut, y, own)
    else:
        i = next_at_least(key, row.n, 0, cut)
        while i < row.n:
            if key[i] == cut and skip > 0:
                skip -= 1
            else:
                row.id_space[kept] = row.ids[i] if row.ids != NULL else <int32_t>i
                if row.weighed:
                    e[kept] = e[i]
                own[kept] = y[i]
                kept += 1
            i = next_at_least(key, row.n, i + 1, cut)
        row.n = kept
        row.ids = row.id_space
        if row.weighed:
            row.total = cumulate(<const real*>e, row.n, row.sums)
    row.y = own


cdef inline bint wanted(double before, double total, real share) noexcept nogil:
    """Whether a candidate with this much weight before it is still needed to reach the share.

    Compared in the type of the logits, so that shares that are equal on paper (0.9 of ten equal candidates) are.
    """
    return <real>(before / total) < share


cdef inline void cut_by_share(
    Row* row, real* e, const real* key, real share, real* cut, Py_ssize_t* skip
) noexcept nogil:
    """Find the fewest candidates, by descending key, that hold the share of the weight.

    ``cut`` is the key of the last of them; of the candidates of that very key the first ``skip`` are not needed.

    The cut is the smallest key that is still wanted given the weight above it. In a long row a sample tells the few
    per cent of the candidates it is among; then it is bracketed by bisection, one vectorised pass a step, first over
    the values of the keys, then (keys that are not spread out) over their bit patterns; at last the few keys in the
    bracket are sorted.
    """
    cdef const real* weight = e
    cdef Py_ssize_t n = row.n
    cdef int nan = 0, step = 0
    cdef real high = row_max(key, n, &nan), low, value
    cdef double before = 0
    cdef int64_t below = rank_of(<real>-INFINITY) - 1, above = rank_of(high), middle  # the cut is in (below, above]
    if n > 4096:
        before = gather_near(row, e, key, high, share, &n)
        key, weight = <const real*>row.part, <const real*>row.part_weight
        above = rank_of(row_max(key, n, &nan))
        below = rank_of(smallest_at_least(key, n, <real>-INFINITY)) - 1
    else:  # keys are logarithms: what is this far below the top holds less than exp(-8) of the weight
        value = high - <real>(log(<double>n) + 8)
        if value < high and not wanted(sum_above(key, weight, n, value), row.total, share):
            below = rank_of(value)
    while above > below + 1 and (step % 4 != 0 or between(key, n, below, above) > FEW):
        middle = midpoint(below, above - 1)
        if step < 24:
            value_of(max(below, rank_of(<real>-INFINITY)), &low)
            value_of(above, &high)
            value = low + (high - low) / 2
            if low < value < high:
                middle = rank_of(value)
        value_of(middle, &value)
        if wanted(before + sum_above(key, weight, n, value), row.total, share):
            above = middle
        else:
            below = middle
        step += 1
    walk_bracket(key, weight, n, below, above, before, row.total, share, cut, skip)


cdef inline Py_ssize_t between(const real* key, Py_ssize_t n, int64_t below, int64_t above) noexcept nogil:
    """How many keys have a rank in (below, above]."""
    cdef real low, high
    value_of(below + 1, &low)
    value_of(above, &high)
    if isinf(high):
        return count_at_least(key, n, low)
    value_of(above + 1, &high)
    return count_at_least(key, n, low) - count_at_least(key, n, high)


cdef inline double gather_near(
    Row* row, const real* e, const real* key, real top, real share, Py_ssize_t* near
) noexcept nogil:
    """Move the keys and weights of the few candidates that the cut is among to ``part``; return the weight above them.

    The sample makes a guess, with a margin; where the weights say that it is wrong, the margin is widened.
    """
    cdef real* part = <real*>row.part
    cdef real* weight = <real*>row.part_weight
    cdef Py_ssize_t n = row.n, step = max(n // SAMPLE, <Py_ssize_t>2) * ROW_LANES, start, i, size
    cdef double target = (1 - share) * row.total * ROW_LANES / step, margin = 0.125, before
    cdef real low, high
    while margin < 1:
        start, size = 0, 0
        while start + ROW_LANES <= n:
            for i in range(start, start + ROW_LANES):
                part[size], weight[size] = key[i], e[i]
                size += 1
            start += step
        low = weight_edge(<const real*>part, <const real*>weight, size, n, top, target * (1 - margin), False)
        high = weight_edge(<const real*>part, <const real*>weight, size, n, top, target * (1 + margin), True)
        before = sum_above(key, e, n, high)
        near[0] = gather(key, e, n, low, high, part, weight)
        if wanted(before, row.total, share) and not wanted(
            before + sum_above(<const real*>part, <const real*>weight, near[0], <real>-INFINITY), row.total, share
        ):
            return before
        margin *= 4
    near[0] = gather(key, e, n, <real>-INFINITY, top, part, weight)
    return 0


cdef inline real weight_edge(
    const real* key, const real* e, Py_ssize_t n, Py_ssize_t of, real top, double target, bint above
) noexcept nogil:
    """About the key that ``target`` of the weight is below, from the side that is asked for; found by bisection.

    Keys are logarithms, so what is log(of) + 8 below the top holds less than exp(-8) of the weight of that many.
    """
    cdef real low = <real>(top - log(<double>of) - 8), high = top, value
    cdef double total = sum_above(key, e, n, <real>-INFINITY)
    cdef int step
    for step in range(10):
        value = low + (high - low) / 2
        if total - sum_above(key, e, n, value) < target:
            low = value
        else:
            high = value
    return high if above else low


cdef inline void walk_bracket(
    const real* key, const real* weight, Py_ssize_t n, int64_t below, int64_t above, double before, double total,
    real share, real* cut, Py_ssize_t* skip,
) noexcept nogil:
    """End ``cut_by_share``: the keys of rank in (below, above] are few, or all the same."""
    cdef real few[FEW]
    cdef int32_t where[FEW]
    cdef real low, high
    cdef Py_ssize_t i, equal = 0, count = 0
    value_of(below + 1, &low)
    value_of(above, &high)
    before += sum_above(key, weight, n, high)
    i = next_between(key, n, 0, low, high)
    if above == below + 1:  # all the same: how many more of them fit?
        cut[0] = high
        while i < n:
            equal += 1
            if wanted(before, total, share):
                count += 1
                before += weight[i]
            i = next_between(key, n, i + 1, low, high)
        skip[0] = equal - max(count, <Py_ssize_t>1)
        return
    while i < n:
        few[count], where[count] = key[i], <int32_t>i
        count += 1
        i = next_between(key, n, i + 1, low, high)
    sort_candidates(few, where, count)
    i = 0
    while i < count and (i == 0 or wanted(before, total, share)):
        before += weight[where[i]]
        i += 1
    cut[0] = few[i - 1]
    skip[0] = 0
    while i < count and few[i] == cut[0]:
        skip[0] += 1
        i += 1


# --- The filters ------------------------------------------------------------------------------------------------

cdef inline void filter_top_k(Row* row, real* e, Py_ssize_t k) noexcept nogil:
    """Keep the k largest scores, and all that equal the k-th."""
    cdef const real* y = <const real*>row.y
    if k < row.n:
        keep(row, e, y, top_k_threshold(y, row.n, k, <real>row.top, <real*>row.part), 0)


cdef inline void filter_top_p(Row* row, real* e, double share) noexcept nogil:
    """Keep the fewest, largest first, that hold the share of the probability (Holtzman et al., 2020).

    Of equal scores at the cut the higher ids stay, as in a stable ascending sort.
    """
    cdef real cut
    cdef Py_ssize_t skip
    weigh(row, e)
    cut_by_share(row, e, <const real*>row.y, <real>share, &cut, &skip)
    keep(row, e, <const real*>row.y, cut, skip)


cdef inline void filter_min_p(Row* row, real* e, double least) noexcept nogil:
    """Keep what is at least ``least`` times as probable as the most probable (Nguyen et al., 2024)."""
    cdef int nan = 0
    # Most candidates are far below the bound and need no weight: a bound loose enough for any rounding comes first.
    if not row.weighed and least > 0:
        keep(row, e, <const real*>row.y, <real>(row.top + log(least) - 0.01 - 1e-6 * fabs(row.top)), 0)
    weigh(row, e)
    keep(row, e, <const real*>e, <real>least * row_max(<const real*>e, row.n, &nan), 0)


cdef inline void filter_typical(Row* row, real* e, double share) noexcept nogil:
    """Keep the fewest that hold the share, those first whose surprise is nearest to the mean (Meister et al., 2023)."""
    cdef real* key = <real*>row.key
    cdef real cut
    cdef Py_ssize_t skip, i
    cdef double mean, log_total
    weigh(row, e)
    mean = entropy(row, <const real*>e)
    log_total = log(row.total)
    for i in range(row.n):  # -|surprise - mean surprise|
        key[i] = <real>-fabs(row.top + log_total - (<const real*>row.y)[i] - mean)
    cut_by_share(row, e, <const real*>key, <real>share, &cut, &skip)
    keep(row, e, <const real*>key, cut, 0)


cdef inline void filter_cutoff(Row* row, real* e, double least) noexcept nogil:
    """Keep what has a probability of at least ``least``, or else the most probable (Hewitt et al., 2022: epsilon)."""
    cdef int nan = 0
    cdef real most
    weigh(row, e)
    most = row_max(<const real*>e, row.n, &nan)
    if <real>(most / row.total) < <real>least:
        keep(row, e, <const real*>row.y, row_max(<const real*>row.y, row.n, &nan), 0)
    else:
        keep(row, e, <const real*>e, <real>(least * row.total), 0)


cdef inline double eta_cutoff(Row* row, real* e, double epsilon) noexcept nogil:
    """The cutoff that falls with the entropy: min(epsilon, sqrt(epsilon) * exp(-H)) (Hewitt et al., 2022: eta)."""
    weigh(row, e)
    return fmin(epsilon, sqrt(epsilon) * exp(-entropy(row, <const real*>e)))


cdef inline double entropy(Row* row, const real* e) noexcept nogil:
    """The entropy in nats of the candidates' probabilities: log(total) - sum(e * (y - top)) / total."""
    cdef const real* y = <const real*>row.y
    cdef double sum = 0
    cdef Py_ssize_t i
    for i in range(row.n):
        if e[i] > 0:  # 0 * -inf counts as 0
            sum += <double>e[i] * (<double>y[i] - row.top)
    return log(row.total) - sum / row.total
