"""The n best paths through a lattice, each sought only when the one before it is known. No Python object in sight.

Recursive enumeration (Jimenez and Marzal 1999). A node is a label at a step, number t * L + j; number T * L is the end.
The paths to a node are ranked. The path of the next rank is the best of its candidates: for each label of the step
before, the best path there that no path to this node continues yet. So one more path to a node asks for at most one
more path to one node of the step before, the one that its last path continues. Most nodes are never met: they are
numbers.

Invariants
----------
1. A node that was met knows its best path. Its paths are linked by ``next`` in descending order, ``last`` is the last.
2. Of each label of the step before, a node has at most one candidate; none of the label that its last path came from,
   until that path's ``next`` is known.
3. Hence a candidate was taken out before one is put in, and the place before ``head`` is free.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc

from common.heap cimport Candidate, better, sift_down, sift_up, sort_best_first

cdef enum:
    UNKNOWN = -1             # not asked for yet
    NONE = -2                # asked for: there is none


cdef struct Path:
    double score
    int64_t origin           # the path that it continues; ~number: the best path to that node, not met yet
    int64_t next             # the path of the next rank to the same node
    int64_t node


cdef struct Node:
    int64_t number
    int64_t first            # paths: the best, and the last that is known
    int64_t last
    int64_t head             # its candidates are pool[head] to pool[end - 1], best first; pool[head - 1] is free
    int64_t end


cdef struct Lattice:
    Py_ssize_t length        # the caller gives these
    Py_ssize_t labels
    const double* scores     # (T, L)
    const double* moves      # (L, L) from column to row
    const double* end        # (L,)
    const double* delta      # (T, L) the scores of the best paths
    Py_ssize_t room          # candidates of a node: no more are needed than labels, or than paths are wanted
    int64_t* met             # (T * L + 1,) the node of a number, or UNKNOWN
    int64_t* asked           # (T + 1,) the nodes of one request
    Node* nodes
    Py_ssize_t nodes_used
    Py_ssize_t nodes_capacity
    Path* paths
    Py_ssize_t paths_used
    Py_ssize_t paths_capacity
    Candidate* pool
    Py_ssize_t pool_used
    Py_ssize_t pool_capacity


cdef inline void* grown(void* array, Py_ssize_t wanted, Py_ssize_t* capacity, size_t size) noexcept nogil:
    """The array with room for as many items; NULL where memory ends, and the old array is still there."""
    cdef void* bigger = array
    if wanted > capacity[0]:
        wanted += wanted // 2
        bigger = realloc(array, wanted * size)
        if bigger != NULL:
            capacity[0] = wanted
    return bigger


cdef inline int reserve(Lattice* lattice) noexcept nogil:
    """Make room for one more node, path and block of candidates; -1 where memory ends. May move all of them."""
    cdef void* nodes = grown(lattice.nodes, lattice.nodes_used + 1, &lattice.nodes_capacity, sizeof(Node))
    lattice.nodes = lattice.nodes if nodes == NULL else <Node*>nodes
    cdef void* paths = grown(lattice.paths, lattice.paths_used + 1, &lattice.paths_capacity, sizeof(Path))
    lattice.paths = lattice.paths if paths == NULL else <Path*>paths
    cdef void* pool = grown(
        lattice.pool, lattice.pool_used + lattice.room, &lattice.pool_capacity, sizeof(Candidate)
    )
    lattice.pool = lattice.pool if pool == NULL else <Candidate*>pool
    return -1 if nodes == NULL or paths == NULL or pool == NULL else 0


cdef inline const double* moves_into(const Lattice* lattice, int64_t number) noexcept nogil:
    if number == lattice.length * lattice.labels:
        return lattice.end
    return lattice.moves + number % lattice.labels * lattice.labels


cdef inline void keep(Candidate* heap, Py_ssize_t* n, Py_ssize_t room, const Candidate* candidate) noexcept nogil:
    """Put a candidate into a heap of the best."""
    if n[0] < room:
        heap[n[0]] = candidate[0]
        sift_up(heap, n[0])
        n[0] += 1
    elif better(candidate, heap):
        heap[0] = candidate[0]
        sift_down(heap, room, 0)


cdef inline Py_ssize_t gather(Lattice* lattice, int64_t number, Candidate* block) noexcept nogil:
    """The candidates that continue the best paths of the step before, best first; how many."""
    cdef Py_ssize_t n = 0, i
    cdef int64_t before = (number // lattice.labels - 1) * lattice.labels
    cdef const double* moves = moves_into(lattice, number)
    cdef Candidate candidate
    if before < 0:
        return 0
    for i in range(lattice.labels):
        candidate.score, candidate.slot, candidate.id = lattice.delta[before + i] + moves[i], i, ~(before + i)
        if candidate.score > -INFINITY:
            keep(block, &n, lattice.room, &candidate)
    sort_best_first(block, n)
    return n


cdef inline void add_path(Lattice* lattice, int64_t at, double score, int64_t origin) noexcept nogil:
    """Add a path to a node; its score counts up to the step before."""
    cdef Path* path = lattice.paths + lattice.paths_used
    cdef int64_t number = lattice.nodes[at].number
    path.score = score + (lattice.scores[number] if number < lattice.length * lattice.labels else 0.0)
    path.origin, path.next, path.node = origin, UNKNOWN, at
    lattice.nodes[at].last = lattice.paths_used
    lattice.paths_used += 1


cdef inline int64_t meet(Lattice* lattice, int64_t number) noexcept nogil:
    """The node of a number, made if need be, with its best path; UNKNOWN where memory ends."""
    cdef int64_t at = lattice.met[number]
    cdef Py_ssize_t n
    cdef Candidate* block
    if at != UNKNOWN:
        return at
    if reserve(lattice) < 0:
        return UNKNOWN
    at = lattice.met[number] = lattice.nodes_used
    block = lattice.pool + lattice.pool_used
    n = gather(lattice, number, block)
    lattice.nodes[at].number, lattice.nodes[at].first = number, lattice.paths_used
    lattice.nodes[at].head, lattice.nodes[at].end = lattice.pool_used + 1, lattice.pool_used + max(n, 1)
    if n:
        add_path(lattice, at, block[0].score, block[0].id)
    else:                                        # the first step: one path, from nowhere; or an end out of reach
        add_path(lattice, at, -INFINITY, NONE)
        lattice.paths[lattice.nodes[at].last].next = NONE
        if number < lattice.labels:
            lattice.paths[lattice.nodes[at].last].score = lattice.delta[number]
    lattice.nodes_used += 1
    lattice.pool_used += lattice.room
    return at


cdef inline int64_t origin_of(Lattice* lattice, int64_t path) noexcept nogil:
    """The path that a path continues; UNKNOWN where memory ends."""
    cdef int64_t origin = lattice.paths[path].origin
    if origin < 0:
        origin = meet(lattice, ~origin)
        if origin == UNKNOWN:
            return UNKNOWN
        origin = lattice.paths[path].origin = lattice.nodes[origin].first
    return origin


cdef inline void put(Lattice* lattice, Node* node, const Candidate* candidate) noexcept nogil:
    """Put a candidate into its place among a node's."""
    cdef Candidate* at = lattice.pool + node.head - 1
    cdef const Candidate* last = lattice.pool + node.end - 1
    while at < last and better(at + 1, candidate):
        at[0] = at[1]
        at += 1
    at[0] = candidate[0]
    node.head -= 1


cdef inline int ask(Lattice* lattice, int64_t at) noexcept nogil:
    """Find the path of the next rank to a node, or that there is none; -1 where memory ends."""
    cdef Py_ssize_t depth = 0
    cdef int64_t origin, following
    cdef Node* node
    cdef Candidate candidate
    while True:                                  # down to where the path that the last one continues has a next
        lattice.asked[depth] = at
        origin = origin_of(lattice, lattice.nodes[at].last)
        if origin == UNKNOWN:
            return -1
        if lattice.paths[origin].next != UNKNOWN:
            break
        at = lattice.paths[origin].node
        depth += 1
    while depth >= 0:                            # and up again: that next path makes a new candidate
        if reserve(lattice) < 0:
            return -1
        at = lattice.asked[depth]
        node = lattice.nodes + at
        following = lattice.paths[lattice.paths[node.last].origin].next
        if following != NONE:
            candidate.slot = lattice.nodes[lattice.paths[following].node].number % lattice.labels
            candidate.score = lattice.paths[following].score + moves_into(lattice, node.number)[candidate.slot]
            candidate.id = following
            put(lattice, node, &candidate)
        following = lattice.paths_used if node.head < node.end else NONE
        lattice.paths[node.last].next = following
        if following != NONE:
            add_path(lattice, at, lattice.pool[node.head].score, lattice.pool[node.head].id)
            node.head += 1
        depth -= 1
    return 0


cdef inline int write_path(Lattice* lattice, int64_t path, int64_t* labels_out) noexcept nogil:
    """``labels_out`` (T,): the labels of a path to the end; -1 where memory ends."""
    cdef Py_ssize_t t
    for t in range(lattice.length - 1, -1, -1):
        path = origin_of(lattice, path)
        if path == UNKNOWN:
            return -1
        labels_out[t] = lattice.nodes[lattice.paths[path].node].number % lattice.labels
    return 0


cdef inline Py_ssize_t find(Lattice* lattice, Py_ssize_t k) noexcept nogil:
    """How many of the k best paths to the end there are, linked by ``next`` from path 0; -1 where memory ends."""
    cdef Py_ssize_t i, n
    cdef int64_t end = lattice.length * lattice.labels, path = 0
    lattice.room = min(lattice.labels, k)
    lattice.met = <int64_t*>malloc((end + 1) * sizeof(int64_t))
    lattice.asked = <int64_t*>malloc((lattice.length + 1) * sizeof(int64_t))
    if lattice.met == NULL or lattice.asked == NULL:
        return -1
    for i in range(end + 1):
        lattice.met[i] = UNKNOWN
    if meet(lattice, end) == UNKNOWN:
        return -1
    if lattice.paths[0].next == NONE:             # out of reach
        return 0
    for n in range(1, k):
        if ask(lattice, 0) < 0:
            return -1
        path = lattice.paths[path].next
        if path == NONE:
            return n
    return k


cdef inline void release(Lattice* lattice) noexcept nogil:
    free(lattice.met)
    free(lattice.asked)
    free(lattice.nodes)
    free(lattice.paths)
    free(lattice.pool)
