"""Build and score back-off automata (``ngram_automaton.pxd``) from arrays of n-grams or arcs.

Katz back-off (Katz 1987, IEEE ASSP 35(3)) as an automaton (Allauzen, Mohri, Roark 2003, ACL): the state is the
longest context that the model knows, so a beam carries one int instead of a list of words. Scores equal KenLM's
(Heafield 2011, WMT): a context that the file lacks but a longer n-gram needs ("blank") is put in, and reaching it
costs what backing off to it would have cost.
"""

import numpy as np

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from ctc.ngram_automaton cimport NOWHERE, ROOT, Automaton, Slot, advance, find_arc, slot_key

SLOT = np.dtype([("key", "=u8"), ("weight", "=f4"), ("target", "=i4")], align=True)
"""One arc of an automaton as ``ngram_automaton.pxd`` reads it: 16 bytes."""


def pack_arcs(const int32_t[::1] state, const int32_t[::1] symbol, const float[::1] weight,
              const int32_t[::1] target):
    """Return the hash table of the arcs ``state[i] --symbol[i]/weight[i]--> target[i]``.

    Parameters
    ----------
    state, symbol, target : (A,) int32
        Unique in (state, symbol); targets are at least 0.
    weight : (A,) float32

    Returns
    -------
    (power of two,) SLOT
        At most half full.
    """
    cdef Py_ssize_t i, size = 8
    cdef Automaton table
    cdef Slot[::1] view
    cdef Slot* slot
    while size < 2 * state.shape[0] + 2:
        size *= 2
    slots = np.zeros(size, dtype=SLOT)
    slots["target"] = NOWHERE
    view = slots
    table.slots = &view[0]
    table.mask = size - 1
    for i in range(state.shape[0]):
        slot = <Slot*>find_arc(&table, state[i], symbol[i])
        slot.key = slot_key(state[i], symbol[i])
        slot.weight = weight[i]
        slot.target = target[i]
    return slots


def child(const Slot[::1] slots, int32_t state, int32_t symbol):
    """Return where the arc of ``state`` by ``symbol`` leads, -1 where there is none."""
    cdef Automaton table
    table.slots = &slots[0]
    table.mask = slots.shape[0] - 1
    return find_arc(&table, state, symbol).target


cdef struct State:
    float backoff
    int32_t suffix
    int32_t parent
    int32_t symbol
    int32_t depth
    bint blank


cdef class NGramBuilder:
    """Takes the n-grams order by order, shortest first, and gives the automaton's arrays.

    Orders below the highest become states; an n-gram of the highest order is only an arc into the longest suffix
    that is a state.

    Parameters
    ----------
    highest : int
        The order of the model.
    """

    cdef Slot* slots
    cdef State* states
    cdef Py_ssize_t size, arcs, capacity, count
    cdef int highest, order

    def __cinit__(self, int highest):
        self.highest = highest
        self.reserve_states(64)
        self.reserve_arcs(64)
        self.states[ROOT] = State(backoff=0.0, suffix=ROOT, parent=ROOT, symbol=NOWHERE, depth=0, blank=False)
        self.count = 1

    def __dealloc__(self):
        free(self.slots)
        free(self.states)

    cdef int reserve_states(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t wanted = self.count + more
        cdef State* grown
        if wanted <= self.capacity:
            return 0
        wanted = max(wanted, 2 * self.capacity)
        if wanted >= 0x7FFFFFFF:
            raise MemoryError("n-gram model: more than 2**31 contexts")
        grown = <State*>realloc(self.states, wanted * sizeof(State))
        if grown == NULL:
            raise MemoryError()
        self.states = grown
        self.capacity = wanted
        return 0

    cdef int reserve_arcs(self, Py_ssize_t more) except -1:
        """Keep the table at most half full, so that a probe that finds nothing stays short."""
        cdef Py_ssize_t i, size = max(self.size, 8)
        cdef Slot* grown
        cdef Slot* old = self.slots
        cdef Py_ssize_t old_size = self.size
        cdef Automaton table
        cdef Slot* slot
        while size < 2 * (self.arcs + more) + 2:
            size *= 2
        if size == old_size:
            return 0
        grown = <Slot*>realloc(NULL, size * sizeof(Slot))
        if grown == NULL:
            raise MemoryError()
        for i in range(size):
            grown[i].target = NOWHERE
        table.slots = grown
        table.mask = size - 1
        for i in range(old_size):
            if old[i].target != NOWHERE:
                slot = <Slot*>find_arc(&table, <int32_t>(old[i].key >> 32), <int32_t>(old[i].key & 0xFFFFFFFF))
                slot[0] = old[i]
        free(old)
        self.slots = grown
        self.size = size
        return 0

    cdef Slot* arc(self, int32_t state, int32_t symbol) noexcept nogil:
        cdef Automaton table
        table.slots = self.slots
        table.mask = self.size - 1
        return <Slot*>find_arc(&table, state, symbol)

    cdef int32_t add_state(self, Slot* slot, int32_t parent, int32_t symbol, float weight, float backoff,
                           bint blank) noexcept nogil:
        cdef int32_t new = <int32_t>self.count
        self.states[new] = State(backoff=backoff, suffix=ROOT, parent=parent, symbol=symbol,
                                 depth=self.states[parent].depth + 1, blank=blank)
        self.count += 1
        slot.key = slot_key(parent, symbol)
        slot.weight = weight
        slot.target = new
        self.arcs += 1
        return new

    cdef int32_t longest_suffix(self, int32_t parent, int32_t symbol) noexcept nogil:
        """Return the longest state that is a proper suffix of (parent, symbol)."""
        cdef Slot* slot
        while parent != ROOT:
            parent = self.states[parent].suffix
            slot = self.arc(parent, symbol)
            if slot.target != NOWHERE:
                return slot.target
        return ROOT

    cdef double back_off_weight(self, int32_t parent, int32_t symbol, double miss) noexcept nogil:
        """Return the weight of ``symbol`` after ``parent``, its own arc left aside."""
        cdef double weight = 0.0
        cdef Slot* slot
        while parent != ROOT:
            weight += self.states[parent].backoff
            parent = self.states[parent].suffix
            slot = self.arc(parent, symbol)
            if slot.target != NOWHERE:
                return weight + slot.weight
        return weight + miss

    def add(self, const int32_t[:, ::1] ids, const float[::1] weight, const float[::1] backoff, double miss):
        """Add all n-grams of the next order.

        Parameters
        ----------
        ids : (M, order) int32
            Words of each n-gram, oldest first.
        weight, backoff : (M,) float32
            log10 probabilities and back-off weights; ``backoff`` is not read at the highest order.
        miss : float
            Weight of a word that has no unigram.

        Returns
        -------
        int
            -1, or the row that repeats an n-gram added before (the build has then stopped).
        """
        cdef Py_ssize_t row, made, rows = ids.shape[0], order = ids.shape[1]
        cdef Py_ssize_t first = self.count, k
        cdef int depth
        cdef int32_t state, symbol
        cdef Slot* slot
        cdef bint top
        self.order += 1
        top = self.order == self.highest
        if order != self.order or weight.shape[0] != rows or backoff.shape[0] != rows:
            raise ValueError("n-grams must come order by order with one weight and one back-off each")
        self.reserve_arcs(rows)
        if not top:
            self.reserve_states(rows)
        # 1: states and arcs, blank contexts where the file has none. Blanks are rare: reserve as they come.
        for row in range(rows):
            state = ROOT
            for k in range(order - 1):
                slot = self.arc(state, ids[row, k])
                if slot.target == NOWHERE:
                    self.reserve_states(rows + 1 - row if not top else 1)
                    self.reserve_arcs(rows + 1 - row)
                    slot = self.arc(state, ids[row, k])
                    state = self.add_state(slot, state, ids[row, k], 0.0, 0.0, True)
                else:
                    state = slot.target
            symbol = ids[row, order - 1]
            slot = self.arc(state, symbol)
            if slot.target != NOWHERE:
                return row
            if top:
                slot.key = slot_key(state, symbol)
                slot.weight = weight[row]
                slot.target = ROOT
                self.arcs += 1
            else:
                self.add_state(slot, state, symbol, weight[row], backoff[row], False)
        # 2: suffixes of the new states, and what it costs to reach a blank: both read only shorter contexts.
        for depth in range(1, self.order + 1):
            for made in range(first, self.count):
                if self.states[made].depth != depth:
                    continue
                state = self.states[made].parent
                symbol = self.states[made].symbol
                self.states[made].suffix = self.longest_suffix(state, symbol)
                if self.states[made].blank:
                    self.arc(state, symbol).weight = <float>self.back_off_weight(state, symbol, miss)
        # 3: arcs of the highest order lead to the longest suffix.
        if top and order > 1:
            for row in range(rows):
                state = ROOT
                for k in range(order - 1):
                    state = self.arc(state, ids[row, k]).target
                self.arc(state, ids[row, order - 1]).target = self.longest_suffix(state, ids[row, order - 1])
        return -1

    def finish(self):
        """Return (slots, backoff, suffix): (power of two,) SLOT, (S,) float32, (S,) int32."""
        cdef Py_ssize_t i
        slots = np.empty(self.size, dtype=SLOT)
        cdef Slot[::1] slot_view = slots
        memcpy(&slot_view[0], self.slots, self.size * sizeof(Slot))
        backoff = np.empty(self.count, dtype=np.float32)
        suffix = np.empty(self.count, dtype=np.int32)
        cdef float[::1] backoff_view = backoff
        cdef int32_t[::1] suffix_view = suffix
        for i in range(self.count):
            backoff_view[i] = self.states[i].backoff
            suffix_view[i] = self.states[i].suffix
        return slots, backoff, suffix


def score(const Slot[::1] slots, const float[::1] backoff, const int32_t[::1] suffix, double miss, int32_t state,
          const int32_t[::1] symbols, double[::1] weights):
    """Walk ``symbols`` from ``state``; write what each earns and return the state reached.

    Parameters
    ----------
    slots, backoff, suffix, miss
        The automaton.
    state : int
    symbols : (T,) int32
    weights : (T,) float64, out

    Returns
    -------
    int
    """
    cdef Py_ssize_t i
    cdef Automaton table
    table.slots = &slots[0]
    table.mask = slots.shape[0] - 1
    table.backoff = &backoff[0]
    table.suffix = &suffix[0]
    table.miss = miss
    with nogil:
        for i in range(symbols.shape[0]):
            weights[i] = advance(&table, &state, symbols[i])
    return state
