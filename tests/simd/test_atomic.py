"""Words that several cores read and write, and arrays by their addresses."""

import threading

import numba
import numpy as np
import pytest

from fastlstm.simd.atomic import array_at, fetch_add, load_acquire, pause, store_release, yield_core


@numba.njit(nogil=True)
def add_often(words, place, amount, times):
    for _ in range(times):
        fetch_add(words, place, amount)


@numba.njit(nogil=True)
def old_and_new(words, place, amount):
    old = fetch_add(words, place, amount)
    return old, load_acquire(words, place)


@numba.njit(nogil=True)
def write(words, place, value):
    store_release(words, place, value)


@numba.njit(nogil=True)
def answer(words, values, times):
    """Wait for each question, read what was written before it, and answer."""
    wrong = 0
    for turn in range(1, times + 1):
        while load_acquire(words, 0) < turn:
            pause()
            yield_core()
        for place in range(len(values)):
            wrong += values[place] != turn
        store_release(words, 16, turn)
    return wrong


@numba.njit(nogil=True)
def ask(words, values, times):
    """Write all values, publish a question, and wait for the answer."""
    for turn in range(1, times + 1):
        for place in range(len(values)):
            values[place] = turn
        store_release(words, 0, turn)
        while load_acquire(words, 16) < turn:
            pause()
            yield_core()


@numba.njit
def write_through(like, address, count, factor):
    array = array_at(like, address, count)
    for place in range(len(array)):
        array[place] *= factor


def test_an_addition_tells_what_was_there_and_leaves_the_other_words_alone():
    words = np.arange(10, 15)
    assert old_and_new(words, 2, -5) == (12, 7)
    assert words.tolist() == [10, 11, 7, 13, 14]


def test_a_store_writes_one_word():
    words = np.zeros(4, np.int64)
    write(words, 3, -(2**62))
    assert words.tolist() == [0, 0, 0, -(2**62)]


def test_no_addition_is_lost_between_threads():
    words, times = np.zeros(3, np.int64), 200_000
    add_often(words, 0, 1, 1)
    words[:] = 0
    threads = [threading.Thread(target=add_often, args=(words, 1, amount, times)) for amount in (1, 2, -1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert words.tolist() == [0, 5 * times, 0]


def test_what_was_written_before_a_word_is_seen_with_it():
    words, values, times, wrong = np.zeros(32, np.int64), np.zeros(64), 300, []
    words[0] = times
    answer(words, values, 0)  # compiled before it matters
    ask(words, values, 0)
    words[:] = 0
    other = threading.Thread(target=lambda: wrong.append(answer(words, values, times)), daemon=True)
    other.start()
    asking = threading.Thread(target=ask, args=(words, values, times), daemon=True)
    asking.start()
    other.join(60)
    asking.join(60)
    assert wrong == [0]


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_an_array_by_its_address_is_the_memory_itself(kind):
    values = np.arange(1, 9, dtype=kind)
    write_through(np.empty(1, kind), values.ctypes.data + 2 * values.itemsize, 3, 10)
    assert values.tolist() == [1, 2, 30, 40, 50, 6, 7, 8]
