/* Which of several threads that decode is in Python: a hint.

   A thread that asks for the GIL while another holds it is put to sleep, and waking takes 25 to 150 us, longer than a
   step's whole part in Python. So a search that has done its part without the GIL looks for a while whether another
   one is in Python, and asks when that one is out. The hint guards nothing: who has looked in vain for 200 us asks all
   the same.

   The model, and what the caller does from one search to the next, are not ours: they may take long and let go of the
   GIL. The hint stands meanwhile only for a thread that was back within 15 or 60 us the last time. Callbacks that choose
   ids or reorder states are taken to be short. */

#ifndef FASTLSTM_TURN_H
#define FASTLSTM_TURN_H

enum { TURN_MODEL, TURN_CALLER };

#if defined(__GNUC__) && !defined(Py_GIL_DISABLED)

#include <time.h>

#define TURN_PATIENCE 200000 /* ns */

static const long long turn_short[2] = {15000, 60000}; /* of the model, once a step, and of the caller, once a search */

static const void* turn_of = 0; /* the thread that is in Python, as far as known */

static __thread struct {
    long long began; /* ns */
    int is_short;
} turn_others[2]; /* its address tells threads apart */

static inline long long turn_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline void turn_hold(void) { __atomic_store_n(&turn_of, (const void*)turn_others, __ATOMIC_RELAXED); }

static inline void turn_leave(void) {
    const void* mine = turn_others;
    __atomic_compare_exchange_n(&turn_of, &mine, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Before asking for the GIL. */
static inline void turn_await(void) {
    long long began = 0;
    do {
        const void* nobody = 0;
        if (__atomic_load_n(&turn_of, __ATOMIC_RELAXED) == 0
            && __atomic_compare_exchange_n(
                &turn_of, &nobody, (const void*)turn_others, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return;
        }
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
        began = began ? began : turn_now();
    } while (turn_now() - began < TURN_PATIENCE);
}

static inline void turn_lend(int to) {
    turn_others[to].began = turn_now();
    if (!turn_others[to].is_short) {
        turn_leave();
    }
}

static inline void turn_return(int to) {
    turn_others[to].is_short = turn_now() - turn_others[to].began < turn_short[to];
    turn_hold();
}

#else
static inline void turn_hold(void) {}
static inline void turn_leave(void) {}
static inline void turn_await(void) {}
static inline void turn_lend(int to) { (void)to; }
static inline void turn_return(int to) { (void)to; }
#endif
#endif
