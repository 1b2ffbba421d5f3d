/* Which of several threads that decode is in Python: a hint.

   A thread that asks for the GIL while another holds it is put to sleep, and waking takes 25 to 150 us, longer than a
   step's whole part in Python. So a search that has done its part without the GIL looks for a while whether another
   one is in Python, and asks when that one is out. The hint guards nothing: who has looked in vain for some 200 us
   asks all the same.

   What is not ours, the model and what the caller does from one search to the next, may take long and let go of the
   GIL itself. The hint stands meanwhile only if that took a thread no more than a few us the last time. */

#ifndef FASTLSTM_TURN_H
#define FASTLSTM_TURN_H

enum { TURN_MODEL, TURN_CALLER };

#if defined(__GNUC__) && !defined(Py_GIL_DISABLED)

#include <time.h>

#define TURN_LOOKS 10000
#define TURN_SHORT 15000 /* ns */

static const void* turn_of = 0; /* the thread that is in Python, as far as known */

static __thread struct {
    long long began; /* ns */
    int is_long;
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
    for (int looks = 0; looks < TURN_LOOKS; looks++) {
        const void* nobody = 0;
        if (__atomic_load_n(&turn_of, __ATOMIC_RELAXED) == 0
            && __atomic_compare_exchange_n(
                &turn_of, &nobody, (const void*)turn_others, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return;
        }
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
}

static inline void turn_lend(int to) {
    turn_others[to].began = turn_now();
    if (turn_others[to].is_long) {
        turn_leave();
    }
}

static inline void turn_return(int to) {
    turn_others[to].is_long = turn_now() - turn_others[to].began > TURN_SHORT;
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
