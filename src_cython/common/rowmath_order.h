/* The passes of rowmath.h that compare: maxima, the next and the number of elements in a range, ranks; for one type.
 * Included twice, with REAL, ROW_INT, ROW_UINT and ROW_NAME defined.
 *
 * Contract of every pass: `x`, `e`, `y` are arrays of at least `n` elements, aligned to their element and not
 * overlapping unless said; `n` may be 0; nothing is allocated.
 */

/* The largest of x, and in *nan whether one of them is NaN. NaNs are passed over; -inf for n = 0. best[j] = the largest
 * of x[j], x[j + ROW_LANES], ... of the whole blocks. */
static inline __attribute__((always_inline)) REAL ROW_NAME(lane_maxima)(const REAL *x, ptrdiff_t n, REAL *best,
                                                                         int *nan)
{
    enum { HALF = ROW_LANES / 2 };
    REAL most[HALF], top = -INFINITY;
    ROW_INT bad[HALF] = {0}, any = 0;
    ptrdiff_t i = 0;
    for (int j = 0; j < ROW_LANES; j++)
        best[j] = -INFINITY;
    for (; i + ROW_LANES <= n; i += ROW_LANES)
        for (int j = 0; j < HALF; j++) {
            REAL u = x[i + j], v = x[i + j + HALF];
            best[j] = u > best[j] ? u : best[j];
            best[j + HALF] = v > best[j + HALF] ? v : best[j + HALF];
            bad[j] = __builtin_isunordered(u, v) ? 1 : bad[j]; /* one comparison for two numbers */
        }
    for (; i < n; i++) {
        top = x[i] > top ? x[i] : top;
        any |= x[i] != x[i];
    }
    /* Halved step by step, and written out, so that all of it stays in registers. */
    for (int j = 0; j < 16; j++)
        most[j] = best[j + 16] > best[j] ? best[j + 16] : best[j];
    for (int j = 0; j < 8; j++)
        most[j] = most[j + 8] > most[j] ? most[j + 8] : most[j];
    for (int j = 0; j < 4; j++)
        most[j] = most[j + 4] > most[j] ? most[j + 4] : most[j];
    for (int j = 0; j < 4; j++)
        top = most[j] > top ? most[j] : top;
    for (int j = 0; j < HALF; j++)
        any |= bad[j];
    *nan = any != 0;
    return top;
}

static ROW_CLONES REAL ROW_NAME(max)(const REAL *x, ptrdiff_t n, int *nan)
{
    REAL best[ROW_LANES];
    return ROW_NAME(lane_maxima)(x, n, best, nan);
}

/* The lowest i with the largest x[i], and *nan as above; 0 where all of x is -inf. n >= 1. */
static ROW_CLONES ptrdiff_t ROW_NAME(first_maximum)(const REAL *x, ptrdiff_t n, int *nan)
{
    REAL best[ROW_LANES];
    REAL top = ROW_NAME(lane_maxima)(x, n, best, nan);
    ptrdiff_t whole = n - n % ROW_LANES, at = 0;
    uint32_t lanes = 0;
    for (int j = 0; j < ROW_LANES; j++)
        lanes |= (uint32_t)(best[j] == top) << j;
    if (whole && lanes && !(lanes & (lanes - 1))) { /* one lane has it: no branch here depends on where */
        x += __builtin_ctz(lanes);
        for (ptrdiff_t i = whole - ROW_LANES; i >= 0; i -= ROW_LANES)
            at = x[i] == top ? i : at;
        return at + __builtin_ctz(lanes);
    }
    while (at < n - 1 && !(x[at] >= top)) /* equals, or it stands after the whole blocks: rare or short */
        at++;
    return at;
}

/* maxima[b] = the largest of x[b * ROW_LANES ... ]; ceil(n / ROW_LANES) of them. x holds no NaN. */
static ROW_CLONES void ROW_NAME(block_maxima)(const REAL *restrict x, ptrdiff_t n, REAL *restrict maxima)
{
    for (ptrdiff_t i = 0; i < n; i += ROW_LANES) {
        REAL best[4] = {x[i], x[i], x[i], x[i]};
        if (i + ROW_LANES <= n) {
            for (int j = 0; j < ROW_LANES; j += 4)
                for (int l = 0; l < 4; l++)
                    best[l] = x[i + j + l] > best[l] ? x[i + j + l] : best[l];
            for (int l = 1; l < 4; l++)
                best[0] = best[l] > best[0] ? best[l] : best[0];
        } else
            for (ptrdiff_t j = i + 1; j < n; j++)
                best[0] = x[j] > best[0] ? x[j] : best[0];
        maxima[i / ROW_LANES] = best[0];
    }
}

/* The first i >= start with x[i] >= least, or n. */
static ROW_CLONES ptrdiff_t ROW_NAME(next_at_least)(const REAL *x, ptrdiff_t n, ptrdiff_t start, REAL least)
{
    ptrdiff_t i = start;
    for (; i + ROW_LANES <= n; i += ROW_LANES) {
        uint32_t hits = 0;
        for (int j = 0; j < ROW_LANES; j++)
            hits |= (uint32_t)(x[i + j] >= least) << j;
        if (hits)
            return i + __builtin_ctz(hits);
    }
    while (i < n && !(x[i] >= least))
        i++;
    return i;
}

/* The first i >= start with low <= x[i] <= high, or n. */
static ROW_CLONES ptrdiff_t ROW_NAME(next_between)(const REAL *x, ptrdiff_t n, ptrdiff_t start, REAL low, REAL high)
{
    ptrdiff_t i = start;
    for (; i + ROW_LANES <= n; i += ROW_LANES) {
        uint32_t hits = 0;
        for (int j = 0; j < ROW_LANES; j++)
            hits |= (uint32_t)((x[i + j] >= low) & (x[i + j] <= high)) << j;
        if (hits)
            return i + __builtin_ctz(hits);
    }
    while (i < n && !(x[i] >= low && x[i] <= high))
        i++;
    return i;
}

/* How many x are >= least. */
static ROW_CLONES ptrdiff_t ROW_NAME(count_at_least)(const REAL *x, ptrdiff_t n, REAL least)
{
    ROW_INT lanes[ROW_LANES] = {0};
    ptrdiff_t i = 0, count = 0;
    for (; i + ROW_LANES <= n; i += ROW_LANES)
        for (int j = 0; j < ROW_LANES; j++)
            lanes[j] += x[i + j] >= least;
    for (; i < n; i++)
        count += x[i] >= least;
    for (int j = 0; j < ROW_LANES; j++)
        count += lanes[j];
    return count;
}

/* The smallest of those x that are >= least; +inf where none is. */
static ROW_CLONES REAL ROW_NAME(smallest_at_least)(const REAL *x, ptrdiff_t n, REAL least)
{
    REAL best[ROW_LANES], found = INFINITY;
    ptrdiff_t i = 0;
    for (int j = 0; j < ROW_LANES; j++)
        best[j] = INFINITY;
    for (; i + ROW_LANES <= n; i += ROW_LANES)
        for (int j = 0; j < ROW_LANES; j++) {
            REAL v = x[i + j] >= least ? x[i + j] : (REAL)INFINITY;
            best[j] = v < best[j] ? v : best[j];
        }
    for (; i < n; i++)
        found = x[i] >= least && x[i] < found ? x[i] : found;
    for (int j = 0; j < ROW_LANES; j++)
        found = best[j] < found ? best[j] : found;
    return found;
}

/* A number as an integer of the same order, and back: neighbours in one are neighbours in the other, so a bisection
 * over the integers ends after as many steps as the number has bits. Both zeros are 0, as they compare equal. */
static inline ROW_INT ROW_NAME(rank)(REAL x)
{
    ROW_INT bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? (bits ^ (ROW_INT)((ROW_UINT)-1 >> 1)) + 1 : bits;
}

static inline REAL ROW_NAME(unrank)(ROW_INT rank)
{
    ROW_INT bits = rank < 0 ? (rank - 1) ^ (ROW_INT)((ROW_UINT)-1 >> 1) : rank;
    REAL x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
