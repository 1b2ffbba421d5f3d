/* What a beam search needs of one row of logits, in two passes: maxima by which most of the row can be passed over
 * later, then the sum of exponentials.
 *
 * `common/rowmath.h` has the like, made for sampling: maxima of consecutive elements, in a pass after the one that
 * finds the largest and the NaNs; partial sums over short blocks, which sampling bisects. Here one pass does all the former,
 * partial sums run four times as long, and what is only added up needs no exponential that is right to the last bit.
 *
 * This file includes itself once for each type.
 */
#ifndef REAL
#ifndef FASTLSTM_BEAM_ROWS_H
#define FASTLSTM_BEAM_ROWS_H
#include "common/rowmath.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-trapping-math") /* as in rowmath.h, for its two reasons */
#endif

enum {
    BEAM_CHUNK = 1024 /* a multiple of ROW_LANES: logits added up in their own precision before they go to double */
};

#define REAL float
#define ROW_INT int32_t
#define ROW_NAME(name) row_##name##_f32
#include "rows.h"
#undef REAL
#undef ROW_INT
#undef ROW_NAME

#define REAL double
#define ROW_INT int64_t
#define ROW_NAME(name) row_##name##_f64
#define ROW_DOUBLE
#include "rows.h"
#undef REAL
#undef ROW_INT
#undef ROW_NAME
#undef ROW_DOUBLE

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
#endif
#else

/* The row is cut into chunks of BEAM_CHUNK; the column j of chunk c is x[c * BEAM_CHUNK + j], and every ROW_LANES-th
 * after it to the end of the chunk. maxima[c * ROW_LANES + j] = the largest of that column, -inf of an empty one, for
 * ceil(n / BEAM_CHUNK) chunks: lane by lane, so nothing is ever added up across a vector. Returns the largest of all
 * (-inf for n = 0), and in *nan whether x holds a NaN (NaNs are passed over). */
static ROW_CLONES REAL ROW_NAME(column_maxima)(const REAL *restrict x, ptrdiff_t n, REAL *restrict maxima, int *nan)
{
    enum { HALF = ROW_LANES / 2 };
    REAL all[ROW_LANES], top = -INFINITY;
    ROW_INT bad[HALF] = {0}, any = 0;
    for (int j = 0; j < ROW_LANES; j++)
        all[j] = -INFINITY;
    for (ptrdiff_t start = 0; start < n; start += BEAM_CHUNK, maxima += ROW_LANES) {
        REAL best[ROW_LANES];
        ptrdiff_t end = n - start < BEAM_CHUNK ? n : start + BEAM_CHUNK, i = start;
        for (int j = 0; j < ROW_LANES; j++)
            best[j] = -INFINITY;
        for (; i + ROW_LANES <= end; i += ROW_LANES)
            for (int j = 0; j < HALF; j++) {
                REAL u = x[i + j], v = x[i + j + HALF];
                best[j] = u > best[j] ? u : best[j];
                best[j + HALF] = v > best[j + HALF] ? v : best[j + HALF];
                bad[j] = __builtin_isunordered(u, v) ? 1 : bad[j]; /* one comparison for two numbers */
            }
        for (int j = 0; i + j < end; j++) {
            best[j] = x[i + j] > best[j] ? x[i + j] : best[j];
            any |= x[i + j] != x[i + j];
        }
        for (int j = 0; j < ROW_LANES; j++) {
            maxima[j] = best[j];
            all[j] = best[j] > all[j] ? best[j] : all[j];
        }
    }
    for (int j = 0; j < ROW_LANES; j++)
        top = all[j] > top ? all[j] : top;
    for (int j = 0; j < HALF; j++)
        any |= bad[j];
    *nan = any != 0;
    return top;
}

/* exp(x) for x <= 0, to be added up. float: 2^t with t = x / ln 2 rounded, which costs a third fewer operations than
 * reducing x exactly; the error is below (2 + |x|) ulp, so that what it does to a sum shrinks as exp(x) does. A minimax
 * polynomial that is 1 at 0; below 2^-125 whatever is tiny. */
static inline __attribute__((always_inline)) REAL ROW_NAME(exp_term)(REAL x)
{
#ifdef ROW_DOUBLE
    return ROW_NAME(exp1)(x);
#else
    const REAL magic = 12582912.0f; /* 1.5 * 2^23: adding it leaves round(t) in the low bits */
    REAL t = x * 1.44269504f, shifted, r, p;
    int32_t exponent, bits;
    t = t > -125.0f ? t : -125.0f;
    shifted = t + magic;
    r = t - (shifted - magic);
    p = 1.32647273e-3f;
    p = p * r + 9.67151299e-3f;
    p = p * r + 5.55073358e-2f;
    p = p * r + 2.40222424e-1f;
    p = p * r + 6.93147004e-1f;
    p = p * r + 1.0f;
    memcpy(&exponent, &shifted, sizeof exponent);
    memcpy(&bits, &p, sizeof bits);
    bits = (int32_t)((uint32_t)bits + ((uint32_t)exponent << 23));
    memcpy(&p, &bits, sizeof p);
    return p;
#endif
}

/* The sum of exp(x - top), for a finite top >= every x. Meanwhile the row after this one is fetched from memory. */
static ROW_CLONES double ROW_NAME(long_exp_sum)(const REAL *restrict x, ptrdiff_t n, REAL top)
{
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += BEAM_CHUNK) {
        REAL lanes[ROW_LANES] = {0}, sum = 0;
        ptrdiff_t end = n - start < BEAM_CHUNK ? n : start + BEAM_CHUNK, i = start;
        for (; i + ROW_LANES <= end; i += ROW_LANES) {
            for (size_t byte = 0; byte < ROW_LANES * sizeof(REAL); byte += 64)
                __builtin_prefetch((const char *)(x + n + i) + byte, 0, 3);
            for (int j = 0; j < ROW_LANES; j++)
                lanes[j] += ROW_NAME(exp_term)(x[i + j] - top);
        }
        for (; i < end; i++)
            sum += ROW_NAME(exp_term)(x[i] - top);
        for (int width = ROW_LANES / 2; width >= 1; width /= 2)
            for (int j = 0; j < width; j++)
                lanes[j] += lanes[j + width];
        total += (double)(sum + lanes[0]);
    }
    return total;
}
#endif
