"""The two arenas of the CTC beam: the prefix tree and the chains of label spans. No Python object in sight.

Node: a prefix (a string of labels) that the beam holds or passes through. Span: where one label of one hypothesis
lies in time; a chain of spans, last label first, times a whole hypothesis. The time of a label belongs to the
hypothesis and not to the prefix, because two hypotheses that share a prefix may have read it at different frames.

Invariants (``Beam.check`` tests them)
--------------------------------------
1. Node 0 is the empty prefix and is never freed; every other living node has a living parent.
2. Two living nodes never spell the same prefix: children of one node differ in their label.
3. ``slot`` is the node's place in the beam or -1, and ``beam[slot].node`` is the node.
4. ``refs`` = living children + 1 if in the beam (+ 1 for the root); at 0 the node is freed, unlinked, and its parent
   loses one.
5. Hence every leaf is in the beam, and memory is bounded by the union of the beam's prefixes.
6. A span's ``refs`` = spans that follow it + beam entries that end in it; at 0 it is freed likewise. Spans of a
   chain do not overlap: ``start < end <= next.start``.
7. Freed places form a list through ``next`` (nodes) and ``prev`` (spans) and are used again before the arena grows.
"""

from libc.stdint cimport int32_t
from libc.stdlib cimport realloc

cdef enum:
    NONE = -1


cdef struct Node:
    int32_t parent
    int32_t label
    int32_t child         # first living child
    int32_t next          # siblings, doubly linked so that unlinking costs O(1)
    int32_t previous
    int32_t refs
    int32_t slot
    int32_t lm            # state in the language model, the lexicon and the hot words: each is a function of the
    int32_t word          # prefix alone, so all paths that meet in this node agree on it
    int32_t hot
    double gain           # exp(what the last label earned from the three), a factor of every path that enters
    double bonus          # natural-log sum of those gains over the prefix


cdef struct Span:
    int32_t prev
    int32_t refs
    int32_t start         # frame at which the label was entered, and the frame after its last
    int32_t end
    double peak           # greatest log-probability of the label within the span


cdef struct Tree:
    Node* nodes
    Py_ssize_t capacity
    Py_ssize_t used       # places ever given out; living + free
    int32_t free_list
    Py_ssize_t living
    Span* spans
    Py_ssize_t span_capacity
    Py_ssize_t span_used
    int32_t span_free_list
    Py_ssize_t span_living


cdef inline int reserve(Tree* tree, Py_ssize_t nodes, Py_ssize_t spans) noexcept nogil:
    """Make room for so many more; return -1 where memory (or int32) ends. May move the arenas."""
    cdef Py_ssize_t wanted = tree.living + nodes
    cdef Node* grown
    cdef Span* grown_spans
    if wanted > tree.capacity:
        wanted += wanted // 2
        if wanted >= 0x7FFFFFFF:
            return -1
        grown = <Node*>realloc(tree.nodes, wanted * sizeof(Node))
        if grown == NULL:
            return -1
        tree.nodes = grown
        tree.capacity = wanted
    wanted = tree.span_living + spans
    if wanted > tree.span_capacity:
        wanted += wanted // 2
        if wanted >= 0x7FFFFFFF:
            return -1
        grown_spans = <Span*>realloc(tree.spans, wanted * sizeof(Span))
        if grown_spans == NULL:
            return -1
        tree.spans = grown_spans
        tree.span_capacity = wanted
    return 0


cdef inline int32_t find_child(const Tree* tree, int32_t parent, int32_t label) noexcept nogil:
    cdef int32_t child = tree.nodes[parent].child
    while child != NONE and tree.nodes[child].label != label:
        child = tree.nodes[child].next
    return child


cdef inline int32_t add_child(Tree* tree, int32_t parent, int32_t label) noexcept nogil:
    """Return a new node (room is reserved) without references yet; the caller fills its scores."""
    cdef int32_t new = tree.free_list
    cdef Node* node
    if new != NONE:
        tree.free_list = tree.nodes[new].next
    else:
        new = <int32_t>tree.used
        tree.used += 1
    tree.living += 1
    node = &tree.nodes[new]
    node.parent = parent
    node.label = label
    node.child = NONE
    node.previous = NONE
    node.next = NONE
    node.refs = 0
    node.slot = NONE
    if parent != NONE:
        node.next = tree.nodes[parent].child
        if node.next != NONE:
            tree.nodes[node.next].previous = new
        tree.nodes[parent].child = new
        tree.nodes[parent].refs += 1
    return new


cdef inline void release(Tree* tree, int32_t place) noexcept nogil:
    """Drop one reference to a node and free it, and then its ancestors, as they lose their last."""
    cdef Node* node
    while True:
        node = &tree.nodes[place]
        node.refs -= 1
        if node.refs > 0 or place == 0:
            return
        if node.previous != NONE:
            tree.nodes[node.previous].next = node.next
        else:
            tree.nodes[node.parent].child = node.next
        if node.next != NONE:
            tree.nodes[node.next].previous = node.previous
        node.next = tree.free_list
        tree.free_list = place
        tree.living -= 1
        place = node.parent


cdef inline int32_t add_span(Tree* tree, int32_t prev, int32_t start, int32_t end, double peak) noexcept nogil:
    """Return a new span with one reference, which the caller owns."""
    cdef int32_t new = tree.span_free_list
    if new != NONE:
        tree.span_free_list = tree.spans[new].prev
    else:
        new = <int32_t>tree.span_used
        tree.span_used += 1
    tree.span_living += 1
    tree.spans[new] = Span(prev=prev, refs=1, start=start, end=end, peak=peak)
    if prev != NONE:
        tree.spans[prev].refs += 1
    return new


cdef inline void release_span(Tree* tree, int32_t place) noexcept nogil:
    cdef int32_t prev
    while place != NONE:
        tree.spans[place].refs -= 1
        if tree.spans[place].refs > 0:
            return
        prev = tree.spans[place].prev
        tree.spans[place].prev = tree.span_free_list
        tree.span_free_list = place
        tree.span_living -= 1
        place = prev
