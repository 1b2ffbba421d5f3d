"""Callbacks: what a fit calls between its batches and epochs. Arguments are Keras's."""

import csv
import math
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from ..data.numbers import whole
from ..errors import LogFileError, ModelFileError, OptionError
from .callback import Callback, CallbackList, Logs
from .checkpoint import check_path
from .schedules import Schedule

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
]

Mode: TypeAlias = Literal["auto", "min", "max"]


class History(Callback):
    """Record every epoch's figures: ``history["loss"]`` is a list, one entry an epoch."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Record."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class _Monitor(Callback):
    """What watching one figure takes: which one, and which way is better."""

    def __init__(self, monitor: str, min_delta: float, mode: Mode):
        if not isinstance(monitor, str):
            raise OptionError(f"{type(self).__name__}: monitor={monitor!r}; expected the name of a figure: 'val_loss'")
        if mode not in ("auto", "min", "max"):
            raise OptionError(f"{type(self).__name__}: mode={mode!r}; expected auto, min or max")
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        rising = mode == "max" or (mode == "auto" and any(word in monitor for word in ("acc", "auc")))
        self.sign = 1.0 if rising else -1.0
        self.best = -math.inf  # of sign * figure

    def on_train_begin(self) -> None:
        """Forget an earlier fit."""
        self.best = -math.inf

    def improved(self, logs: Logs) -> bool:
        """Tell whether the figure is better than ever, and remember it."""
        if self.monitor not in logs:
            raise OptionError(
                f"{type(self).__name__}: monitor={self.monitor!r} is not among {', '.join(logs)}; "
                "validation figures need validation_data or validation_split"
            )
        value = self.sign * logs[self.monitor]
        if value - self.min_delta > self.best:
            self.best = value
            return True
        return False


class EarlyStopping(_Monitor):
    """Stop when a figure has not become better for `patience` epochs.

    Parameters
    ----------
    monitor : str
        Name of the figure: "loss", "val_loss", "val_accuracy", ...
    min_delta : float
        The least that counts as better.
    patience : int
        Epochs without a better figure before the fit stops.
    mode : {"auto", "min", "max"}
        Which way is better; "auto" takes accuracy and AUC to rise, all others to fall.
    restore_best_weights : bool
        Go back to the weights of the best epoch at the end.
    start_from_epoch : int
        Epochs before this one are not looked at.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: Mode = "auto",
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, min_delta, mode)
        self.patience = whole(patience, "EarlyStopping: patience", 0)
        self.start_from_epoch = start_from_epoch
        self.restore_best_weights = restore_best_weights
        self.stopped_epoch = 0

    def on_train_begin(self) -> None:
        """Forget an earlier fit."""
        super().on_train_begin()
        self.waited = self.stopped_epoch = 0
        self._weights: list[NDArray[Any]] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Look at the figure."""
        if epoch < self.start_from_epoch:
            return
        if self.improved(logs):
            self.waited = 0
            if self.restore_best_weights:
                self._weights = self.model.get_weights()
            return
        self.waited += 1
        if self.waited >= max(self.patience, 1):
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self) -> None:
        """Restore the best weights, if that is wanted."""
        if self._weights is not None:
            self.model.set_weights(self._weights)


class ModelCheckpoint(_Monitor):
    """Save the model after each epoch.

    Parameters
    ----------
    filepath : path
        May hold ``{epoch}`` (from 1 on) and names of figures: ``"model-{epoch:02d}-{val_loss:.2f}.safetensors"``.
    monitor, mode
        See `EarlyStopping`.
    save_best_only : bool
        Save only when the figure is better than ever.
    save_optimizer : bool
        Keep what the optimizer remembers, too, so that training can go on from the file exactly; see
        `Sequential.save`.

    Raises
    ------
    OptionError
        `filepath` is no path; or, when it is filled in, names a figure that there is not.
    ModelFileError
        Its folder is missing, before the first step; or the file cannot be written.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: Mode = "auto",
        *,
        save_optimizer: bool = False,
    ):
        super().__init__(monitor, 0.0, mode)
        self.filepath = check_path("ModelCheckpoint: filepath", filepath)
        self.save_best_only = save_best_only
        self.save_optimizer = save_optimizer

    def on_train_begin(self) -> None:
        """Forget an earlier fit; look for the folder now rather than after an epoch's work."""
        super().on_train_begin()
        folder = Path(self.filepath).parent
        if "{" not in str(folder) and not folder.is_dir():
            raise ModelFileError(
                f"ModelCheckpoint: cannot save to {self.filepath}: its folder is missing; make it first, or choose "
                "another place"
            )

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save."""
        if self.save_best_only and not self.improved(logs):
            return
        try:
            path = self.filepath.format(epoch=epoch + 1, **logs)
        except (LookupError, ValueError, AttributeError) as error:  # str.format knows no such name or format
            known = ", ".join(["epoch", *logs])
            raise OptionError(f"ModelCheckpoint: {self.filepath!r} asks for {error}; there is {known}") from None
        self.model.save(path, **({"optimizer": True} if self.save_optimizer else {}))


class ReduceLROnPlateau(_Monitor):
    """Lower the learning rate when a figure has not become better for `patience` epochs.

    Parameters
    ----------
    monitor, mode, min_delta
        See `EarlyStopping`.
    factor : float
        What the learning rate is multiplied by.
    patience, cooldown : int
        Epochs to wait before lowering, and after it before counting again.
    min_lr : float
        Never below this.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: Mode = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, min_delta, mode)
        if not isinstance(factor, int | float) or not 0.0 < factor < 1.0:
            raise OptionError(f"ReduceLROnPlateau: factor={factor!r}; expected 0 < factor < 1")
        self.patience = whole(patience, "ReduceLROnPlateau: patience", 0)
        self.cooldown = whole(cooldown, "ReduceLROnPlateau: cooldown", 0)
        self.factor, self.min_lr = factor, min_lr

    def on_train_begin(self) -> None:
        """Forget an earlier fit."""
        super().on_train_begin()
        self.waited = self.cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Look at the figure."""
        optimizer = self.model.optimizer
        logs["learning_rate"] = optimizer.learning_rate
        better = self.improved(logs)
        if self.cooling:
            self.cooling -= 1
            self.waited = 0
        if better:
            self.waited = 0
        elif not self.cooling:
            self.waited += 1
            if self.waited >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.waited, self.cooling = 0, self.cooldown


class LearningRateScheduler(Callback):
    """Move the learning rate along a schedule, batch by batch, from the optimizer's own rate.

    The optimizer has its own rate again when the fit ends well.

    Parameters
    ----------
    schedule : callable
        Takes the share of the fit that is done (0 to 1) and returns what the rate is multiplied by; see
        `fastlstm.schedules`.

    Examples
    --------
    >>> import fastlstm as fl
    >>> gentle = fl.callbacks.LearningRateScheduler(fl.schedules.warm_up(0.1, then=fl.schedules.cosine()))
    """

    def __init__(self, schedule: Schedule):
        if not callable(schedule):
            raise OptionError(f"LearningRateScheduler: schedule={schedule!r}; expected one of fastlstm.schedules")
        self.schedule = schedule

    def on_train_begin(self) -> None:
        """Remember the optimizer's rate."""
        self._rate = self.model.optimizer.learning_rate
        self._done = 0

    def on_train_batch_begin(self, batch: int) -> None:
        """Set the rate of this batch."""
        total = (self.params["epochs"] - self.params["initial_epoch"]) * self.params["steps"]
        self.model.optimizer.learning_rate = self._rate * self.schedule(self._done / total)
        self._done += 1

    def on_train_end(self) -> None:
        """Give the optimizer its rate back."""
        self.model.optimizer.learning_rate = self._rate


class CSVLogger(Callback):
    """Write every epoch's figures to a CSV file, one line an epoch, at once.

    Parameters
    ----------
    filename : path
    separator : str
        One character.
    append : bool
        Go on with the file that is there.

    Raises
    ------
    OptionError
        `filename` is no path, `separator` no single character.
    LogFileError
        The file cannot be written, its folder is missing for example, before the first step; or the one to go on with
        is no text.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        self.path = Path(check_path("CSVLogger: filename", filename))
        if not isinstance(separator, str) or len(separator) != 1 or separator in '\r\n"':
            raise OptionError(f"CSVLogger: separator={separator!r}; expected one character, such as ',' or ';'")
        self.separator = separator
        self.append = append
        self._names: list[str] | None = None

    def on_train_begin(self) -> None:
        """Begin a new file, or find out the columns of the one to go on with."""
        self._names = None
        try:
            if self.append and self.path.exists() and self.path.stat().st_size:
                with self.path.open(newline="", encoding="utf-8") as file:
                    self._names = next(csv.reader(file, delimiter=self.separator))[1:]
            else:
                self.path.write_text("", encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise LogFileError(
                f"CSVLogger: {self.path} is no CSV file to go on with ({error}); choose another, or append=False"
            ) from error

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write a line."""
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter=self.separator)
                if self._names is None:
                    self._names = sorted(logs)
                    writer.writerow(["epoch", *self._names])
                writer.writerow([epoch, *(float(logs[n]) if n in logs else "" for n in self._names)])
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> LogFileError:
        missing = isinstance(error, FileNotFoundError)
        return LogFileError(
            f"CSVLogger: cannot write {self.path}: {'its folder is missing' if missing else error.strerror}; "
            f"{'make it first, or ' if missing else ''}choose another place"
        )
