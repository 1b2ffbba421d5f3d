"""Selection over one row of numbers: maximum, log-sum-exp, k-th largest, top k, cut by mass.

Every function is inline, free of the GIL, of allocation and of validation, and written once for float and double
(``real``). Common terms: ``x`` is a row of ``n`` numbers that holds no NaN (``row_max`` is the one that tells);
scratch is the caller's; ids are int32, so ``n < 2**31``. The passes themselves stand in ``rowmath.h``.

The order of candidates is everywhere: larger value first, among equal values the lower id first.
"""

from libc.math cimport INFINITY, isinf, log
from libc.stdint cimport int32_t, int64_t

ctypedef fused real:
    float
    double


cdef extern from "common/rowmath.h" nogil:
    const int ROW_LANES, ROW_BLOCK
    float row_max_f32(const float*, Py_ssize_t, int*) noexcept
    double row_max_f64(const double*, Py_ssize_t, int*) noexcept
    Py_ssize_t row_first_maximum_f32(const float*, Py_ssize_t, int*) noexcept
    Py_ssize_t row_first_maximum_f64(const double*, Py_ssize_t, int*) noexcept
    void row_block_maxima_f32(const float*, Py_ssize_t, float*) noexcept
    void row_block_maxima_f64(const double*, Py_ssize_t, double*) noexcept
    Py_ssize_t row_next_at_least_f32(const float*, Py_ssize_t, Py_ssize_t, float) noexcept
    Py_ssize_t row_next_at_least_f64(const double*, Py_ssize_t, Py_ssize_t, double) noexcept
    Py_ssize_t row_next_between_f32(const float*, Py_ssize_t, Py_ssize_t, float, float) noexcept
    Py_ssize_t row_next_between_f64(const double*, Py_ssize_t, Py_ssize_t, double, double) noexcept
    Py_ssize_t row_count_at_least_f32(const float*, Py_ssize_t, float) noexcept
    Py_ssize_t row_count_at_least_f64(const double*, Py_ssize_t, double) noexcept
    float row_smallest_at_least_f32(const float*, Py_ssize_t, float) noexcept
    double row_smallest_at_least_f64(const double*, Py_ssize_t, double) noexcept
    void row_divide_f32(const float*, Py_ssize_t, float, float*) noexcept
    void row_divide_f64(const double*, Py_ssize_t, double, double*) noexcept
    void row_subtract_f32(const float*, Py_ssize_t, float, float*) noexcept
    void row_subtract_f64(const double*, Py_ssize_t, double, double*) noexcept
    void row_exp_f32(const float*, Py_ssize_t, float, float, float*) noexcept
    void row_exp_f64(const double*, Py_ssize_t, double, double, double*) noexcept
    double row_sums_f32(const float*, Py_ssize_t, double*) noexcept
    double row_sums_f64(const double*, Py_ssize_t, double*) noexcept
    double row_weigh_f32(const float*, Py_ssize_t, float, float*, double*) noexcept
    double row_weigh_f64(const double*, Py_ssize_t, double, double*, double*) noexcept
    double row_exp_sum_f32(const float*, Py_ssize_t, float, float) noexcept
    double row_exp_sum_f64(const double*, Py_ssize_t, double, double) noexcept
    double row_exp_sums_f32(const float*, Py_ssize_t, float, float, double*) noexcept
    double row_exp_sums_f64(const double*, Py_ssize_t, double, double, double*) noexcept
    double row_sum_above_f32(const float*, const float*, Py_ssize_t, float) noexcept
    double row_sum_above_f64(const double*, const double*, Py_ssize_t, double) noexcept
    void row_mask_f32(const float*, Py_ssize_t, float, const float*, float*) noexcept
    void row_mask_f64(const double*, Py_ssize_t, double, const double*, double*) noexcept
    double row_mask_weighed_f32(const float*, Py_ssize_t, float, const float*, float*, float*, double*) noexcept
    double row_mask_weighed_f64(const double*, Py_ssize_t, double, const double*, double*, double*, double*) noexcept
    Py_ssize_t row_gather_f32(const float*, const float*, Py_ssize_t, float, float, float*, float*) noexcept
    Py_ssize_t row_gather_f64(const double*, const double*, Py_ssize_t, double, double, double*, double*) noexcept
    int32_t row_rank_f32(float) noexcept
    int64_t row_rank_f64(double) noexcept
    float row_unrank_f32(int32_t) noexcept
    double row_unrank_f64(int64_t) noexcept


# --- One name for both types ------------------------------------------------------------------------------------

cdef inline real row_max(const real* x, Py_ssize_t n, int* nan) noexcept nogil:
    """The largest of x (-inf for n = 0); ``nan[0]`` says whether x holds a NaN."""
    if real is float:
        return row_max_f32(x, n, nan)
    else:
        return row_max_f64(x, n, nan)


cdef inline void block_maxima(const real* x, Py_ssize_t n, real* maxima) noexcept nogil:
    """Write the largest of every ROW_LANES elements; ``maxima`` has ceil(n / ROW_LANES)."""
    if real is float:
        row_block_maxima_f32(x, n, maxima)
    else:
        row_block_maxima_f64(x, n, maxima)


cdef inline Py_ssize_t next_at_least(const real* x, Py_ssize_t n, Py_ssize_t start, real least) noexcept nogil:
    """The first i >= start with x[i] >= least, or n."""
    if real is float:
        return row_next_at_least_f32(x, n, start, least)
    else:
        return row_next_at_least_f64(x, n, start, least)


cdef inline Py_ssize_t next_between(
    const real* x, Py_ssize_t n, Py_ssize_t start, real low, real high
) noexcept nogil:
    """The first i >= start with low <= x[i] <= high, or n."""
    if real is float:
        return row_next_between_f32(x, n, start, low, high)
    else:
        return row_next_between_f64(x, n, start, low, high)


cdef inline Py_ssize_t count_at_least(const real* x, Py_ssize_t n, real least) noexcept nogil:
    """How many of x are >= least."""
    if real is float:
        return row_count_at_least_f32(x, n, least)
    else:
        return row_count_at_least_f64(x, n, least)


cdef inline void divide(const real* x, Py_ssize_t n, real by, real* y) noexcept nogil:
    """y = x / by; y may be x."""
    if real is float:
        row_divide_f32(x, n, by, y)
    else:
        row_divide_f64(x, n, by, y)


cdef inline void subtract(const real* x, Py_ssize_t n, real by, real* y) noexcept nogil:
    """y = x - by; y may be x."""
    if real is float:
        row_subtract_f32(x, n, by, y)
    else:
        row_subtract_f64(x, n, by, y)


cdef inline void exponentials(const real* x, Py_ssize_t n, real top, real scale, real* e) noexcept nogil:
    """e = exp((x - top) * scale), for top >= every x; e may be x."""
    if real is float:
        row_exp_f32(x, n, top, scale, e)
    else:
        row_exp_f64(x, n, top, scale, e)


cdef inline double cumulate(const real* e, Py_ssize_t n, double* sums) noexcept nogil:
    """The sum of e; ``sums[b]`` is the sum of the first ``(b + 1) * ROW_BLOCK`` (all ceil(n / ROW_BLOCK) of them)."""
    if real is float:
        return row_sums_f32(e, n, sums)
    else:
        return row_sums_f64(e, n, sums)


cdef inline double exp_sum(const real* x, Py_ssize_t n, real top, real scale) noexcept nogil:
    """The sum of exp((x - top) * scale), for top >= every x."""
    if real is float:
        return row_exp_sum_f32(x, n, top, scale)
    else:
        return row_exp_sum_f64(x, n, top, scale)


cdef inline double exp_cumulate(const real* x, Py_ssize_t n, real top, real scale, double* sums) noexcept nogil:
    """``cumulate`` of exp((x - top) * scale) without storing it."""
    if real is float:
        return row_exp_sums_f32(x, n, top, scale, sums)
    else:
        return row_exp_sums_f64(x, n, top, scale, sums)


cdef inline double sum_above(const real* key, const real* e, Py_ssize_t n, real above) noexcept nogil:
    """The sum of those e whose key is > above."""
    if real is float:
        return row_sum_above_f32(key, e, n, above)
    else:
        return row_sum_above_f64(key, e, n, above)


cdef inline double weigh_cumulate(const real* x, Py_ssize_t n, real top, real* e, double* sums) noexcept nogil:
    """e = exp(x - top), for top >= every x, and ``cumulate`` of it."""
    if real is float:
        return row_weigh_f32(x, n, top, e, sums)
    else:
        return row_weigh_f64(x, n, top, e, sums)


cdef inline void mask(const real* key, Py_ssize_t n, real cut, const real* y, real* y_out) noexcept nogil:
    """y_out = y where key >= cut, else -inf; key and y_out may be y."""
    if real is float:
        row_mask_f32(key, n, cut, y, y_out)
    else:
        row_mask_f64(key, n, cut, y, y_out)


cdef inline double mask_weighed(
    const real* key, Py_ssize_t n, real cut, const real* y, real* y_out, real* e, double* sums
) noexcept nogil:
    """``mask``, and e = 0 there, and ``cumulate`` of e; key may also be e."""
    if real is float:
        return row_mask_weighed_f32(key, n, cut, y, y_out, e, sums)
    else:
        return row_mask_weighed_f64(key, n, cut, y, y_out, e, sums)


cdef inline Py_ssize_t gather(
    const real* key, const real* e, Py_ssize_t n, real low, real high, real* part, real* part_weight
) noexcept nogil:
    """Copy the keys from low to high, both included, and their weights to part and part_weight; return how many."""
    if real is float:
        return row_gather_f32(key, e, n, low, high, part, part_weight)
    else:
        return row_gather_f64(key, e, n, low, high, part, part_weight)


cdef inline int64_t rank_of(real x) noexcept nogil:
    """x as an integer of the same order."""
    if real is float:
        return row_rank_f32(x)
    else:
        return row_rank_f64(x)


cdef inline void value_of(int64_t rank, real* x) noexcept nogil:
    """``x[0]`` becomes the number whose ``rank_of`` is ``rank``."""
    if real is float:
        x[0] = row_unrank_f32(<int32_t>rank)
    else:
        x[0] = row_unrank_f64(rank)


# --- Selection --------------------------------------------------------------------------------------------------

cdef inline int64_t midpoint(int64_t low, int64_t high) noexcept nogil:
    """An m with low < m <= high for low < high; written so that no difference overflows."""
    return (low >> 1) + (high >> 1) + ((low | high) & 1)


cdef inline double log_sum_exp(const real* x, Py_ssize_t n, int* nan) noexcept nogil:
    """log(sum(exp(x))); -inf where all of x is -inf or n = 0, +inf where x holds +inf."""
    cdef real top = row_max(x, n, nan)
    if nan[0] or isinf(top):
        return top
    return <double>top + log(exp_sum(x, n, top, 1))


cdef inline Py_ssize_t first_maximum(const real* x, Py_ssize_t n, int* nan) noexcept nogil:
    """The lowest id of the largest x; 0 where all of x is -inf. n >= 1."""
    cdef Py_ssize_t start, best = 0
    cdef real top = <real>-INFINITY, here
    cdef int bad, any_bad = 0
    if n > 1024:  # so that only one chunk is read twice, and it from a near cache
        for start in range(0, n, 1024):
            here = row_max(x + start, min(n - start, <Py_ssize_t>1024), &bad)
            any_bad |= bad
            if here > top:
                top, best = here, start
        n = min(n - best, <Py_ssize_t>1024)
    if real is float:
        best += row_first_maximum_f32(x + best, n, nan)
    else:
        best += row_first_maximum_f64(x + best, n, nan)
    nan[0] |= any_bad
    return best


cdef inline real smallest_at_least(const real* x, Py_ssize_t n, real least) noexcept nogil:
    """The smallest of those x that are >= least; +inf where none is."""
    if real is float:
        return row_smallest_at_least_f32(x, n, least)
    else:
        return row_smallest_at_least_f64(x, n, least)


cdef inline real kth_largest(const real* x, Py_ssize_t n, Py_ssize_t k, real top) noexcept nogil:
    """The k-th largest of x, equal values counted each; 1 <= k <= n, ``top`` the largest.

    Bisects with one counting pass a step, in place and with no scratch: first over the values, which ends after
    about log2(n) steps when they are spread out; then over their bit patterns, at most 32 steps for float and 64 for
    double whatever the data.
    """
    cdef real low = <real>-INFINITY, high = top, value
    cdef int64_t below, above, middle
    cdef Py_ssize_t count
    cdef int step
    if count_at_least(x, n, top) >= k or isinf(top):
        return top
    value = top - 1
    for step in range(24):  # count(x >= high) < k throughout; count(x >= low) > k, or low = -inf
        count = count_at_least(x, n, value)
        if count == k:
            return smallest_at_least(x, n, value)
        if count > k:
            low = value
        else:
            high = value
        value = low + (high - low) / 2 if low > <real>-INFINITY else top - 2 * (top - high)
        if not low < value < high:
            break
    below, above = rank_of(low), rank_of(high) - 1
    while below < above:
        middle = midpoint(below, above)
        value_of(middle, &value)
        if count_at_least(x, n, value) >= k:
            below = middle
        else:
            above = middle - 1
    value_of(below, &value)
    return value


cdef inline real top_k_threshold(
    const real* x, Py_ssize_t n, Py_ssize_t k, real top, real* scratch
) noexcept nogil:
    """``kth_largest`` in about one pass over x where k is small beside n; scratch: n + ceil(n / ROW_LANES) + 1.

    The k-th largest of the blocks' maxima is reached by at least k elements of x, so what is below it is out, and it
    stands in few blocks.
    """
    cdef Py_ssize_t blocks = (n + ROW_LANES - 1) // ROW_LANES
    cdef Py_ssize_t b, i, end, kept = 0
    cdef real* maxima = scratch + n
    cdef real least
    if 4 * k > blocks:
        return kth_largest(x, n, k, top)
    block_maxima(x, n, maxima)
    least = kth_largest(<const real*>maxima, blocks, k, top)
    b = next_at_least(<const real*>maxima, blocks, 0, least)
    while b < blocks:
        end = min(n, (b + 1) * ROW_LANES)
        for i in range(b * ROW_LANES, end):
            scratch[kept] = x[i]
            kept += x[i] >= least
        b = next_at_least(<const real*>maxima, blocks, b + 1, least)
    return kth_largest(<const real*>scratch, kept, k, top)


cdef inline bint comes_before(real x, int32_t i, real y, int32_t j) noexcept nogil:
    """Whether candidate (x, i) stands before (y, j): larger value, then lower id."""
    return x > y or (x == y and i < j)


cdef inline void sort_candidates(real* value, int32_t* id, Py_ssize_t n) noexcept nogil:
    """Heap sort in place into the order of candidates: no scratch, n log n whatever the data."""
    cdef Py_ssize_t start = n // 2, end = n, root, child
    cdef real v
    cdef int32_t i
    while end > 1:
        if start > 0:  # build the heap, whose root is the candidate that comes last
            start -= 1
        else:  # and take its root away
            end -= 1
            value[0], value[end] = value[end], value[0]
            id[0], id[end] = id[end], id[0]
        root = start
        v, i = value[root], id[root]
        while True:
            child = 2 * root + 1
            if child >= end:
                break
            if child + 1 < end and comes_before(value[child], id[child], value[child + 1], id[child + 1]):
                child += 1
            if not comes_before(v, i, value[child], id[child]):
                break
            value[root], id[root] = value[child], id[child]
            root = child
        value[root], id[root] = v, i


cdef inline Py_ssize_t top_k(
    const real* x, Py_ssize_t n, Py_ssize_t k, real* value, int32_t* id, real* scratch
) noexcept nogil:
    """Write the min(k, n) first candidates of x, sorted, and return how many; k >= 0.

    Entries of -inf count as candidates and come last. ``value`` and ``id`` have room for min(k, n); scratch:
    n + ceil(n / ROW_LANES) + 1.
    """
    cdef Py_ssize_t i, kept = 0, ties
    cdef int nan = 0
    cdef real least
    k = min(k, n)
    if k <= 0:
        return 0
    least = top_k_threshold(x, n, k, row_max(x, n, &nan), scratch)
    # Fewer than k are larger than the k-th; the lowest ids of its equals fill the rest. So count those first.
    i = next_at_least(x, n, 0, least)
    ties = k
    while i < n:
        ties -= x[i] > least
        i = next_at_least(x, n, i + 1, least)
    i = next_at_least(x, n, 0, least)
    while i < n and kept < k:
        if x[i] > least or ties > 0:
            ties -= x[i] == least
            value[kept] = x[i]
            id[kept] = <int32_t>i
            kept += 1
        i = next_at_least(x, n, i + 1, least)
    sort_candidates(value, id, kept)
    return kept
