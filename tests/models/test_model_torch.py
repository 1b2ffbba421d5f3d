"""A model with shared layers, attention and states handed over, beside the same one in torch: 20 training steps."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.decode import beam_search
from tests.tolerances import assert_bitwise_equal

torch = pytest.importorskip("torch")

V, E, H, N = 11, 6, 8, 5


def build(dtype="float64"):
    """Return an encoder-decoder whose embedding is shared by both sides, with general attention and two outputs."""
    source, target = fl.Input((None,), name="source"), fl.Input((None,), name="target")
    embed = fl.Embedding(V, E, dtype=dtype)
    memory, h, c = fl.LSTM(H, return_sequences=True, return_state=True, dtype=dtype)(embed(source))
    hidden = fl.LSTM(H, return_sequences=True, dtype=dtype)(embed(target), initial_state=[h, c])
    context = fl.Attention(score_mode="general", dtype=dtype)([hidden, memory])
    both = fl.Dense(H, activation="tanh", dtype=dtype)(fl.Concatenate(dtype=dtype)([hidden, context]))
    words = fl.Dense(V, activation="softmax", name="words", dtype=dtype)(both)
    length = fl.Dense(1, name="length", dtype=dtype)(h)
    return fl.Model([source, target], [words, length], seed=0)


class Torch(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.embed = torch.nn.Embedding(V, E)
        self.encoder, self.decoder = torch.nn.LSTM(E, H, batch_first=True), torch.nn.LSTM(E, H, batch_first=True)
        self.general = torch.nn.Linear(H, H, bias=False)
        self.both, self.words = torch.nn.Linear(2 * H, H), torch.nn.Linear(H, V)
        self.length = torch.nn.Linear(H, 1)
        self.double()
        names = {
            "embed": "embedding",
            "encoder": "lstm",
            "decoder": "lstm_1",
            "general": "attention",
            "both": "dense",
            "words": "words",
            "length": "length",
        }
        own = self.state_dict()
        for name in own:
            part, parameter = name.split(".")
            own[name] = torch.tensor(weights[f"{names[part]}.{parameter}"])
        self.load_state_dict(own)
        self.names = names

    def forward(self, source, target):
        """Run sequences without padding, one at a time: nothing is left to masks."""
        words, lengths = [], []
        for one, other in zip(source, target, strict=True):
            memory, state = self.encoder(self.embed(torch.tensor(one))[None])
            hidden, _ = self.decoder(self.embed(torch.tensor(other))[None], state)
            scores = torch.softmax(self.general(hidden) @ memory.transpose(1, 2), dim=-1)
            both = torch.tanh(self.both(torch.cat([hidden, scores @ memory], dim=-1)))
            words.append(self.words(both)[0])
            lengths.append(self.length(state[0][0, 0]))
        return words, torch.stack(lengths)


def data(rng):
    source = [rng.integers(0, V, n) for n in rng.integers(1, 7, N)]
    target = [rng.integers(0, V, n) for n in rng.integers(1, 6, N)]
    return source, target, [rng.integers(0, V, len(one)) for one in target], rng.standard_normal((N, 1))


def test_outputs_losses_and_twenty_steps_equal_torchs(rng):
    ours = build()
    theirs = Torch(ours.state_dict())
    source, target, labels, lengths = data(rng)
    ours.compile(
        fl.optimizers.Adam(0.01), ["sparse_categorical_crossentropy", "mse"], loss_weights={"words": 1.0, "length": 0.3}
    )
    optimizer = torch.optim.Adam(theirs.parameters(), 0.01, eps=ours.optimizer.config()["epsilon"])
    for _ in range(20):
        words, length = theirs(source, target)
        predicted, predicted_length = ours.predict([source, target])
        for one, other in zip(predicted, words, strict=True):
            np.testing.assert_allclose(one, torch.softmax(other, -1).detach(), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(predicted_length, length.detach(), rtol=1e-4, atol=1e-9)
        loss = torch.nn.functional.cross_entropy(torch.cat(words), torch.tensor(np.concatenate(labels)))
        loss = loss + 0.3 * torch.nn.functional.mse_loss(length, torch.tensor(lengths))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        got = ours.train_on_batch([source, target], [labels, lengths], return_dict=True)
        assert got["loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert got["loss"] == pytest.approx(got["words_loss"] + 0.3 * got["length_loss"])
    weights = ours.state_dict()
    for name, value in theirs.state_dict().items():
        part, parameter = name.split(".")
        np.testing.assert_allclose(weights[f"{theirs.names[part]}.{parameter}"], value, rtol=1e-4, atol=1e-7)


def test_a_step_function_has_the_bits_of_whole_sequences(rng):
    model = build("float32")
    source, target, _, _ = data(rng)
    words, _ = model.predict([source, target])
    step, state = model.step_function("target", source)
    longest = max(map(len, target))
    tokens = np.array([[*one, *[0] * (longest - len(one))] for one in target])
    for t in range(longest):
        logits, state = step(tokens[:, t], state)
        exact = np.exp(logits - logits.max(1, keepdims=True))
        for n in range(N):
            if t < len(target[n]):
                np.testing.assert_allclose(words[n][t], exact[n] / exact[n].sum(), rtol=1e-5)


def test_a_beam_search_over_a_batch_finds_what_it_finds_for_each_source(rng):
    model = build("float32")
    source, _, _, _ = data(rng)
    step, state = model.step_function("target", source)
    together = beam_search(step, [1] * N, state=state, beam_width=3, max_length=6, eos_id=0)
    for one, found in zip(source, together, strict=True):
        step, state = model.step_function("target", [one])
        [alone] = beam_search(step, [1], state=state, beam_width=3, max_length=6, eos_id=0)
        assert alone == found


def test_a_graph_streams_with_the_bits_of_whole_sequences(rng):
    x, more = fl.Input((None, 3)), fl.Input((None, 2))
    h = fl.GRU(6, return_sequences=True)(fl.Conv1D(4, 3, padding="causal")(x))
    y = fl.LayerNormalization()(fl.Concatenate()([h, more]))
    model = fl.Model([x, more], [fl.Dense(2)(y), fl.LSTM(5)(y)], seed=0)
    a, b = rng.standard_normal((2, 7, 3)), rng.standard_normal((2, 7, 2))
    stream = model.stream(2)
    for t in range(7):
        one, other = stream.step([a[:, t], b[:, t]])
        whole = model.predict([a[:, : t + 1], b[:, : t + 1]])
        assert_bitwise_equal(one, whole[0][:, t])
        assert_bitwise_equal(other, whole[1])
        if t == 3:
            stream = stream.clone()
