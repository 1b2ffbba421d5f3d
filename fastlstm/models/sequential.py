"""Sequential: layers one after the other, with Keras's words and defaults."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.packed import Batch, Form, Packed, is_ragged, pack
from ..data.sequences import SequenceSet
from ..errors import ModelFileError, NotBuiltError, OptionError, ShapeError
from ..layers import Layer, Run, Stream
from ..training import checkpoint, losses, metrics, optimizers
from ..training.callbacks import Callback, CallbackList, History
from ..training.fitting import Plan, fit, split_off
from ..training.loop import Judge, Trainer, batches_of, evaluate
from ..training.metrics import get as get_metric
from ..training.network import Network
from ..training.progress import Progress, Verbose, figures
from .description import describe_compiled, describe_layer, make_layer, name_of_kind

__all__ = ["Sequential"]


class Sequential:
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
        self.layers: list[Layer] = []
        self.rng = np.random.default_rng(seed)
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metrics: list[metrics.Metric] = []
        self.weighted_metrics: list[metrics.Metric] = []
        self.stop_training = False
        self._joined = False  # whether the layers were fitted to each other (one from another model has its weights)
        for layer in layers:
            self.add(layer)

    # --- structure ----------------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Append a layer."""
        if not isinstance(layer, Layer):
            raise OptionError(f"Sequential: {layer!r} is no layer")
        if any(layer is other for other in self.layers):
            raise OptionError(f"Sequential: the same {layer.kind} twice; make a new one for each place")
        if self._joined:
            raise OptionError("Sequential: the model is built already; add layers before its first use")
        if layer.name is None:
            stem = name_of_kind(layer.kind)
            taken = {other.name for other in self.layers}
            number = 0
            while (name := f"{stem}_{number}" if number else stem) in taken:
                number += 1
            layer.name = name
        elif any(layer.name == other.name for other in self.layers):
            raise OptionError(f"Sequential: two layers are called {layer.name!r}; give them different names")
        self.layers.append(layer)

    @property
    def built(self) -> bool:
        """Whether every layer has its parameters."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def takes_ids(self) -> bool:
        """Whether the model takes ids rather than features."""
        return bool(self.layers) and self.layers[0].takes_ids

    def build(self, features: int = 0, *, steps: bool = True) -> None:
        """Create all parameters for inputs of `features` features (0 where ids go in).

        Parameters
        ----------
        features : int
        steps : bool
            Whether the input has time.
        """
        if not self.layers:
            raise NotBuiltError("Sequential: no layers; add some first")
        for place, layer in enumerate(self.layers):
            if layer.takes_ids and place:
                raise ShapeError(f"Sequential: {layer.kind} takes ids, so it can only be the first layer")
            if not steps and not layer.takes_samples:
                before = self.layers[place - 1].name if place else None
                raise ShapeError(
                    f"Sequential: {layer.name} takes sequences, but "
                    + (f"{before} puts out one row each: set return_sequences=True there" if before else "x has none")
                )
            if layer.dtype != self._dtype:
                if layer.create(features, np.random.default_rng()):
                    raise OptionError(
                        f"Sequential: {layer.name} computes in {layer.dtype}, {self.layers[0].name} in {self._dtype}; "
                        "give all layers the same dtype="
                    )
                layer.dtype = self._dtype  # without parameters it takes what comes
            if not layer.built:
                layer.build(features, self.rng)
            elif not layer.takes_ids:
                layer.check_features(features)
            features = layer.features_out
            steps = steps and layer.returns_steps
        self._joined = True

    @property
    def _returns_steps(self) -> bool:
        return all(layer.returns_steps for layer in self.layers)

    def _need_built(self, what: str) -> None:
        if not self.built:
            raise NotBuiltError(f"{what}: the model has no weights yet; call fit, or build(features), or load one")

    def summary(self) -> str:
        """Print, and return, a table of layers, output shapes and parameters."""
        rows = [("layer", "output", "parameters")]
        steps = True
        for layer in self.layers:
            steps = steps and layer.returns_steps
            features = str(layer.features_out) if layer.built or layer.features_out else "?"
            count = f"{sum(value.size for value in layer.params.values()):,}" if layer.built else "not built"
            rows.append((f"{layer.name} ({layer.kind})", f"(N, T, {features})" if steps else f"(N, {features})", count))
        total = sum(value.size for layer in self.layers for value in layer.params.values())
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        lines.insert(1, "-" * len(lines[0]))
        lines.append(f"total {total:,} parameters" if self.built else "total: not built yet")
        text = "\n".join(lines)
        print(text)
        return text

    def get_weights(self) -> list[NDArray[Any]]:
        """Return copies of all parameters, in the order of the layers."""
        return [value.copy() for layer in self.layers for value in layer.params.values()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all parameters with what `get_weights` returned."""
        self._need_built("set_weights")
        params = [value for layer in self.layers for value in layer.params.values()]
        given = [np.asarray(value) for value in weights]
        if [value.shape for value in given] != [value.shape for value in params]:
            raise ShapeError("set_weights: the arrays do not fit this model's parameters in number or shape")
        for param, value in zip(params, given, strict=True):
            param[...] = value
        for layer in self.layers:
            layer.changed()

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

    def _judge(self, loss: losses.Loss) -> Judge:
        return Judge(Network(self.layers), loss, self.metrics, self.weighted_metrics)

    def fit(
        self,
        x: Batch,
        y: Batch,
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
            ``(x, y)``, ``(x, y, sample_weight)`` or ``(x, y, sample_weight, lengths)`` to judge instead.
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
        self.build(0 if self.takes_ids else first.rows.shape[1], steps=first.steps)

        trainer = Trainer(self._judge(loss), optimizer, self.rng)
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
        x: Batch,
        y: Batch,
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
        if batch_size is not None and batch_size < 1:
            raise OptionError(f"evaluate: batch_size={batch_size}; expected 1 or more")
        data = self._data("evaluate", x, y, sample_weight, lengths, targets=True)
        logs = evaluate(self._judge(loss), data, 32 if batch_size is None else batch_size)
        if verbose not in (0, "auto"):
            print(figures(logs))
        if return_dict:
            return logs
        values = list(logs.values())
        return values if len(values) > 1 else values[0]

    def _data(
        self,
        who: str,
        x: Batch,
        y: Batch | None = None,
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

    @property
    def _dtype(self) -> Any:
        return self.layers[0].dtype

    # --- inference ----------------------------------------------------------------------------------------------

    def predict(
        self,
        x: Batch,
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
            Accepted for Keras's sake; predict is silent.

        Returns
        -------
        array or list of arrays
            ``(N, K)`` for a model that puts out one row a sequence; else steps in the form of `x`.

        Raises
        ------
        NotBuiltError
            The model has no weights yet.
        """
        self._need_built("predict")
        batch_size = 32 if batch_size is None else batch_size
        if batch_size < 1:
            raise OptionError(f"predict: batch_size={batch_size}; expected 1 or more")
        data = self._data("predict", x, lengths=lengths)
        network = Network(self.layers)
        outputs: list[Any] = []
        for which in batches_of(len(data), batch_size):
            taken = data.take(which, self._dtype).x
            self._check_input(taken)
            form = self._form(data)
            outputs.append(form.unpack(network.forward(taken, Run())[0]))
        if isinstance(outputs[0], list):
            return [row for rows in outputs for row in rows]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    @staticmethod
    def _form(data: SequenceSet) -> Form:
        if isinstance(data.x, list):
            return Form("list", 0)
        return Form("array" if data.lengths is None else "padded", data.x.shape[1] if data.x.ndim > 1 else 1)

    def _check_input(self, x: Packed) -> None:
        if not self.takes_ids:
            self.layers[0].check_features(x.rows.shape[1])

    def __call__(self, x: Batch, *, lengths: ArrayLike | None = None) -> Any:
        """Return the model's output for one batch; a model without weights builds itself for it first."""
        if not self.built:
            steps = self.takes_ids or is_ragged(x) or np.ndim(cast(ArrayLike, x)) == 3
            packed, _ = pack(x, lengths, features=not self.takes_ids, who="Sequential", steps=steps)
            self.build(0 if self.takes_ids else packed.rows.shape[1], steps=packed.steps)
        return self.predict(x, batch_size=len(x), lengths=lengths)  # type: ignore[arg-type]

    def stream(self, batch: int = 1) -> Stream:
        """Return a session that reads `batch` sequences a step at a time, with the bits of whole sequences.

        Examples
        --------
        >>> import numpy as np, fastlstm as fl
        >>> model = fl.Sequential([fl.LSTM(8, return_sequences=True), fl.Dense(2)])
        >>> whole = model(np.ones((1, 3, 4)))
        >>> session = model.stream()
        >>> steps = [session.step(np.ones((1, 4))) for _ in range(3)]
        >>> bool((whole[:, 2] == steps[2]).all())
        True
        """
        self._need_built("stream")
        return Stream(self.layers, batch)

    # --- files --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of all parameters, named ``layer.parameter``: ``lstm.weight_ih_l0``."""
        self._need_built("state_dict")
        return {f"{layer.name}.{name}": value for layer in self.layers for name, value in layer.state_dict().items()}

    def load_state_dict(self, tensors: Mapping[str, ArrayLike]) -> None:
        """Take over all parameters by the names that `state_dict` gives; all must be there, and fit."""
        if unknown := {name.rsplit(".", 1)[0] for name in tensors} - {str(layer.name) for layer in self.layers}:
            raise ShapeError(f"load_state_dict: tensors for {sorted(unknown)}, which are no layers of this model")
        for layer in self.layers:
            split = ((*name.rpartition("."), value) for name, value in tensors.items())
            own = {name: value for prefix, _, name, value in split if prefix == layer.name}
            if own or layer.params:
                layer.load_state_dict(own)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file; what stood there stays whole until the new one is complete.

        Tensors are named ``layer.parameter`` with torch's names. How the model was compiled is kept, what the optimizer
        remembers is not.
        """
        self._need_built("save")
        compiled = None
        if self.loss is not None and self.optimizer is not None:
            compiled = describe_compiled(self.loss, self.optimizer, self.metrics, self.weighted_metrics)
        config = {"model": "Sequential", "layers": [*map(describe_layer, self.layers)], "compiled": compiled}
        checkpoint.save_file(path, self.state_dict(), config)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Sequential":
        """Return the model that `save` wrote."""
        tensors, config = checkpoint.load_file(path)
        if config.get("model") != "Sequential":
            raise ModelFileError(f"{path} holds a {config.get('model')}, not a Sequential; use fastlstm.load")
        return cls.from_config(tensors, config)

    @classmethod
    def from_config(cls, tensors: Mapping[str, ArrayLike], config: Mapping[str, Any]) -> "Sequential":
        """Return the model of a description and its tensors."""
        model = cls([make_layer(described) for described in config["layers"]])
        for layer, described in zip(model.layers, config["layers"], strict=True):
            layer.build(described["features"])
        model._joined = True
        model.load_state_dict(tensors)
        compiled = config.get("compiled")
        if compiled is not None:
            optimizer, loss = optimizers.get(*compiled["optimizer"]), losses.get(*compiled["loss"])
            model.compile(optimizer, loss, compiled["metrics"], compiled["weighted_metrics"])
        return model


def _several(given: Any) -> list[Any]:
    """Return a list of what was passed as none, one, or several."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
