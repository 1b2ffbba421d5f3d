"""torch's recurrent modules with the weights of a case: outputs, final states and all gradients."""

import warnings

import numpy as np
import torch

from tests.naive.cells import Gradients

KINDS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


def supports(spec):
    """Tell whether torch has this layer."""
    if spec.kind == "rnn":
        return spec.activation in ("tanh", "relu")
    plain = spec.activation == "tanh" and spec.recurrent_activation == "sigmoid"
    return plain and not spec.peephole and not spec.coupled and spec.reset_after


def module(spec, weights, dtype="float64", bidirectional=False):
    """Return the module that holds these weights; those of the other direction end in ``_reverse``."""
    rows, features = weights["weight_ih_l0"].shape
    options = {"lstm": {"proj_size": spec.projection or 0}, "gru": {}, "rnn": {"nonlinearity": spec.activation}}
    made = KINDS[spec.kind](
        features,
        rows // len(spec.gates),
        batch_first=True,
        bias=spec.use_bias,
        bidirectional=bidirectional,
        dtype=getattr(torch, dtype),
        **options[spec.kind],
    )
    made.load_state_dict({name: torch.tensor(np.array(value)) for name, value in weights.items()}, strict=True)
    return made


def run(layer, x, state=None):
    """Return what a module returns; torch warns that oneDNN, which is faster, has no projections."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
        return layer(x, state)


def results(case, dtype="float64"):
    """Return (ys, finals, gradients) of a case, as `naive.cells` does: sequence by sequence, so that none is padded."""
    layer, kind = module(case.spec, case.weights, dtype), getattr(torch, dtype)

    def leaves(arrays):
        return [torch.tensor(array, dtype=kind, requires_grad=True) for array in arrays]

    xs, states, ys, ends, loss = leaves(case.xs), leaves(case.states), [], [], 0.0
    for n, x in enumerate(xs):
        start = tuple(part[n][None, None] for part in states)
        y, final = run(layer, x[None], start if case.spec.kind == "lstm" else start[0])
        final = final if case.spec.kind == "lstm" else (final,)
        ys.append(y[0].detach().numpy())
        ends.append([part[0, 0].detach().numpy() for part in final])
        loss = loss + (y[0] * torch.tensor(case.dys[n], dtype=kind)).sum()
        for part, d in zip(final, case.d_finals, strict=True):
            loss = loss + (part[0, 0] * torch.tensor(d[n], dtype=kind)).sum()
    loss.backward()
    finals = tuple(np.array(part) for part in zip(*ends, strict=True))
    weights = {name: value.grad.numpy() for name, value in layer.named_parameters()}
    return ys, finals, Gradients([x.grad.numpy() for x in xs], tuple(part.grad.numpy() for part in states), weights)
