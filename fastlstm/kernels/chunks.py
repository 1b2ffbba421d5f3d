"""How a leader puts up chunks of work and all take them, without the GIL: parts of the kernels of `team.Leader`."""

from ..simd.atomic import add, give_way, observe, publish, relax
from ._jit import jit_inner
from .lstm_task import CHUNKS, PARTS
from .team import LEFT, LOOKS_A_WAY, MADE, POSTED, ROW

__all__ = ["chunk_is_there", "put_up", "say_made", "take", "wait_for_all"]


@jit_inner
def put_up(words, task, next_task, alone):
    """Say what there is to do, and put up each core's chunks; of a leader who is alone, one core's."""
    for word in range(len(next_task)):
        task[word] = next_task[word]
    if alone:
        task[PARTS] = 1
    for part in range(task[PARTS]):
        publish(words, part * ROW + MADE, 0)
    for part in range(task[PARTS]):
        publish(words, part * ROW + LEFT, task[CHUNKS])


@jit_inner
def take(words, task, mine):
    """Take a chunk, one's own core's first: return whose it is and how many that one had, or 0 if nobody has any."""
    parts = task[PARTS]
    for place in range(parts):
        part = (mine + place) % parts
        if observe(words, part * ROW + LEFT) > 0:
            left = add(words, part * ROW + LEFT, -1)
            if left > 0:  # else another was faster
                return part, left
    return mine, 0


@jit_inner
def say_made(words, part):
    """Say that one of a core's chunks is finished."""
    add(words, part * ROW + MADE, 1)


@jit_inner
def wait_for_all(words, task):
    """Wait until all chunks are finished: some may have been begun elsewhere."""
    waited = 0
    for part in range(task[PARTS]):
        while observe(words, part * ROW + MADE) < task[CHUNKS]:
            relax()
            waited += 1
            if waited % LOOKS_A_WAY == 0:
                give_way()


@jit_inner
def chunk_is_there(words, mine, until, looks):
    """Look for a chunk of one's own; tell whether there is one, before it is time to leave."""
    while looks > 0 and observe(words, mine * ROW + POSTED) < until:
        if observe(words, mine * ROW + LEFT) > 0:
            return True
        relax()
        looks -= 1
        if looks % LOOKS_A_WAY == 0:
            give_way()
    return False
