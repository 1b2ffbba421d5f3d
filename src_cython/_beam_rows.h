/* What a beam search needs of one row of logits, in two passes: maxima by which most of the row can be passed over
 * later, then the sum of exponentials.
 *
 * `_rowmath.h` has the like, made for sampling: maxima of consecutive elements, in a pass after the one that finds the
 * largest and the NaNs; partial sums over short blocks, which sampling bisects. Here one pass does all the former, and
 * partial sums run four times as long.
 *
 * This file includes itself once for each type.
 */
#ifndef REAL
#ifndef FASTLSTM_BEAM_ROWS_H
#define FASTLSTM_BEAM_ROWS_H
#include "_rowmath.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-trapping-math") /* as in _rowmath.h, for its two reasons */
#endif

enum {
    BEAM_CHUNK = 1024 /* a multiple of ROW_LANES: logits added up in their own precision before they go to double */
};

#define REAL float
#define ROW_INT int32_t
#define ROW_NAME(name) row_##name##_f32
#include "_beam_rows.h"
#undef REAL
#undef ROW_INT
#undef ROW_NAME

#define REAL double
#define ROW_INT int64_t
#define ROW_NAME(name) row_##name##_f64
#include "_beam_rows.h"
#undef REAL
#undef ROW_INT
#undef ROW_NAME

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
    REAL best[ROW_LANES], all[ROW_LANES], top = -INFINITY;
    ROW_INT bad[ROW_LANES] = {0}, any = 0;
    for (int j = 0; j < ROW_LANES; j++)
        all[j] = -INFINITY;
    for (ptrdiff_t start = 0; start < n; start += BEAM_CHUNK, maxima += ROW_LANES) {
        ptrdiff_t end = n - start < BEAM_CHUNK ? n : start + BEAM_CHUNK, i = start;
        for (int j = 0; j < ROW_LANES; j++)
            best[j] = -INFINITY;
        for (; i + ROW_LANES <= end; i += ROW_LANES)
            for (int j = 0; j < ROW_LANES; j++) {
                REAL v = x[i + j];
                best[j] = v > best[j] ? v : best[j];
                bad[j] |= v != v;
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
    for (int j = 0; j < ROW_LANES; j++) {
        top = all[j] > top ? all[j] : top;
        any |= bad[j];
    }
    *nan = any != 0;
    return top;
}

/* The sum of exp(x - top), for a finite top >= every x. */
static ROW_CLONES double ROW_NAME(long_exp_sum)(const REAL *restrict x, ptrdiff_t n, REAL top)
{
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += BEAM_CHUNK) {
        REAL lanes[ROW_LANES] = {0}, sum = 0;
        ptrdiff_t end = n - start < BEAM_CHUNK ? n : start + BEAM_CHUNK, i = start;
        for (; i + ROW_LANES <= end; i += ROW_LANES)
            for (int j = 0; j < ROW_LANES; j++)
                lanes[j] += ROW_NAME(exp1)(x[i + j] - top);
        for (; i < end; i++)
            sum += ROW_NAME(exp1)(x[i] - top);
        for (int width = ROW_LANES / 2; width >= 1; width /= 2)
            for (int j = 0; j < width; j++)
                lanes[j] += lanes[j + width];
        total += (double)(sum + lanes[0]);
    }
    return total;
}
#endif
