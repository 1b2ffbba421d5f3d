/* Which of several threads that decode is in Python: a hint.

   A thread that asks for the GIL while another holds it is put to sleep, and waking takes 25 to 150 us, longer than a
   step's whole part in Python. So a search that has done its part without the GIL looks for a while whether another
   one is in Python, and asks when that one is out. The hint guards nothing: a thread that has looked in vain for 200 us
   asks all the same.

   The model, and what the caller does from one search to the next, are not ours: they may take long and let go of the
   GIL. The hint stands meanwhile only for a thread that was back within 15 or 60 us the last time. Callbacks that
   choose ids or reorder states are taken to be short. */

#ifndef FASTLSTM_GIL_HINT_H
#define FASTLSTM_GIL_HINT_H

enum { HINT_MODEL, HINT_CALLER };

#if defined(__GNUC__) && !defined(Py_GIL_DISABLED)

#include <time.h>

#define HINT_PATIENCE 200000 /* ns */

static const long long hint_short[2] = {15000, 60000}; /* of the model, once a step, and of the caller, once a search */

static const void* hint_of = 0; /* the thread that is in Python, as far as known */

static __thread struct {
    long long began; /* ns */
    int is_short;
} hint_others[2]; /* its address tells threads apart */

static inline long long hint_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline void hint_hold(void) { __atomic_store_n(&hint_of, (const void*)hint_others, __ATOMIC_RELAXED); }

static inline void hint_leave(void) {
    const void* mine = hint_others;
    __atomic_compare_exchange_n(&hint_of, &mine, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Before asking for the GIL. */
static inline void hint_await(void) {
    long long began = 0;
    do {
        const void* none = 0;
        if (__atomic_load_n(&hint_of, __ATOMIC_RELAXED) == 0
            && __atomic_compare_exchange_n(
                &hint_of, &none, (const void*)hint_others, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return;
        }
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
        began = began ? began : hint_now();
    } while (hint_now() - began < HINT_PATIENCE);
}

static inline void hint_lend(int to) {
    hint_others[to].began = hint_now();
    if (!hint_others[to].is_short) {
        hint_leave();
    }
}

static inline void hint_return(int to) {
    hint_others[to].is_short = hint_now() - hint_others[to].began < hint_short[to];
    hint_hold();
}

#else
static inline void hint_hold(void) {}
static inline void hint_leave(void) {}
static inline void hint_await(void) {}
static inline void hint_lend(int to) { (void)to; }
static inline void hint_return(int to) { (void)to; }
#endif
#endif
