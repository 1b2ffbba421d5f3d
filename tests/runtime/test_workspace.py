"""Memory for kernels: on cache lines, for one call or pass at a time, and used again when it is given back."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from fastlstm.runtime import workspace
from fastlstm.runtime.config import tuned
from fastlstm.runtime.workspace import Frame, Workspace, address_of, aligned, temporary, zeros

SINGLE = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def no_spare(monkeypatch):
    """Begin without memory that an earlier call left."""
    monkeypatch.setattr(workspace, "_spare", [])


def overlap(a, b):
    return np.shares_memory(a, b)


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(512,), (1, 513), (33, 100), (7, 3, 50)])
def test_an_array_begins_on_a_cache_line(shape, dtype):
    array = aligned(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.c_contiguous
    assert address_of(array) % 64 == 0
    array[...] = 1.0  # all of it is there


def test_small_arrays_need_not(dtype):
    with tuned(small_bytes=0):
        assert address_of(aligned((1,), dtype)) % 64 == 0
    with tuned(small_bytes=1 << 20):
        assert aligned((1000,), dtype).base is None, "a larger array was made to find a cache line in"


@pytest.mark.parametrize("shape", [(3,), (0,), (40, 100)])
def test_zeros_are_zeros(shape, dtype):
    spoilt = aligned((4000,), dtype)  # the allocator may hand out this memory next
    spoilt[...] = np.nan
    del spoilt
    array = zeros(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert not array.any()


def test_the_address_is_that_of_the_first_element():
    array = np.arange(10.0)
    assert address_of(array) == array.ctypes.data
    assert address_of(array[3:]) == array.ctypes.data + 24
    array.flags.writeable = False
    assert address_of(array) == array.ctypes.data
    assert address_of(np.empty(0)) >= 0


# --- memory of one call -----------------------------------------------------------------------------------------------


def test_a_call_gets_at_least_what_it_asks_for_aligned(dtype):
    kind = np.dtype(dtype)
    for size in (0, 1, 100, 10_000):
        with temporary(size, kind) as memory:
            assert memory.dtype == kind
            assert memory.size >= size
            assert size < 10_000 or address_of(memory) % 64 == 0
            memory[...] = 1.0


def test_the_next_call_uses_the_same_memory_unless_it_is_too_small():
    with temporary(1000, SINGLE) as first:
        place = address_of(first)
    with temporary(500, np.dtype(np.float64)) as second:
        assert address_of(second) == place
    with temporary(4000, SINGLE) as third:
        assert third.size >= 4000


def test_calls_within_calls_have_memory_of_their_own():
    with temporary(1000, SINGLE):
        pass
    with temporary(1000, SINGLE) as outer, temporary(1000, SINGLE) as inner:
        assert not overlap(outer, inner)


def test_memory_is_kept_up_to_a_number_and_a_size():
    with tuned(spare_buffers=(2, 100_000)):
        lent = [temporary(1000, SINGLE) for _ in range(4)]
        for each in lent:
            each.__enter__()
        for each in lent:
            each.__exit__()
        assert len(workspace._spare) == 2
        workspace._spare.clear()
        with temporary(100_000, SINGLE):
            pass
        assert workspace._spare == [], "400 kB were kept"


def test_an_error_gives_the_memory_back():
    places = []

    def fail():
        with temporary(1000, SINGLE) as memory:
            places.append(address_of(memory))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with temporary(1000, SINGLE) as memory:
        assert [address_of(memory)] == places


def test_no_two_threads_have_the_same_memory_at_once():
    spoilt = []

    def use(number):
        for _ in range(2000):
            with temporary(64, SINGLE) as memory:
                memory[:64] = number
                if not (memory[:64] == number).all():
                    spoilt.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert spoilt == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_child_that_is_forked_within_a_call_has_memory_of_its_own():
    program = """
        import os, warnings
        import numpy as np
        from fastlstm.runtime.workspace import Frame, temporary

        warnings.simplefilter("ignore", DeprecationWarning)
        frame, kind = Frame(), np.dtype(np.float32)
        held = frame.take("h", (1000,), kind)
        held[...] = 1.0
        with temporary(1000, kind) as memory:
            memory[:1000] = 1.0
            child = os.fork()
            mine = 2.0 if child == 0 else 3.0
            memory[:1000] = held[...] = mine
            with temporary(1000, kind) as other:
                other[:1000] = 9.0
            same = (memory[:1000] == mine).all() and (frame.take("h", (1000,), kind) == mine).all()
        if child == 0:
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        assert same and (memory[:1000] == 3.0).all()
        print("both work")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.strip() == "both work", result.stderr


# --- frames and workspaces --------------------------------------------------------------------------------------------


def test_a_frame_gives_the_same_name_the_same_memory(dtype):
    frame = Frame()
    first = frame.take("gates", (10, 100), dtype)
    assert frame.take("gates", (10, 100), dtype) is first
    smaller = frame.take("gates", (3, 100), dtype)
    assert smaller.shape == (3, 100)
    assert address_of(smaller) == address_of(first)
    assert not overlap(frame.take("cells", (10, 100), dtype), first)


def test_a_frame_grows_where_it_must_and_keeps_what_it_has_grown_to(dtype):
    frame = Frame()
    small = frame.take("gates", (10, 100), dtype)
    large = frame.take("gates", (20, 100), dtype)
    assert large.shape == (20, 100)
    assert address_of(large) % 64 == 0
    assert not overlap(small, large), "an array that may still be read was moved under its reader"
    assert address_of(frame.take("gates", (15, 100), dtype)) == address_of(large)


def test_a_frame_does_not_give_memory_of_another_type():
    frame = Frame()
    frame.take("gates", (10, 100), np.float64)
    assert frame.take("gates", (10, 100), np.float32).dtype == np.float32
    assert frame.take("gates", (10, 100), np.float64).dtype == np.float64


def test_two_passes_of_one_owner_have_two_frames():
    """A layer that runs twice before it goes back: the second run must not write over what the first one kept."""
    space = Workspace()
    one, other = space.frame("layer"), space.frame("layer")
    arrays = [frame.take("gates", (100, 100), np.float32) for frame in (one, other)]
    assert not overlap(*arrays)
    space.release("layer", one)
    assert space.frame("layer") is one, "memory that was given back is not used again"
    assert space.frame("layer") not in (one, other)


def test_owners_share_no_frames():
    space = Workspace()
    frame = space.frame("layer")
    space.release("layer", frame)
    assert space.frame("another layer") is not frame
    assert space.frame("layer") is frame


def test_a_loop_of_passes_takes_no_new_memory():
    space, places = Workspace(), set()
    for _ in range(5):
        frames = [space.frame(owner) for owner in ("a", "b", "a")]
        places.add(tuple(sorted(address_of(frame.take("h", (50, 50), np.float32)) for frame in frames)))
        for owner, frame in zip(("a", "b", "a"), frames, strict=True):
            space.release(owner, frame)
    assert len(places) == 1


def test_shared_scratch_is_the_same_until_it_has_to_grow():
    space = Workspace()
    first = space.shared("scratch", (1000,), np.float32)
    assert space.shared("scratch", (1000,), np.float32) is first
    assert not overlap(space.shared(("scratch", 1), (1000,), np.float32), first)
    assert space.shared("scratch", (3000,), np.float32).shape == (3000,)
