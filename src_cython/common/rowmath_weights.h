/* The passes of rowmath.h that compute: quotients, differences, exponentials and their sums; for one type.
 * Included twice, with REAL, ROW_INT, ROW_UINT and ROW_NAME defined.
 *
 * Contract of every pass: `x`, `e`, `y` are arrays of at least `n` elements, aligned to their element and not
 * overlapping unless said; `n` may be 0; nothing is allocated.
 */

/* exp(x) for x <= 0: error below 1.1 ulp (float) or 1.5 ulp (double); 0 below ROW_LOWEST and for -inf; NaN gives
 * something finite. exp(x) = 2^k * exp(r), k = round(x / ln 2), |r| <= ln(2) / 2; ln 2 is split in two so that
 * k * LN2_HIGH is exact (Cody and Waite, 1980). The polynomials are Cephes' (float) and Taylor's (double). */
#ifdef ROW_DOUBLE
#define ROW_LOWEST -708.0
#else
#define ROW_LOWEST -87.0f
#endif
static inline __attribute__((always_inline)) REAL ROW_NAME(exp1)(REAL x)
{
    REAL clamped = x > ROW_LOWEST ? x : ROW_LOWEST;
    ROW_INT bits;
    ROW_UINT scale;
    REAL power;
#ifdef ROW_DOUBLE
    const REAL magic = 6755399441055744.0; /* 1.5 * 2^52: adding it leaves round(x) in the low bits */
    REAL shifted = clamped * 1.4426950408889634 + magic;
    REAL k = shifted - magic;
    REAL r = (clamped - k * 0.693145751953125) - k * 1.42860682030941723212e-6;
    REAL p = 1.6059043836821613e-10;
    p = p * r + 2.08767569878681e-09;
    p = p * r + 2.505210838544172e-08;
    p = p * r + 2.755731922398589e-07;
    p = p * r + 2.7557319223985893e-06;
    p = p * r + 2.48015873015873e-05;
    p = p * r + 0.0001984126984126984;
    p = p * r + 0.001388888888888889;
    p = p * r + 0.008333333333333333;
    p = p * r + 0.041666666666666664;
    p = p * r + 0.16666666666666666;
    p = p * r + 0.5;
    p = p * (r * r) + r + 1.0;
    memcpy(&bits, &shifted, sizeof bits);
    scale = ((ROW_UINT)bits << 52) + ((ROW_UINT)1023 << 52);
#else
    const REAL magic = 12582912.0f; /* 1.5 * 2^23 */
    REAL shifted = clamped * 1.44269504f + magic;
    REAL k = shifted - magic;
    REAL r = (clamped - k * 0.693359375f) + k * 2.12194440e-4f;
    REAL p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    memcpy(&bits, &shifted, sizeof bits);
    scale = ((ROW_UINT)bits << 23) + ((ROW_UINT)127 << 23);
#endif
    memcpy(&power, &scale, sizeof power);
    return x > ROW_LOWEST ? p * power : (REAL)0;
}

/* y = x / by. y may be x. */
static ROW_CLONES void ROW_NAME(divide)(const REAL *x, ptrdiff_t n, REAL by, REAL *y)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = x[i] / by;
}

/* y = x - by. y may be x. */
static ROW_CLONES void ROW_NAME(subtract)(const REAL *x, ptrdiff_t n, REAL by, REAL *y)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = x[i] - by;
}

/* e = exp((x - top) * scale), for top >= every x and scale > 0. e may be x. */
static ROW_CLONES void ROW_NAME(exp)(const REAL *x, ptrdiff_t n, REAL top, REAL scale, REAL *e)
{
    for (ptrdiff_t i = 0; i < n; i++)
        e[i] = ROW_NAME(exp1)((x[i] - top) * scale);
}

/* Half of the lanes, a quarter and so on, as vectors. The compiler cuts them to the registers there are; arrays of
 * partial sums it would store and load again in every turn. */
typedef REAL ROW_NAME(vec16) __attribute__((vector_size(16 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef REAL ROW_NAME(vec8) __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef REAL ROW_NAME(vec4) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef ROW_INT ROW_NAME(mask16) __attribute__((vector_size(16 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define VEC ROW_NAME(vec16)
#define MASK ROW_NAME(mask16)
#define LOAD(from) (*(const VEC *)(from))

/* The sum of ROW_LANES partial sums, the first half in a and the second in b. */
static inline __attribute__((always_inline)) REAL ROW_NAME(lane_sum)(const VEC *a, const VEC *b)
{
    VEC half = *a + *b;
    ROW_NAME(vec8) quarter = ((const ROW_NAME(vec8) *)&half)[0] + ((const ROW_NAME(vec8) *)&half)[1];
    ROW_NAME(vec4) eighth = ((const ROW_NAME(vec4) *)&quarter)[0] + ((const ROW_NAME(vec4) *)&quarter)[1];
    return (eighth[0] + eighth[2]) + (eighth[1] + eighth[3]);
}

/* The sum of e, n <= ROW_BLOCK, in the one order that every sum of this file has. */
static inline __attribute__((always_inline)) double ROW_NAME(block_sum)(const REAL *e, ptrdiff_t n)
{
    VEC a = {0}, b = {0};
    REAL sum = 0;
    ptrdiff_t k = 0;
    for (; k + ROW_LANES <= n; k += ROW_LANES) {
        a += LOAD(e + k);
        b += LOAD(e + k + 16);
    }
    for (; k < n; k++)
        sum += e[k];
    return (double)(sum + ROW_NAME(lane_sum)(&a, &b));
}

/* Below, sums[b] = e[0] + ... + e[(b + 1) * ROW_BLOCK - 1]: ceil(n / ROW_BLOCK) cumulative sums of the weights e, of
 * which the last is returned. A block is summed while it is in the nearest cache. */
static ROW_CLONES double ROW_NAME(sums)(const REAL *restrict e, ptrdiff_t n, double *restrict sums)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += ROW_BLOCK)
        sums[i / ROW_BLOCK] = total += ROW_NAME(block_sum)(e + i, n - i < ROW_BLOCK ? n - i : ROW_BLOCK);
    return total;
}

/* e = exp(x - top), for top >= every x, and its sums. */
static ROW_CLONES double ROW_NAME(weigh)(const REAL *restrict x, ptrdiff_t n, REAL top, REAL *restrict e,
                                          double *restrict sums)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += ROW_BLOCK) {
        ptrdiff_t size = n - i < ROW_BLOCK ? n - i : ROW_BLOCK;
        for (ptrdiff_t k = i; k < i + size; k++)
            e[k] = ROW_NAME(exp1)(x[k] - top);
        sums[i / ROW_BLOCK] = total += ROW_NAME(block_sum)(e + i, size);
    }
    return total;
}

/* The sums of exp((x - top) * scale), which are not stored. */
static ROW_CLONES double ROW_NAME(exp_sums)(const REAL *restrict x, ptrdiff_t n, REAL top, REAL scale,
                                             double *restrict sums)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += ROW_BLOCK) {
        REAL e[ROW_BLOCK];
        ptrdiff_t size = n - i < ROW_BLOCK ? n - i : ROW_BLOCK;
        for (ptrdiff_t k = 0; k < size; k++)
            e[k] = ROW_NAME(exp1)((x[i + k] - top) * scale);
        sums[i / ROW_BLOCK] = total += ROW_NAME(block_sum)(e, size);
    }
    return total;
}

/* Their total alone. */
static double ROW_NAME(exp_sum)(const REAL *x, ptrdiff_t n, REAL top, REAL scale)
{
    double total = 0, sum;
    for (ptrdiff_t i = 0; i < n; i += ROW_BLOCK) {
        ROW_NAME(exp_sums)(x + i, n - i < ROW_BLOCK ? n - i : ROW_BLOCK, top, scale, &sum);
        total += sum;
    }
    return total;
}

/* The sum of those e whose key is > above. */
static ROW_CLONES double ROW_NAME(sum_above)(const REAL *restrict key, const REAL *restrict e, ptrdiff_t n, REAL above)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += ROW_BLOCK) {
        VEC a = {0}, b = {0};
        REAL sum = 0;
        ptrdiff_t end = n - i < ROW_BLOCK ? n : i + ROW_BLOCK, k = i;
        for (; k + ROW_LANES <= end; k += ROW_LANES) {
            a += (VEC)((MASK)LOAD(e + k) & (LOAD(key + k) > above));
            b += (VEC)((MASK)LOAD(e + k + 16) & (LOAD(key + k + 16) > above));
        }
        for (; k < end; k++)
            sum += key[k] > above ? e[k] : (REAL)0;
        total += (double)(sum + ROW_NAME(lane_sum)(&a, &b));
    }
    return total;
}

/* Copy the key and the weight of those with low <= key <= high to part and part_weight, in order; return how many
 * there are. Both have room for all n. */
static ROW_CLONES ptrdiff_t ROW_NAME(gather)(const REAL *restrict key, const REAL *restrict e, ptrdiff_t n, REAL low,
                                              REAL high, REAL *restrict part, REAL *restrict part_weight)
{
    ptrdiff_t kept = 0, i = 0;
    for (; i + ROW_LANES <= n; i += ROW_LANES) {
        uint32_t hits = 0;
        for (int j = 0; j < ROW_LANES; j++)
            hits |= (uint32_t)((key[i + j] >= low) & (key[i + j] <= high)) << j;
        ptrdiff_t place = kept;
        kept += __builtin_popcount(hits);
        do /* four at a time, kept or not: a branch for each would often be foretold wrongly */
            for (int j = 0; j < 4; j++, hits &= hits - 1, place++) {
                ptrdiff_t k = i + __builtin_ctz(hits | 1u << 31);
                part[place] = key[k];
                part_weight[place] = e[k];
            }
        while (hits);
    }
    for (; i < n; i++)
        if (key[i] >= low && key[i] <= high) {
            part[kept] = key[i];
            part_weight[kept++] = e[i];
        }
    return kept;
}

/* y_out = y where key >= cut, else -inf. key and y_out may be y. */
static ROW_CLONES void ROW_NAME(mask)(const REAL *key, ptrdiff_t n, REAL cut, const REAL *y, REAL *y_out)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y_out[i] = key[i] >= cut ? y[i] : -(REAL)INFINITY;
}

/* The same, and e = 0 there, and the sums of e. key may also be e. */
static ROW_CLONES double ROW_NAME(mask_weighed)(const REAL *key, ptrdiff_t n, REAL cut, const REAL *y, REAL *y_out,
                                                 REAL *e, double *sums)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += ROW_BLOCK) {
        VEC a = {0}, b = {0};
        REAL sum = 0;
        ptrdiff_t end = n - i < ROW_BLOCK ? n : i + ROW_BLOCK, k = i;
        for (; k + ROW_LANES <= end; k += ROW_LANES)
            for (int half = 0; half < ROW_LANES; half += 16) {
                MASK in = LOAD(key + k + half) >= cut;
                VEC weight = (VEC)((MASK)LOAD(e + k + half) & in), none = (VEC){0} - (REAL)INFINITY;
                *(VEC *)(y_out + k + half) = (VEC)(((MASK)LOAD(y + k + half) & in) | ((MASK)none & ~in));
                *(VEC *)(e + k + half) = weight;
                if (half)
                    b += weight;
                else
                    a += weight;
            }
        for (; k < end; k++) {
            int in = key[k] >= cut;
            y_out[k] = in ? y[k] : -(REAL)INFINITY;
            sum += e[k] = in ? e[k] : (REAL)0;
        }
        sums[i / ROW_BLOCK] = total += (double)(sum + ROW_NAME(lane_sum)(&a, &b));
    }
    return total;
}

#undef ROW_LOWEST
#undef VEC
#undef MASK
#undef LOAD
