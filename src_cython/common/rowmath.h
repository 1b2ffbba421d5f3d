/* Passes over one row of numbers (logits, weights), for float and for double.
 *
 * Everything here is plain C that the compiler turns into vector code. Two rules keep a result the same on every
 * machine, whatever its vector width: a sum always runs in the same ROW_LANES partial sums, and a product is never
 * contracted into a fused multiply-add. The loops are written without branches for that reason.
 *
 * On x86-64 with glibc, gcc compiles each pass three times and the loader takes the one that this CPU can run; on
 * other targets there is one copy for the target's baseline. No build flag is needed.
 */
#ifndef FASTLSTM_ROWMATH_H
#define FASTLSTM_ROWMATH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
/* no-trapping-math: a comparison inside a loop may become a select. Nothing here reads the exception flags. */
#pragma GCC optimize("fp-contract=off", "no-trapping-math")
#if !defined(ROW_CLONES) && defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
/* -DROW_CLONES= builds the baseline alone. So does AddressSanitizer, which is not ready yet when the loader chooses. */
#define ROW_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif
#ifndef ROW_CLONES
#define ROW_CLONES
#endif

enum {
    ROW_LANES = 32,  /* partial sums and maxima kept side by side; 32, as the bits of a mask are one for each */
    ROW_BLOCK = 256  /* elements a cumulative block sum stands for; a multiple of ROW_LANES */
};

#define REAL float
#define ROW_INT int32_t
#define ROW_UINT uint32_t
#define ROW_NAME(name) row_##name##_f32
#include "rowmath_order.h"
#include "rowmath_weights.h"
#undef REAL
#undef ROW_INT
#undef ROW_UINT
#undef ROW_NAME

#define REAL double
#define ROW_INT int64_t
#define ROW_UINT uint64_t
#define ROW_NAME(name) row_##name##_f64
#define ROW_DOUBLE
#include "rowmath_order.h"
#include "rowmath_weights.h"
#undef REAL
#undef ROW_INT
#undef ROW_UINT
#undef ROW_NAME
#undef ROW_DOUBLE

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
#endif
