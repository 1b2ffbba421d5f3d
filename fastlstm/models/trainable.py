"""What every model of layers can do: fit, evaluate, predict, with Keras's words and defaults."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.sequences import Batch, DataSet
from ..errors import OptionError
from ..layers import PassContext
from ..layers.base import size
from ..training.callbacks import Callback, CallbackList, History
from ..training.fitting import ArrayFeed, Feed, IterableFeed, Plan, fit, split_off
from ..training.graph import Graph
from ..training.loop import Trainer, batches_of, check_batch, evaluate
from ..training.objective import Objective
from ..training.progress import Progress, Verbose, check_verbose, figures
from .compiled import several
from .data import Unpacker, is_iterable_of_batches, join
from .saved import Saved

__all__ = ["Trainable"]


class Trainable(Saved):
    """A model that is trained from arrays; `Model` and `Sequential` say how its layers are connected."""

    stop_training = False
    """A callback sets it to end a fit."""

    def __init__(self, seed: int | None):
        super().__init__(seed)
        self._kept_trainer: tuple[Any, Trainer[Objective]] | None = None

    # --- training -------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        *,
        lengths: Any = None,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array or list of arrays, list or dict of them, or an iterable of batches
            ``(N, T, D)`` features or ``(N, T)`` ids; or a list of ``(T_n, D)`` or ``(T_n,)``. A model with several
            inputs takes a list of these, or a dict by the inputs' names. A generator, or anything else that can be
            gone through, yields batches ``(x, y)`` or ``(x, y, sample_weight)``.
        y : array or list of arrays, or list or dict of them
            A target for each sequence, ``(N,)`` or ``(N, K)``; or, where the model puts out steps, for each step. With
            several outputs a list of these, or a dict by the outputs' names.
        batch_size, epochs, initial_epoch : int
            Batches have 32 sequences by default; training runs from epoch `initial_epoch` to `epochs`.
        verbose : {"auto", 0, 1, 2}
            0 nothing, 1 a bar, 2 a line an epoch; "auto" is a bar on a terminal, else lines.
        callbacks : sequence of Callback
        validation_split : float
            Share of the sequences, from the end, that is held out and judged after each epoch.
        validation_data : tuple or iterable of batches
            ``(x, y)``, ``(x, y, sample_weight)`` or ``(x, y, sample_weight, lengths)`` to judge instead.
        shuffle : bool
            New order each epoch.
        class_weight : mapping of int to float
            Weight by the class that an integer target names; classes left out weigh 1.
        sample_weight : array, or list or dict of them by output
            ``(N,)``, or ``(N, T)`` for targets by step. A row of weight 0 costs nothing in a last Dense layer.
        steps_per_epoch : int
            Batches of an epoch; needed for a generator and more than one epoch.
        validation_steps, validation_batch_size, validation_freq : int
            How many batches are judged, of how many sequences, and after every how many epochs.
        lengths : array of int, shape (N,), or list or dict of them by input
            True steps of each sequence of a padded array.

        Returns
        -------
        History
            ``history.history["loss"]`` and the other figures, one entry an epoch.

        Raises
        ------
        DataError
            Input with NaN or infinity (names the batch), ids or targets out of range, nothing to train on.
        DivergedError
            The loss became NaN (names the step); the last good weights are kept.
        ShapeError, OptionError, NotBuiltError
            Arguments that do not fit the model or each other.
        """
        check_verbose("fit", verbose)
        rows = 32 if batch_size is None else batch_size
        validating = validation_steps, validation_batch_size, validation_freq
        plan = Plan(rows, epochs, initial_epoch, shuffle, class_weight, steps_per_epoch, *validating)
        compiled = self._need_to_train("fit")
        held: Any = None
        feed: Feed
        if is_iterable_of_batches(x, y):
            for word, given in (("sample_weight", sample_weight), ("lengths", lengths)):
                if given is not None:
                    raise OptionError(
                        f"fit: {word}= goes with arrays; an iterable yields (x, y, sample_weight, lengths)"
                    )
            if validation_split:
                raise OptionError("fit: validation_split needs arrays; pass validation_data= beside an iterable")
            feed, first = self._iterable_feed(x, steps_per_epoch, "fit", class_weight)
        else:
            data = self._set("fit", x, y, sample_weight, lengths, targets=True)
            if validation_data is None and validation_split:
                data, held = split_off(data, validation_split)
            feed = ArrayFeed(data, rows, self.rng if shuffle else None, steps_per_epoch, class_weight)
            first = data
        held_rows = rows if validation_batch_size is None else validation_batch_size
        if validation_data is not None:
            who = "fit: validation_data"
            if is_iterable_of_batches(validation_data, None):
                held = self._iterable_feed(validation_data, validation_steps, who)[0]
            else:
                held = self._set_of_tuple(who, validation_data)
        self._prepare(first)
        graph = self._graph_for(first)
        if isinstance(held, DataSet):
            held = ArrayFeed(held, held_rows, steps=validation_steps, who="fit: validation data")
        trainer = Trainer(self._objective(graph, compiled), compiled.optimizer, self.rng)
        history, progress = History(), Progress(epochs, feed.batches, feed.samples, verbose)
        sizes = {"epochs": epochs, "initial_epoch": initial_epoch, "steps": feed.batches, "samples": feed.samples}
        calls = CallbackList([*several(callbacks), history, progress], self, sizes)  # type: ignore[arg-type]
        self.stop_training = False
        judged = None if held is None else (self._objective(graph, compiled), held)
        try:
            fit(trainer, feed, judged, plan, calls, lambda: self.stop_training)
        finally:
            progress.close()
        return history

    def _iterable_feed(
        self, x: Any, steps: int | None, who: str, class_weight: Mapping[int, float] | None = None
    ) -> tuple[IterableFeed, DataSet]:
        """Return a feed of what an iterable yields, and its first batch, which says for what data the model is."""

        def make(given: Any) -> DataSet:
            return self._set_of_tuple(f"{who}: what the iterable yields", given)

        if not isinstance(x, Iterator):
            given = next(iter(x), None)
            if given is None:
                raise OptionError(f"{who}: the iterable yields no batch; it should yield tuples (x, y)")
            return IterableFeed(x, make, steps, class_weight, who), make(given)
        given = next(x, None)
        if given is None:
            raise OptionError(f"{who}: the generator yields no batch; it should yield tuples (x, y)")
        return IterableFeed(_put_back(given, x), make, steps, class_weight, who), make(given)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
        *,
        lengths: Any = None,
    ) -> Any:
        """Take one optimizer step on a batch; return its loss and metrics from before the step, as `evaluate` does."""
        compiled = self._need_to_train("train_on_batch")
        data = self._set("train_on_batch", x, y, sample_weight, lengths, targets=True)
        self._prepare(data)
        graph = self._graph_for(data)
        key = graph, compiled, tuple(layer.trainable for layer in self.layers)
        if self._kept_trainer is None or self._kept_trainer[0] != key:
            trainer = Trainer(self._objective(graph, compiled), compiled.optimizer, self.rng)
            self._kept_trainer = key, trainer
        trainer = self._kept_trainer[1]
        objective = trainer.objective
        batch = data.take(np.arange(len(data)), objective.dtype, class_weight)
        check_batch(batch, objective, "train_on_batch", "the batch")
        objective.reset()
        trainer.step(batch, "this batch")
        return _figures(objective.logs(), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False, *, lengths: Any = None
    ) -> Any:
        """Return the loss and the metrics of a batch, as `evaluate` does."""
        return self.evaluate(x, y, max(1, _count(x)), 0, sample_weight, return_dict=return_dict, lengths=lengths)

    def predict_on_batch(self, x: Any, *, lengths: Any = None) -> Any:
        """Return the model's output for a batch, as `predict` does."""
        return self.predict(x, max(1, _count(x)), lengths=lengths)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = 32,
        verbose: Verbose = 0,
        sample_weight: Any = None,
        steps: int | None = None,
        *,
        return_dict: bool = False,
        lengths: Any = None,
    ) -> Any:
        """Return the loss and metrics on a set; arguments as in `fit`.

        Returns
        -------
        float, list of float, or dict
            As in Keras: the loss alone; with metrics ``[loss, *metrics]``; with `return_dict` by name.
        """
        self._need_built("evaluate")
        compiled = self._need_compiled("evaluate")
        check_verbose("evaluate", verbose)
        rows = _batch_size("evaluate", batch_size)
        feed: Feed
        if is_iterable_of_batches(x, y):
            feed, first = self._iterable_feed(x, steps, "evaluate")
        else:
            first = self._set("evaluate", x, y, sample_weight, lengths, targets=True)
            feed = ArrayFeed(first, rows, steps=steps, who="evaluate")
        objective = self._objective(self._graph_for(first), compiled)
        logs = evaluate(objective, feed.epoch(objective))
        if verbose not in (0, "auto"):
            print(figures(logs))
        return _figures(logs, return_dict)

    # --- inference ------------------------------------------------------------------------------------------------

    def predict(
        self,
        x: Any,
        batch_size: int | None = 32,
        verbose: Verbose = 0,
        steps: int | None = None,
        *,
        lengths: Any = None,
    ) -> Any:
        """Return the model's output.

        Parameters
        ----------
        x, lengths
            As in `fit`.
        batch_size : int
            Sequences at a time; the result does not depend on it, bit for bit.
        verbose
            Accepted for Keras's sake, and checked; predict is silent.
        steps : int
            Where `x` is an iterable of batches: how many of them.

        Returns
        -------
        array or list of arrays
            ``(N, K)`` for a model that puts out one row a sequence; else steps in the form of `x`. A list of these
            where there are several outputs.

        Raises
        ------
        NotBuiltError
            The model has no weights yet.
        OptionError, ShapeError, DataError
            Arguments as `fit` refuses them.
        """
        self._need_built("predict")
        check_verbose("predict", verbose)
        rows = _batch_size("predict", batch_size)
        if is_iterable_of_batches(x, None):
            parts = []
            for number, given in enumerate(x):
                if number == steps:
                    break
                one = given[0] if isinstance(given, tuple) else given
                parts.append(self._outputs("predict", self._set("predict", one), rows))
            if not parts:
                raise OptionError("predict: the iterable yields no batch")
            outputs = [join(list(some)) for some in zip(*parts, strict=True)]
        else:
            outputs = self._outputs("predict", self._set("predict", x, lengths=lengths), rows)
        return outputs[0] if len(outputs) == 1 else outputs

    def _outputs(self, who: str, data: DataSet, rows: int) -> list[Any]:
        graph = self._graph_for(data)
        unpackers = [Unpacker(symbol, graph, data) for symbol in graph.outputs]
        parts: list[list[Any]] = [[] for _ in graph.outputs]
        for which in batches_of(len(data), rows):
            batch = data.take(which, self._dtype)
            self._check_inputs(batch, graph)
            outputs, _ = graph.forward(batch.inputs, PassContext())
            for part, unpack, y in zip(parts, unpackers, outputs, strict=True):
                part.append(unpack(y, which))
        return [join(part) for part in parts]

    def run_once(self, x: Any, lengths: Any, context: PassContext) -> list[tuple[NDArray[np.int64], int]]:
        """Run all layers on what `predict` takes, as one batch, under a context that `inspect` makes.

        Returns
        -------
        list of (lengths, steps)
            Of each input: the true steps of its sequences, and what it is padded to (0: it is not).
        """
        self._need_built("inspect")
        data = self._set("inspect", x, lengths=lengths)
        graph = self._graph_for(data)
        batch = data.take(np.arange(len(data)), self._dtype)
        self._check_inputs(batch, graph)
        graph.forward(batch.inputs, context)
        given = zip(batch.inputs, data.inputs, strict=True)
        return [(np.array(packed.to_user_order(packed.lengths)), one.form.length) for packed, one in given]

    def _check_inputs(self, batch: Batch, graph: Graph) -> None:
        for symbol, x in zip(graph.inputs, batch.inputs, strict=True):
            for layer in graph.readers(symbol):
                if not (layer.takes_ids or layer.takes_several):
                    layer.check_features(x.features)


def _put_back(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _figures(logs: dict[str, float], return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]


def _count(x: Any) -> int:
    """Return how many sequences were passed, in whatever form."""
    if isinstance(x, Mapping):
        return _count(next(iter(x.values()))) if x else 1
    if isinstance(x, list | tuple) and x and isinstance(x[0], list | tuple | np.ndarray) and np.ndim(x[0]) > 1:
        return max(len(x), len(x[0]))  # inputs or sequences
    return len(x)


def _batch_size(who: str, given: int | None) -> int:
    """Return how many sequences are taken at a time; None means Keras's 32."""
    return 32 if given is None else size(who, "batch_size", given)
