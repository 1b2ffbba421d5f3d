"""A weighted automaton with back-off arcs: one structure for n-gram models, lexicon tries and hot words.

States are numbered from 0, the root. An arc leaves ``state`` by ``symbol``, bears a weight and enters its target;
all arcs lie in one open-addressed hash table of 16-byte slots, so a look-up usually costs one cache line. Where a
state has no arc for a symbol, Katz back-off applies: pay ``backoff[state]``, go to ``suffix[state]``, try again. At
the root a missing arc costs ``miss`` and stays at the root.

Invariants
----------
1. ``len(slots)`` is a power of two and at least one slot is empty (``target == -1``), so that probing ends.
2. ``suffix[s] < s`` in depth for every ``s != 0``: following suffixes reaches the root.
3. Arcs are unique in (state, symbol).
"""

cimport cython
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef enum:
    ROOT = 0
    NOWHERE = -1


cdef struct Slot:
    uint64_t key
    float weight
    int32_t target


cdef struct Automaton:
    const Slot* slots
    uint64_t mask
    const float* backoff
    const int32_t* suffix
    double miss


@cython.overflowcheck(False)
cdef inline uint64_t slot_key(int32_t state, int32_t symbol) noexcept nogil:
    return (<uint64_t>(<uint32_t>state) << 32) | <uint32_t>symbol


@cython.overflowcheck(False)
cdef inline uint64_t slot_hash(uint64_t key) noexcept nogil:
    # Fibonacci hashing; the high half is folded down because the mask keeps only low bits.
    key *= <uint64_t>0x9E3779B97F4A7C15
    return key ^ (key >> 32)


@cython.overflowcheck(False)
cdef inline const Slot* find_arc(const Automaton* table, int32_t state, int32_t symbol) noexcept nogil:
    """Return the arc's slot, or the empty slot where it would stand (``target == NOWHERE``)."""
    cdef uint64_t key = slot_key(state, symbol)
    cdef uint64_t place = slot_hash(key) & table.mask
    while table.slots[place].target != NOWHERE and table.slots[place].key != key:
        place = (place + 1) & table.mask
    return &table.slots[place]


cdef inline double advance(const Automaton* table, int32_t* state, int32_t symbol) noexcept nogil:
    """Move ``state`` by ``symbol`` and return the weight earned, back-off included."""
    cdef double weight = 0.0
    cdef int32_t here = state[0]
    cdef const Slot* slot
    while True:
        slot = find_arc(table, here, symbol)
        if slot.target != NOWHERE:
            state[0] = slot.target
            return weight + slot.weight
        if here == ROOT:
            state[0] = ROOT
            return weight + table.miss
        weight += table.backoff[here]
        here = table.suffix[here]


cdef inline double give_up(const Automaton* table, int32_t state) noexcept nogil:
    """Return the weight paid by backing off from ``state`` all the way to the root."""
    cdef double weight = 0.0
    while state != ROOT:
        weight += table.backoff[state]
        state = table.suffix[state]
    return weight
