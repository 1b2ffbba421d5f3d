"""Several threads that call at once."""

import threading


def call_from_threads(call, count, beside=lambda: None):
    """Call ``call(n)`` in each of `count` threads, and `beside` in this one; raise what any of them raises."""
    failures = []

    def run(n):
        try:
            call(n)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    beside()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a call hangs"
    assert failures == []
