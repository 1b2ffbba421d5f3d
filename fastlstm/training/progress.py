"""Progress of a fit, on standard error: a live bar on a terminal, plain lines elsewhere, nothing with ``verbose=0``."""

import sys
import time
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import OptionError
from .callbacks import Callback, Logs

__all__ = ["Progress", "Verbose", "check_verbose", "figures"]

Verbose: TypeAlias = Literal["auto", 0, 1, 2]


def check_verbose(who: str, verbose: object) -> None:
    """Raise OptionError unless `verbose` is "auto", 0, 1 or 2 (False and True are 0 and 1)."""
    if not (isinstance(verbose, str | int | np.integer) and verbose in ("auto", 0, 1, 2)):
        raise OptionError(f"{who}: verbose={verbose!r}; expected 'auto', 0 (nothing), 1 (a bar) or 2 (a line an epoch)")


def figures(logs: Logs) -> str:
    """Return figures as one line: ``loss 0.1234  accuracy 0.9876``."""
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


class Progress(Callback):
    """Show loss, metrics, sequences/s and the time left of each epoch.

    Parameters
    ----------
    epochs : int
        How many epochs there are (the number after the last one).
    batches, sequences : int or None
        Batches and sequences an epoch, where they are known.
    verbose : {"auto", 0, 1, 2}
        0 nothing, 1 a bar, 2 a line an epoch; "auto" is 1 on a terminal, else 2.
    """

    def __init__(self, epochs: int, batches: int | None, sequences: int | None, verbose: Verbose = "auto"):
        self.epochs, self.batches, self.sequences = epochs, batches, sequences
        on_terminal = sys.stderr.isatty()
        self.lines = verbose == 2 or (verbose in ("auto", 1) and not on_terminal)
        self.bar = not self.lines and verbose in ("auto", 1)
        self._live: Any = None

    def on_epoch_begin(self, epoch: int) -> None:
        """Begin a bar."""
        self._done = self.batches or 0
        self.began = time.perf_counter()
        if self.bar:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._live = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._live.add_task(
                "", total=self.batches, epoch=f"{epoch + 1}/{self.epochs}", figures="", speed=""
            )
            self._live.start()

    def _speed(self, batches: int) -> str:
        seconds = max(time.perf_counter() - self.began, 1e-9)
        if self.sequences is None or self.batches is None:
            return f"{batches / seconds:,.1f} batches/s"
        return f"{self.sequences * batches / self.batches / seconds:,.0f} sequences/s"

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Move the bar on."""
        self._done = batch + 1
        if self._live is not None:
            self._live.update(self._task, completed=batch + 1, figures=figures(logs), speed=self._speed(batch + 1))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Finish the bar, or print a line."""
        if self._live is not None:
            self._live.update(self._task, completed=self._done, total=self._done, figures=figures(logs))
            self.close()
        elif self.lines:
            speed = self._speed(self._done)
            print(f"epoch {epoch + 1}/{self.epochs}  {figures(logs)}  {speed}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        if self._live is not None:
            self._live.stop()
            self._live = None
