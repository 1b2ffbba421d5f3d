"""Over how many threads a large call may be shared: one number for every room, the decoders included.

It begins at what the environment asks for, else at the cores that this process may use: its affinity, or the CPU quota
of its container where that is smaller.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import OptionError

__all__ = ["get_num_threads", "set_num_threads", "usable_cores"]

_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables that set the number of threads; the first one that holds a number counts."""


def set_num_threads(count: int) -> None:
    """Share calls over at most `count` threads from now on, the caller's included.

    Results do not depend on it, bit for bit. The start value is ``NUMBA_NUM_THREADS``, else ``OMP_NUM_THREADS`` (the
    first number of a list), else the number of cores that the process may use.

    Parameters
    ----------
    count : int
        Threads, 1 or more.

    Raises
    ------
    OptionError
        `count` is no whole number from 1 on.

    Examples
    --------
    >>> import fastlstm as fl
    >>> before = fl.get_num_threads()
    >>> fl.set_num_threads(1)
    >>> fl.get_num_threads()
    1
    >>> fl.set_num_threads(before)
    """
    global _num_threads
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise OptionError(f"set_num_threads: count is {count!r}; expected a whole number from 1 on")
    _num_threads = count


def get_num_threads() -> int:
    """Return over how many threads a large call is shared.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.get_num_threads() >= 1
    True
    """
    return _num_threads


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use.

    Parameters
    ----------
    root : Path
        Where the folders ``proc`` and ``sys`` of Linux are.

    Returns
    -------
    int
        The cores in the process's affinity mask; fewer if the CPU quota of its control groups is smaller. Part of a
        core counts as one.

    Notes
    -----
    The quota is in ``cpu.max`` of version 2 of Linux's control groups and in ``cpu.cfs_quota_us`` of version 1. It
    holds for a group and for all within it, so the smallest one on the way up counts. A file that is missing, or says
    something else, limits nothing.

    Examples
    --------
    >>> from fastlstm.threads import usable_cores
    >>> usable_cores() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quotas, in whole cores, of the control groups that this process is in."""
    mounted = root / "sys/fs/cgroup"
    for line in _words(root / "proc/self/cgroup", "\n"):
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for folder in _upwards(mounted, path):
                yield from _ratio(_words(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for name in {"cpu", controllers}:
                for folder in _upwards(mounted / name, path):
                    yield from _ratio(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))


def _upwards(mounted: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a control group, then those of the groups that it is in.

    A container may see its own group as the root while `path` is the host's: then only the root exists.
    """
    folder = mounted / path.lstrip("/")
    yield folder
    while folder != mounted:
        folder = folder.parent
        yield folder


def _words(path: Path, separator: str | None = None) -> list[str]:
    """Return the words in a file; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split(separator)
    except (OSError, ValueError):
        return []


def _ratio(words: list[str]) -> Iterator[int]:
    """Yield quota / period, rounded up, unless there is no quota: "max" in version 2, -1 in version 1."""
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
        yield -(-int(words[0]) // int(words[1]))


def _first_num_threads(environment: Mapping[str, str], cores: int) -> int:
    """Return how many threads to begin with; ``"4,2"``, OpenMP's list for nested regions, is 4."""
    for name in _VARIABLES:
        number = environment.get(name, "").split(",")[0].strip()
        if number.isdecimal() and int(number) > 0:
            return int(number)
    return cores


_num_threads = _first_num_threads(os.environ, usable_cores())
