"""Sequential: layers one after the other, with Keras's words and defaults."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..data.packed import BatchLike, Packed, is_ragged, pack
from ..data.sequences import SequenceSet
from ..errors import ModelFileError, NotBuiltError, OptionError
from ..layers import Layer, PassContext
from ..layers.base import size
from ..training import checkpoint, losses, metrics, optimizers
from ..training.callbacks import Callback, CallbackList, History
from ..training.fitting import Plan, fit, split_off
from ..training.loop import Evaluator, Trainer, batches_of, evaluate
from ..training.metrics import get as get_metric
from ..training.network import Network
from ..training.progress import Progress, Verbose, check_verbose, figures
from .description import describe_compiled, describe_layer, make_layer
from .resuming import describe_generator, make_generator, name_state, restore_state
from .stack import Stack

__all__ = ["Sequential"]


class Sequential(Stack):
    """A model that passes its input through a list of layers.

    Parameters
    ----------
    layers : sequence of Layer
        The first is an Embedding (ids in) or any other layer (features in).
    seed : int, optional
        Makes initial weights, shuffling and dropout repeatable, bit for bit.

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> model = fl.Sequential([fl.Embedding(20, 8), fl.LSTM(8), fl.Dense(1, activation="sigmoid")], seed=1)
    >>> model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    >>> x = np.random.default_rng(0).integers(0, 20, (64, 5))
    >>> history = model.fit(x, x[:, 0] > 9, epochs=2, verbose=0)
    >>> model.predict(x).shape
    (64, 1)
    """

    def __init__(self, layers: Sequence[Layer] = (), *, seed: int | None = None):
        super().__init__(layers, seed=seed)
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metrics: list[metrics.Metric] = []
        self.weighted_metrics: list[metrics.Metric] = []
        self.stop_training = False

    # --- training -----------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "rmsprop",
        loss: str | losses.Loss | None = None,
        metrics: Sequence[str | metrics.Metric] | None = None,
        weighted_metrics: Sequence[str | metrics.Metric] | None = None,
    ) -> None:
        """Say how the model is trained and judged.

        Parameters
        ----------
        optimizer : str or Optimizer
            "sgd", "rmsprop", "adam", "adamw".
        loss : str or Loss
            "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy", "mse", "mae", "huber".
        metrics : sequence of str or Metric
            "accuracy", "perplexity", "mae", "auc": over all rows alike.
        weighted_metrics : sequence of str or Metric
            The same, with sample and class weights.

        Raises
        ------
        OptionError
            A name that is not known.
        """
        if loss is None:
            raise OptionError("compile: no loss; pass one, such as loss='binary_crossentropy'")
        self.optimizer = optimizers.get(optimizer)
        self.loss = losses.get(loss)
        self.metrics = [get_metric(metric, self.loss) for metric in _several(metrics)]
        self.weighted_metrics = [get_metric(metric, self.loss) for metric in _several(weighted_metrics)]
        for metric in self.weighted_metrics:
            if any(metric.name == other.name for other in self.metrics):
                metric.name = f"weighted_{metric.name}"

    def _compiled(self, what: str) -> tuple[losses.Loss, optimizers.Optimizer]:
        if self.loss is None or self.optimizer is None:
            raise NotBuiltError(f"{what}: the model is not compiled; call compile(optimizer, loss) first")
        return self.loss, self.optimizer

    def _evaluator(self, loss: losses.Loss) -> Evaluator:
        return Evaluator(Network(self.layers), loss, self.metrics, self.weighted_metrics)

    def fit(
        self,
        x: BatchLike,
        y: BatchLike,
        batch_size: int | None = 32,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[Any, ...] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: ArrayLike | None = None,
        initial_epoch: int = 0,
        lengths: ArrayLike | None = None,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array or list of arrays
            ``(N, T, D)`` features or ``(N, T)`` ids; or a list of ``(T_n, D)`` or ``(T_n,)``.
        y : array or list of arrays
            A target for each sequence, ``(N,)`` or ``(N, K)``; or, where the model puts out steps, for each step.
        batch_size, epochs, initial_epoch : int
            Training runs from epoch `initial_epoch` to `epochs`.
        verbose : {"auto", 0, 1, 2}
            0 nothing, 1 a bar, 2 a line an epoch; "auto" is a bar on a terminal, else lines.
        callbacks : sequence of Callback
        validation_split : float
            Share of the sequences, from the end, that is held out and judged after each epoch.
        validation_data : tuple
            ``(x, y)``, ``(x, y, sample_weight)`` or ``(x, y, sample_weight, lengths)`` to evaluator instead.
        shuffle : bool
            New order each epoch.
        class_weight : mapping of int to float
            Weight by the class that an integer target names; classes left out weigh 1.
        sample_weight : array
            ``(N,)``, or ``(N, T)`` for targets by step.
        lengths : array of int, shape (N,)
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
        plan = Plan(32 if batch_size is None else batch_size, epochs, initial_epoch, shuffle, class_weight)
        loss, optimizer = self._compiled("fit")
        data = self._data("fit", x, y, sample_weight, lengths, targets=True)
        held = None
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3, 4):
                raise OptionError(
                    "fit: validation_data is no tuple (x, y), or with sample_weight and lengths after them"
                )
            held = self._data("fit: validation_data", *validation_data, targets=True)
        elif validation_split:
            data, held = split_off(data, validation_split)
        first = data.take(np.arange(1), self._dtype).x
        self.build(0 if self.takes_ids else first.features, steps=first.steps)

        trainer = Trainer(self._evaluator(loss), optimizer, self.rng)
        batches = plan.batches(len(data))
        history, progress = History(), Progress(epochs, batches, len(data), verbose)
        sizes = {"epochs": epochs, "initial_epoch": initial_epoch, "steps": batches, "samples": len(data)}
        calls = CallbackList([*_several(callbacks), history, progress], self, sizes)
        self.stop_training = False
        try:
            fit(trainer, data, held, plan, calls, lambda: self.stop_training)
        finally:
            progress.close()
        return history

    def evaluate(
        self,
        x: BatchLike,
        y: BatchLike,
        batch_size: int | None = 32,
        verbose: Verbose = 0,
        sample_weight: ArrayLike | None = None,
        *,
        return_dict: bool = False,
        lengths: ArrayLike | None = None,
    ) -> Any:
        """Return the loss and metrics on a set; arguments as in `fit`.

        Returns
        -------
        float, list of float, or dict
            As in Keras: the loss alone; with metrics ``[loss, *metrics]``; with `return_dict` by name.
        """
        self._need_built("evaluate")
        loss, _ = self._compiled("evaluate")
        check_verbose("evaluate", verbose)
        rows = _batch_size("evaluate", batch_size)
        data = self._data("evaluate", x, y, sample_weight, lengths, targets=True)
        logs = evaluate(self._evaluator(loss), data, rows)
        if verbose not in (0, "auto"):
            print(figures(logs))
        if return_dict:
            return logs
        values = list(logs.values())
        return values if len(values) > 1 else values[0]

    def _data(
        self,
        who: str,
        x: BatchLike,
        y: BatchLike | None = None,
        sample_weight: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        targets: bool = False,
    ) -> SequenceSet:
        if not self.layers:
            raise NotBuiltError(f"{who}: the model has no layers; add some first")
        if targets and y is None:
            raise OptionError(f"{who}: y is None; pass the targets")
        return SequenceSet(
            x,
            y,
            sample_weight,
            lengths,
            ids=self.takes_ids,
            by_step=self._returns_steps,
            samples=self.layers[0].takes_samples,
            who=who,
        )

    # --- inference ----------------------------------------------------------------------------------------------

    def predict(
        self,
        x: BatchLike,
        batch_size: int | None = 32,
        verbose: Verbose = 0,
        *,
        lengths: ArrayLike | None = None,
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

        Returns
        -------
        array or list of arrays
            ``(N, K)`` for a model that puts out one row a sequence; else steps in the form of `x`.

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
        data = self._data("predict", x, lengths=lengths)
        network = Network(self.layers)
        outputs: list[Any] = []
        for which in batches_of(len(data), rows):
            taken = data.take(which, self._dtype).x
            self._check_input(taken)
            outputs.append(data.form.unpack(network.forward(taken, PassContext())[0]))
        if isinstance(outputs[0], list):
            return [row for output in outputs for row in output]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _check_input(self, x: Packed) -> None:
        if not self.takes_ids:
            self.layers[0].check_features(x.features)

    def __call__(self, x: BatchLike, *, lengths: ArrayLike | None = None) -> Any:
        """Return the model's output for one batch; a model without weights builds itself for it first."""
        if not self.built:
            steps = self.takes_ids or is_ragged(x) or np.ndim(cast(ArrayLike, x)) == 3
            packed, _ = pack(x, lengths, features=not self.takes_ids, who="Sequential", steps=steps)
            self.build(0 if self.takes_ids else packed.features, steps=packed.steps)
        return self.predict(x, batch_size=len(x), lengths=lengths)  # type: ignore[arg-type]

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = False) -> None:
        """Write the model to a safetensors file; what stood there stays whole until the new one is complete.

        Tensors are named ``layer.parameter`` with torch's names. How the model was compiled is kept.

        Parameters
        ----------
        path : path
            Usually ``*.safetensors``.
        optimizer : bool
            Also keep what the optimizer remembers, its step count and running means, and where the model's random
            generator stands. A fit of the loaded model, with `initial_epoch` set to the epochs done, then takes the
            same steps as one that was never broken off, bit for bit. What callbacks remember is not kept. Adam's file
            is three times as large.

        Raises
        ------
        NotBuiltError
            The model has no weights; or `optimizer` is asked for and the model is not compiled.
        OptionError
            `optimizer` is asked for, but an optimizer, loss, metric or generator of your own cannot be made again.
        ModelFileError
            The file cannot be written.

        Examples
        --------
        >>> import numpy as np, fastlstm as fl, os, tempfile
        >>> model = fl.Sequential([fl.LSTM(4), fl.Dense(1)], seed=0)
        >>> model.compile("adam", "mse")
        >>> x, y = np.ones((8, 3, 2)), np.zeros(8)
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(os.path.join(folder, "m.safetensors"), optimizer=True)
        ...     resumed = fl.load(os.path.join(folder, "m.safetensors"))
        >>> on = model.fit(x, y, epochs=2, initial_epoch=1, verbose=0).history
        >>> on == resumed.fit(x, y, epochs=2, initial_epoch=1, verbose=0).history
        True
        """
        self._need_built("save")
        tensors, compiled = self.state_dict(), None
        if self.loss is not None and self.optimizer is not None:
            compiled = describe_compiled(self.loss, self.optimizer, self.metrics, self.weighted_metrics)
        config = {"model": "Sequential", "layers": [*map(describe_layer, self.layers)], "compiled": compiled}
        if optimizer:
            _, trained_by = self._compiled("save with optimizer=True")
            if compiled is None:
                raise OptionError(
                    "save: optimizer=True, but an optimizer, loss or metric is of a class of your own, which no file "
                    "can make again; save without, and keep optimizer.state_dict() yourself"
                )
            tensors |= name_state(trained_by, self._names)
            config["generator"] = describe_generator(self.rng)
        checkpoint.save_file(path, tensors, config)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Sequential":
        """Return the model that `save` wrote, compiled as it was; with its optimizer's state where that was kept."""
        return cls.from_saved(*checkpoint.load_file(path), str(path))

    @classmethod
    def from_saved(cls, tensors: Mapping[str, ArrayLike], config: Mapping[str, Any], path: str) -> "Sequential":
        """Return the model that the contents of a file describe; a ModelFileError names the file."""
        if config.get("model") != "Sequential":
            raise ModelFileError(f"{path} holds a {config.get('model')}, not a Sequential; use fastlstm.load")
        try:
            return cls.from_config(tensors, config)
        except (KeyError, TypeError, ValueError, ModelFileError) as error:
            raise ModelFileError(f"{path} is not a Sequential that this version can read: {error}") from error

    @classmethod
    def from_config(cls, tensors: Mapping[str, ArrayLike], config: Mapping[str, Any]) -> "Sequential":
        """Return the model of a description and its tensors."""
        model = cls([make_layer(described) for described in config["layers"]])
        for layer, described in zip(model.layers, config["layers"], strict=True):
            layer.allocate(described["features"])
        model._joined = True
        compiled = config.get("compiled")
        if compiled is not None:
            optimizer, loss = optimizers.get(*compiled["optimizer"]), losses.get(*compiled["loss"])
            model.compile(optimizer, loss, compiled["metrics"], compiled["weighted_metrics"])
            if "generator" in config:  # saved with the optimizer's state
                tensors = restore_state(optimizer, model._names, tensors)
                model.rng = make_generator(config["generator"])
        model.load_state_dict(tensors)
        return model


def _batch_size(who: str, given: int | None) -> int:
    """Return how many sequences are taken at a time; None means Keras's 32."""
    return 32 if given is None else size(who, "batch_size", given)


def _several(given: Any) -> list[Any]:
    """Return a list of what was passed as none, one, or several."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
