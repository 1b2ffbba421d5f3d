"""What tests of the pool and of coordinators share: work, and waiting for another thread."""

import time


def mark(out, begin, end):
    out[begin:end] += 1


def soon(condition):
    """Tell whether a condition comes true within ten seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()
