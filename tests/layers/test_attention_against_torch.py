"""Attention against torch's autograd: softmax over masked scores, written out by hand."""

import numpy as np
import pytest

from tests.layers.attending import KINDS, fits, layer_for, random_case, train
from tests.tolerances import assert_gradients_close, assert_outputs_close

torch = pytest.importorskip("torch")


def padded(sequences, dtype):
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(x.astype(dtype)) for x in sequences], batch_first=True)


def scores(layer, query, key, parameters):
    """Return the scores (N, Tq, Tv) before the softmax."""
    if "query_weight" in parameters:
        query, key = query @ parameters["query_weight"].T, key @ parameters["key_weight"].T
    if layer.kind == "AdditiveAttention":
        y = torch.tanh(query[:, :, None] + key[:, None])
        return y @ parameters["scale"] if "scale" in parameters else y.sum(-1)
    if "weight" in parameters:
        query = query @ parameters["weight"].T
    return torch.bmm(query, key.transpose(1, 2)) * parameters.get("scale", 1.0)


def torch_results(layer, case, dtype):
    """Return outputs and gradients as `train` does, padded."""
    inputs = [padded(part, dtype).requires_grad_() for part in case.inputs]
    parameters = {name: torch.tensor(value).requires_grad_() for name, value in layer.params.items()}
    steps = torch.tensor([len(x) for x in case.inputs[1]])
    e = scores(layer, inputs[0], inputs[-1], parameters)
    seen = torch.arange(e.shape[2])[None, None] < steps[:, None, None]
    if layer.use_causal_mask:
        seen = seen & torch.ones(e.shape[1:], dtype=torch.bool).tril()[None]
    weights = torch.softmax(e.masked_fill(~seen, float("-inf")), dim=2)
    context = torch.bmm(weights, inputs[1])
    dweights = torch.zeros_like(weights)
    for n, part in enumerate(case.dweights):
        dweights[n, : part.shape[0], : part.shape[1]] = torch.tensor(part.astype(dtype))
    ((padded(case.dcontext, dtype) * context).sum() + (dweights * weights).sum()).backward()
    return context, weights, [x.grad for x in inputs], {name: value.grad for name, value in parameters.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [(5, 5), (64, 64), (70, 33), (33, 130, 33)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_outputs_and_gradients_are_torchs(kind, features, causal, dtype, rng):
    if not fits(kind, features):
        features = (features[-1], *features[1:])
    case = random_case(rng, [5, 60, 12, 1, 20], [7, 3, 19, 1, 20], features)
    layer = layer_for(kind, case, dtype, use_causal_mask=causal)
    result = train(layer, case)
    context, weights, inputs, parameters = torch_results(layer, case, dtype)
    for n, query in enumerate(case.inputs[0]):
        assert_outputs_close(result.context[n], context[n, : len(query)].detach(), what=f"context {n}")
        assert_outputs_close(result.weights[n], weights[n, : len(query)].detach(), what=f"weights {n}")
    for place, gradient in enumerate(inputs):
        for n, x in enumerate(case.inputs[place]):
            wanted = gradient[n, : len(x)].numpy()
            if np.abs(wanted).max() > 1e-3:  # of a memory of one step only rounding errors
                assert_gradients_close(result.inputs[place][n], wanted, what=f"gradient of input {place}, pair {n}")
    for name, gradient in parameters.items():
        assert_gradients_close(result.parameters[name], gradient.numpy(), what=name)
