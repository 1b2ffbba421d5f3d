"""What a model is compiled with: an optimizer, and a loss and metrics for each output."""

from typing import Any, Literal

from ..data.sequences import DataSet
from ..errors import NotBuiltError, OptionError
from ..training import losses, metrics, optimizers
from ..training.graph import Graph
from ..training.head import Output
from ..training.objective import Objective
from .compiled import Compiled, compile_for
from .data import Ports, make_set, ports_of
from .structure import Structure

__all__ = ["Compilable"]


class Compilable(Structure):
    """A model with names for its inputs and outputs, and `compile`."""

    def __init__(self, seed: int | None):
        super().__init__(seed)
        self._compiled: Compiled | None = None

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, as a dict of data has them."""
        raise NotImplementedError

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        raise NotImplementedError

    def _prepare(self, data: DataSet) -> None:
        """Make the layers' parameters, if they are not there yet, for such data."""
        self._need_built("fit")

    def _graph_for(self, data: DataSet) -> Graph:
        """Return how the layers are connected for such data."""
        return self.graph

    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        *,
        run_eagerly: bool = False,
        steps_per_execution: int | Literal["auto"] = 1,
        jit_compile: bool | Literal["auto"] = "auto",
    ) -> None:
        """Say how the model is trained and judged.

        Parameters
        ----------
        optimizer : str or Optimizer
            "sgd", "rmsprop", "adam", "adamw".
        loss : str, Loss, or a list or dict of them
            One for each output, by the output's name in a dict; one alone is that of every output.
        metrics : sequence of str or Metric, or a list or dict of them
            "accuracy", "perplexity", "mae", "auc": over all rows alike. With several outputs, some for each.
        loss_weights : list or dict of float
            What the loss of each output counts; default 1.
        weighted_metrics
            As `metrics`, with sample and class weights.
        run_eagerly, steps_per_execution, jit_compile
            Accepted for Keras's sake; kernels are always compiled.

        Raises
        ------
        OptionError
            A name that is not known.
        """
        self._compiled = compile_for(self.output_names, optimizer, loss, metrics, loss_weights, weighted_metrics)
        self._trainable_then = self._frozen

    @property
    def optimizer(self) -> optimizers.Optimizer | None:
        """What moves the parameters; None before `compile`."""
        return None if self._compiled is None else self._compiled.optimizer

    @property
    def loss(self) -> losses.Loss | dict[str, losses.Loss] | None:
        """The loss; of a model with several outputs, that of each by name; None before `compile`."""
        if self._compiled is None:
            return None
        tasks = self._compiled.tasks
        return tasks[0].loss if len(tasks) == 1 else {task.name: task.loss for task in tasks}

    @property
    def metrics(self) -> list[metrics.Metric]:
        """The metrics of all outputs, those with weights last."""
        tasks = [] if self._compiled is None else self._compiled.tasks
        plain = [metric for task in tasks for metric in task.plain]
        return plain + [metric for task in tasks for metric in task.weighted]

    @property
    def _frozen(self) -> set[str]:
        return {str(layer.name) for layer in self.layers if not layer.trainable}

    def _need_to_train(self, what: str) -> Compiled:
        """Return what the model was compiled with; raise OptionError if other layers are trainable since."""
        compiled = self._need_compiled(what)
        if changed := sorted(self._frozen ^ self._trainable_then):
            raise OptionError(
                f"{what}: trainable of {', '.join(changed)} was changed after compile; call compile again, with a new "
                "optimizer, so that it moves other parameters"
            )
        return compiled

    def _need_compiled(self, what: str) -> Compiled:
        if self._compiled is None:
            raise NotBuiltError(f"{what}: the model is not compiled; call compile(optimizer, loss) first")
        return self._compiled

    @property
    def _ports(self) -> Ports:
        """The inputs and outputs as data sees them."""
        return ports_of(self.graph, self.input_names, self.output_names)

    def _objective(self, graph: Graph, compiled: Compiled) -> Objective:
        outputs = [
            Output(task.name, symbol, task.loss, task.weight, tuple(task.plain), tuple(task.weighted))
            for symbol, task in zip(graph.outputs, compiled.tasks, strict=True)
        ]
        return Objective(graph.inputs, outputs, self.kind)

    def _set(
        self,
        who: str,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        lengths: Any = None,
        *,
        targets: bool = False,
    ) -> DataSet:
        return make_set(self._ports, x, y, sample_weight, lengths, who=who, targets=targets)

    def _set_of_tuple(self, who: str, given: Any) -> DataSet:
        if not isinstance(given, tuple | list) or len(given) not in (2, 3, 4):
            raise OptionError(f"{who} is no tuple (x, y), or with sample_weight and lengths after them")
        return self._set(who, *given, targets=True)
