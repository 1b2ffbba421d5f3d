"""torch as the oracle of a whole language model: the same training, and our tensors in its modules (A5, A6)."""

import numpy as np
import pytest

from fastlstm.data.text import Corpus, default_text
from fastlstm.data.windows import Windows
from fastlstm.layers.base import PassContext
from fastlstm.models.language_model import LanguageModel
from fastlstm.training import optimizers

torch = pytest.importorskip("torch")

STREAMS, STEPS = 8, 25


class TorchModel(torch.nn.Module):
    def __init__(self, tensors, layers):
        super().__init__()
        vocabulary, embedding = tensors["embedding.weight"].shape
        hidden = tensors["lstm.weight_hh_l0"].shape[1]
        self.embedding = torch.nn.Embedding(vocabulary, embedding)
        self.lstm = torch.nn.LSTM(embedding, hidden, num_layers=layers)
        self.output = torch.nn.Linear(hidden, vocabulary)
        self.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()}, strict=True)

    def forward(self, ids, state):
        hidden, state = self.lstm(self.embedding(ids), state)
        return self.output(hidden), state


@pytest.fixture(scope="module")
def corpus():
    return Corpus.of(default_text()[:60_000])


@pytest.mark.parametrize("layers", [1, 2])
def test_a_hundred_steps_of_training_have_torchs_losses(corpus, layers):
    ours = LanguageModel(corpus.vocabulary, embedding=32, hidden=64, layers=layers, window=STEPS, streams=STREAMS)
    theirs = TorchModel(ours.state_dict(), layers)
    optimizer = optimizers.Adam(learning_rate=0.003, clipnorm=1.0, epsilon=1e-8)
    torch_optimizer = torch.optim.Adam(theirs.parameters(), lr=0.003)
    context, state, torch_state = PassContext(training=True), None, None
    windows = Windows(corpus.train.ids, STREAMS, STEPS)
    losses, expected = [], []
    for window, _ in zip(windows, range(100), strict=False):
        step = ours.network.train_step(window, state, context)
        params = ours.network.params
        optimizer.update([*params.values()], [step.gradients[name] for name in params])
        ours.network.changed()
        state = step.state
        losses.append(step.loss)

        ids, targets = (torch.from_numpy(rows.reshape(STEPS, STREAMS).copy()) for rows in (window[0].rows, window[1]))
        logits, torch_state = theirs(ids, torch_state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        torch_optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        torch_optimizer.step()
        torch_state = tuple(part.detach() for part in torch_state)
        expected.append(loss.item())
    assert len(losses) == 100
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.parametrize("layers", [1, 3])
def test_torch_loads_a_saved_model_and_computes_the_same(corpus, layers, tmp_path):
    from safetensors.torch import load_file

    ours = LanguageModel(corpus.vocabulary, embedding=24, hidden=40, layers=layers, window=STEPS, streams=STREAMS)
    path = tmp_path / "model.safetensors"
    ours.save(path)
    tensors = load_file(path)
    lstm = torch.nn.LSTM(24, 40, num_layers=layers)
    of_lstm = {name.removeprefix("lstm."): value for name, value in tensors.items() if name.startswith("lstm.")}
    lstm.load_state_dict(of_lstm, strict=True)

    ids = corpus.held_out.ids[:200]
    with torch.no_grad():
        vectors = tensors["embedding.weight"][torch.from_numpy(ids.astype(np.int64))]
        y, (h, c) = lstm(vectors)
    hidden, state = ours.network.read(ids, None)
    np.testing.assert_allclose(hidden, y.numpy(), atol=1e-5)
    for layer, part in enumerate(state):
        np.testing.assert_allclose(part.h[0], h[layer].numpy(), atol=1e-5)
        np.testing.assert_allclose(part.c[0], c[layer].numpy(), atol=1e-5)
    logits = y.numpy() @ tensors["output.weight"].numpy().T + tensors["output.bias"].numpy()
    np.testing.assert_allclose(ours.network.logits(hidden), logits, atol=1e-5)
