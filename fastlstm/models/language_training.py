"""Training a language model: truncated BPTT over the windows of a text, for so many epochs or so many seconds."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.windows import Window, Windows
from ..errors import DivergedError
from ..layers.base import PassContext
from ..training import optimizers, schedules
from ..training.loop import Snapshot, Trainer
from .language_network import LanguageNetwork, NetworkState
from .language_options import LanguageModelOptions

__all__ = ["Progress", "Report", "Training", "train_network"]


class Progress(NamedTuple):
    """What a training tells after each step.

    Attributes
    ----------
    step, epoch : int
        Steps taken, and the epoch of the last one, from 1 on.
    loss : float
        The last step's mean loss in nats per token.
    tokens : int
        Tokens trained on so far.
    seconds : float
        Since the end of the first step, which may have had to compile the kernels.
    share : float
        How much of the training is done, 0 to 1.
    held_out_loss : float or None
        At the end of an epoch, where `patience` asks for it: mean loss of the held-out part.
    """

    step: int
    epoch: int
    loss: float
    tokens: int
    seconds: float
    share: float
    held_out_loss: float | None = None

    @property
    def speed(self) -> float:
        """Tokens per second since the first step."""
        return _speed(self.tokens, self.step, self.seconds)


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Training:
    """What a training did.

    Attributes
    ----------
    steps, epochs, tokens : int
        Windows and tokens trained on, and epochs begun.
    seconds : float
        From the end of the first step, which may have had to compile the kernels, to the end of the last.
    losses : tuple of float
        Mean loss of each step, in nats per token.
    """

    steps: int
    epochs: int
    tokens: int
    seconds: float
    losses: tuple[float, ...]

    @property
    def speed(self) -> float:
        """Tokens per second since the first step."""
        return _speed(self.tokens, self.steps, self.seconds)


def _speed(tokens: int, steps: int, seconds: float) -> float:
    return tokens * (steps - 1) / (steps * seconds) if steps > 1 else 0.0


def make_schedule(options: LanguageModelOptions) -> schedules.Schedule:
    """Return what the learning rate is multiplied by when a share of the training is done.

    It rises in a line over the first `warmup`, then follows the schedule to 0 at the end.

    Examples
    --------
    >>> schedule = make_schedule(LanguageModelOptions(schedule="linear", warmup=0.5))
    >>> [schedule(share) for share in (0.25, 0.5, 0.75, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    kinds = {"constant": schedules.constant, "linear": schedules.linear, "cosine": schedules.cosine}
    schedule = kinds[options.schedule]()
    return schedules.warm_up(options.warmup, schedule) if options.warmup else schedule


def make_optimizer(options: LanguageModelOptions) -> optimizers.Optimizer:
    """Return the optimizer that the options name, with its defaults but for what they say."""
    optimizer = optimizers.get(options.optimizer)
    optimizer.learning_rate = options.learning_rate
    optimizer.clipnorm = options.clip
    return optimizer


def train_network(
    network: LanguageNetwork,
    ids: NDArray[Any],
    options: LanguageModelOptions,
    *,
    report: Report | None = None,
    held_out_loss: Callable[[], float] | None = None,
) -> Training:
    """Train the weights of a network, in place.

    Parameters
    ----------
    network : LanguageNetwork
        Trained in place. Whatever ends the training early, an interrupt or an error, its weights are those of the
        last step whose loss was finite.
    ids : ndarray of int, shape (M,)
        The text.
    options : LanguageModelOptions
        How to train.
    report : callable, optional
        Called with a `Progress` after each step.
    held_out_loss : callable, optional
        Called after each epoch where the options have patience.

    Raises
    ------
    DataError
        The text is shorter than one window.
    DivergedError
        The loss became NaN or infinite.
    """
    training = _Training(network, ids, options, report, held_out_loss)
    try:
        training.run()
    except BaseException:
        training.trainer.restore()
        raise
    return training.result()


class _Windows:
    """A network's loss over windows that follow each other: the state goes from one to the next, gradients do not."""

    def __init__(self, network: LanguageNetwork):
        self.network = network
        self.params = [*network.params.values()]
        self.state: NetworkState | None = None

    @property
    def kept(self) -> list[NDArray[Any]]:
        return self.params

    def train(self, window: Window, context: PassContext) -> tuple[float, list[NDArray[Any]] | None]:
        step = self.network.train_step(window, self.state, context)
        self.state = step.state
        return step.loss, [step.gradients[name] for name in self.network.params] if math.isfinite(step.loss) else None

    def changed(self) -> None:
        self.network.changed()


class _Training:
    """One training while it runs."""

    def __init__(
        self,
        network: LanguageNetwork,
        ids: NDArray[Any],
        options: LanguageModelOptions,
        report: Report | None,
        held_out_loss: Callable[[], float] | None,
    ):
        # A short text is read in as many streams as it has windows for.
        streams = max(1, min(options.streams, (len(ids) - 1) // options.window))
        self.windows = Windows(ids, streams, options.window)
        self.network = network
        self.options = options
        self.report = report
        self.held_out_loss = held_out_loss if options.patience else None
        self.schedule = make_schedule(options)
        self.objective = _Windows(network)
        rng = np.random.default_rng([options.seed, 1])
        self.trainer = Trainer(self.objective, make_optimizer(options), rng, "clip=1")
        self.losses: list[float] = []
        self.epoch = self.tokens = 0
        self.clock = self.last = time.perf_counter()  # ends of the first step and of the last

    def run(self) -> None:
        """Train until the epochs, the seconds or the patience are used up."""
        best: tuple[float, int, Snapshot] | None = None
        while self.share < 1.0:
            self.epoch += 1
            self._run_epoch()
            if self.held_out_loss is not None:
                loss = self.held_out_loss()
                if not math.isfinite(loss):
                    raise DivergedError(
                        f"the held-out loss became {loss} after epoch {self.epoch}; the weights from before its last "
                        f"step are kept. Choose a lower learning rate than {self.options.learning_rate:g}"
                    )
                self._tell(loss)
                if best is None or loss < best[0]:
                    best = loss, self.epoch, Snapshot(self.objective.params)
                elif self.epoch - best[1] >= (self.options.patience or 0):
                    break
        self.trainer.check_parameters(f"the last update, step {len(self.losses)}")
        if best is not None:
            best[2].restore()
            self.objective.changed()

    def _run_epoch(self) -> None:
        self.objective.state = None
        for window in self.windows:
            where = f"step {len(self.losses) + 1} (epoch {self.epoch})"
            loss = self.trainer.step(window, where, lambda: self.options.learning_rate * self.schedule(self.share))
            self.last = time.perf_counter()
            if not self.losses:
                self.clock = self.last
            self.losses.append(loss)
            self.tokens += len(window.targets)
            self._tell()
            if self.share >= 1.0:
                return

    @property
    def share(self) -> float:
        """How much of the training is done: of the epochs or of the seconds, whichever is more."""
        epochs, seconds = self.options.most_epochs, self.options.seconds
        of_epochs = self.tokens / (epochs * self.windows.targets) if epochs else 0.0
        of_seconds = (time.perf_counter() - self.clock) / seconds if seconds and self.losses else 0.0
        return min(1.0, max(of_epochs, of_seconds))

    def _tell(self, held_out_loss: float | None = None) -> None:
        if self.report is not None:
            seconds = time.perf_counter() - self.clock
            done = len(self.losses), self.epoch, self.losses[-1], self.tokens
            self.report(Progress(*done, seconds, self.share, held_out_loss))

    def result(self) -> Training:
        """Return what was done."""
        return Training(len(self.losses), self.epoch, self.tokens, self.last - self.clock, tuple(self.losses))
