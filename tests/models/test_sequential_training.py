"""What fit does: the same as one's own loop of torch, weights by row and class, order, seeds, validation, callbacks."""

import threading

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.training.callbacks import Callback
from tests.tolerances import assert_bitwise_equal

VOCABULARY, STEPS = 12, 9


def tagger(seed=3, **options):
    model = fl.Sequential(
        [
            fl.Embedding(VOCABULARY, 6),
            fl.LSTM(10, return_sequences=True),
            fl.Dense(VOCABULARY, activation="softmax", **options),
        ],
        seed=seed,
    )
    model.build()
    return model


def classifier(seed=3, dtype="float32"):
    return fl.Sequential([fl.LSTM(7, dtype=dtype), fl.Dense(1, activation="sigmoid", dtype=dtype)], seed=seed)


def points(rng, count=40):
    x = rng.standard_normal((count, STEPS, 3))
    return x, (x[:, 0, 0] > 0).astype(int)


def weights_equal(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert_bitwise_equal(a, b)


class Losses(Callback):
    """Record the mean loss of every batch by itself."""

    def __init__(self):
        self.batches = []

    def on_epoch_begin(self, epoch):
        self.before = 0.0

    def on_train_batch_end(self, batch, logs):
        total = logs["loss"] * (batch + 1)  # batches of one size
        self.batches.append(total - self.before)
        self.before = total


@pytest.mark.parametrize("ragged", [False, True])
def test_a_hundred_steps_have_the_losses_of_torch(ragged, rng):
    """A character model: the same weights and batches, Adam; every step's loss within 1e-4."""
    torch = pytest.importorskip("torch")
    model = tagger()
    embedding = torch.nn.Embedding(VOCABULARY, 6)
    lstm, dense = torch.nn.LSTM(6, 10, batch_first=True), torch.nn.Linear(10, VOCABULARY)
    for theirs, ours in zip((embedding, lstm, dense), model.layers, strict=True):
        theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()}, strict=True)
    params = [*embedding.parameters(), *lstm.parameters(), *dense.parameters()]
    oracle = torch.optim.Adam(params, 0.01, eps=1e-7)

    lengths = rng.integers(1, STEPS + 1, 100) if ragged else np.full(100, STEPS)
    text = [rng.integers(0, VOCABULARY, n + 1) for n in lengths]
    expected = []
    for begin in range(0, 100, 4):
        rows = text[begin : begin + 4]
        oracle.zero_grad()
        outputs = [dense(lstm(embedding(torch.tensor(row[None, :-1])))[0])[0] for row in rows]
        targets = torch.cat([torch.tensor(row[1:]) for row in rows])
        loss = torch.nn.functional.cross_entropy(torch.cat(outputs), targets)
        loss.backward()
        oracle.step()
        expected.append(loss.item())

    class Each(Callback):
        total = rows = 0.0
        seen = ()

        def on_train_batch_end(self, batch, logs):
            count = sum(len(row) - 1 for row in text[4 * batch : 4 * batch + 4])
            total = logs["loss"] * (self.rows + count)
            self.seen = (*self.seen, (total - self.total) / count)
            self.total, self.rows = total, self.rows + count

    each = Each()
    model.compile(fl.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    x, y = [row[:-1] for row in text], [row[1:] for row in text]
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[each])
    np.testing.assert_allclose(each.seen, expected, rtol=1e-4)


def test_a_hundred_steps_over_several_epochs_of_one_batch(rng):
    torch = pytest.importorskip("torch")
    x, y = points(rng)
    model = classifier()
    model.build(3)
    lstm, dense = torch.nn.LSTM(3, 7, batch_first=True), torch.nn.Linear(7, 1)
    for theirs, ours in zip((lstm, dense), model.layers, strict=True):
        theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()}, strict=True)
    params = [*lstm.parameters(), *dense.parameters()]
    oracle = torch.optim.Adam(params, 0.02, eps=1e-7)
    expected = []
    for _ in range(100):
        oracle.zero_grad()
        z = dense(lstm(torch.tensor(x, dtype=torch.float32))[0][:, -1])[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, torch.tensor(y, dtype=torch.float32))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 0.5)
        oracle.step()
        expected.append(loss.item())
    model.compile(fl.optimizers.Adam(0.02, clipnorm=0.5), "binary_crossentropy")
    history = model.fit(x, y, batch_size=40, epochs=100, verbose=0)
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-4)
    assert expected[-1] < 0.1 * expected[0]


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        (lambda: fl.Dense(1, activation="sigmoid", dtype="float64"), "mse"),
        (lambda: fl.Dense(1, activation="tanh", dtype="float64"), "mse"),
        (lambda: fl.Dense(1, dtype="float64"), "huber"),
        (lambda: fl.LSTM(1, dtype="float64"), "mse"),
        (lambda: fl.Bidirectional(fl.LSTM(1, dtype="float64"), "mul"), "mse"),
    ],
)
def test_a_loss_that_is_not_fused_writes_over_no_cache(last, loss, rng):
    """One step of SGD is minus the rate times the central difference of `evaluate`, for every parameter."""
    x, y = points(rng, 6)
    model = fl.Sequential(
        [fl.LSTM(2, return_sequences=not isinstance(last(), fl.Dense), dtype="float64"), last()], seed=1
    )
    model.compile(fl.optimizers.SGD(1.0), loss)
    model.build(3)
    before = model.get_weights()
    expected = []
    for place, value in enumerate(before):
        slope = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            for sign in (1, -1):
                moved = [w.copy() for w in before]
                moved[place][index] += sign * 1e-4
                model.set_weights(moved)
                slope[index] += sign * model.evaluate(x, y) / 2e-4
        expected.append(slope)
    model.set_weights(before)
    model.fit(x, y, verbose=0)
    for old, new, slope in zip(before, model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(old - new, slope, atol=1e-7)


def test_logits_and_fused_probabilities_train_alike(rng):
    x, y = points(rng)
    models = []
    for activation, from_logits in (("sigmoid", False), (None, True)):
        model = fl.Sequential([fl.LSTM(4), fl.Dense(1, activation=activation)], seed=5)
        model.compile("adam", fl.losses.BinaryCrossentropy(from_logits=from_logits), metrics=["accuracy", "auc"])
        history = model.fit(x, y, epochs=3, verbose=0).history
        models.append((model, history))
    weights_equal(models[0][0], models[1][0])
    assert models[0][1] == models[1][1]


def test_sample_weights_are_worth_repetitions(rng):
    x, y = points(rng, 12)
    counts = np.tile([1, 2, 3], 4)
    weighted, repeated = classifier(dtype="float64"), classifier(dtype="float64")
    for model in (weighted, repeated):
        model.compile(fl.optimizers.SGD(0.5), "binary_crossentropy", weighted_metrics=["accuracy"])
    share = counts / counts.mean()  # the mean is over rows, so weights of mean 1 keep its scale
    one = weighted.fit(x, y, sample_weight=share, batch_size=100, shuffle=False, verbose=0).history
    x2, y2 = np.repeat(x, counts, axis=0), np.repeat(y, counts)
    other = repeated.fit(x2, y2, batch_size=100, shuffle=False, verbose=0).history
    assert one["loss"] == pytest.approx(other["loss"])
    assert one["accuracy"] == pytest.approx(other["accuracy"])
    for a, b in zip(weighted.get_weights(), repeated.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_class_weights_are_sample_weights_by_class(rng):
    x, y = points(rng)
    one, other = classifier(), classifier()
    for model in (one, other):
        model.compile("adam", "binary_crossentropy")
    one.fit(x, y, class_weight={1: 3.0}, verbose=0)
    other.fit(x, y, sample_weight=np.where(y == 1, 3.0, 1.0), verbose=0)
    weights_equal(one, other)


def test_weights_by_step_can_leave_steps_out(rng):
    x = rng.integers(0, VOCABULARY, (5, STEPS))
    y = rng.integers(0, VOCABULARY, (5, STEPS))
    weights = np.ones((5, STEPS))
    weights[:, 4:] = 0.0
    masked, other = tagger(), tagger()
    for model in (masked, other):
        model.compile(fl.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    wrong = np.where(weights, y, (y + 1) % VOCABULARY)  # what a zero weight hides
    masked.fit(x, y, sample_weight=weights, verbose=0, shuffle=False)
    other.fit(x, wrong, sample_weight=weights, verbose=0, shuffle=False)
    weights_equal(masked, other)


def test_padded_arrays_with_lengths_train_as_lists_do(rng):
    lengths = rng.integers(1, STEPS + 1, 20)
    x, y = rng.integers(0, VOCABULARY, (20, STEPS)), rng.integers(0, VOCABULARY, (20, STEPS))
    padded, listed = tagger(), tagger()
    for model in (padded, listed):
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    one = padded.fit(x, y, lengths=lengths, epochs=2, verbose=0).history
    rows = [a[:n] for a, n in zip(x, lengths, strict=True)], [b[:n] for b, n in zip(y, lengths, strict=True)]
    other = listed.fit(*rows, epochs=2, verbose=0).history
    assert one == other
    weights_equal(padded, listed)
    out, apart = padded.predict(x, lengths=lengths), listed.predict(rows[0], batch_size=3)
    for n, whole, part in zip(lengths, out, apart, strict=True):
        assert_bitwise_equal(whole[:n], part)
        assert not whole[n:].any()


def test_a_seed_repeats_a_run_and_another_does_not(rng):
    x, y = points(rng)

    def run(seed):
        model = fl.Sequential([fl.LSTM(5, dropout=0.2), fl.Dropout(0.3), fl.Dense(1, activation="sigmoid")], seed=seed)
        model.compile("adam", "binary_crossentropy")
        model.fit(x, y, epochs=2, verbose=0)
        return model

    weights_equal(run(1), run(1))
    assert any((a != b).any() for a, b in zip(run(1).get_weights(), run(2).get_weights(), strict=True))


def test_threads_change_no_bit(rng, share_everything):
    x, y = points(rng)
    models = []
    for threads in (1, 2):
        fl.set_num_threads(threads)
        model = classifier()
        model.compile("adam", "binary_crossentropy")
        model.fit(x, y, epochs=2, verbose=0)
        models.append(model)
    weights_equal(*models)


def test_validation_takes_the_last_sequences_and_moves_nothing(rng):
    x, y = points(rng)
    split, given = classifier(), classifier()
    for model in (split, given):
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    one = split.fit(x, y, validation_split=0.26, epochs=2, verbose=0).history  # floor(40 * 0.74) = 29
    other = given.fit(x[:29], y[:29], validation_data=(x[29:], y[29:]), epochs=2, verbose=0).history
    assert one == other
    weights_equal(split, given)
    loss, accuracy = split.evaluate(x[29:], y[29:])
    assert [one["val_loss"][-1], one["val_accuracy"][-1]] == pytest.approx([loss, accuracy])


def test_evaluate_answers_as_in_keras_and_whatever_the_batches(rng):
    x, y = points(rng)
    model = classifier()
    model.compile("adam", "binary_crossentropy", metrics=["accuracy", "auc"])
    model.fit(x, y, verbose=0)
    p = model.predict(x)[:, 0].astype(float)
    loss, accuracy, auc = model.evaluate(x, y)
    assert loss == pytest.approx(-np.log(np.where(y, p, 1 - p)).mean(), rel=1e-5)
    assert accuracy == ((p > 0.5) == y).mean()
    assert model.evaluate(x, y, batch_size=7) == pytest.approx([loss, accuracy, auc])
    assert model.evaluate(x, y, return_dict=True).keys() == {"loss", "accuracy", "auc"}
    model.compile("adam", "binary_crossentropy")
    assert model.evaluate(x, y) == loss


def test_a_callback_can_stop_the_fit(rng):
    class Stop(Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.stop_training = epoch == 1

    x, y = points(rng)
    model = classifier()
    model.compile("adam", "binary_crossentropy")
    assert model.fit(x, y, epochs=9, verbose=0, callbacks=[Stop()]).epoch == [0, 1]
    assert model.fit(x, y, epochs=9, initial_epoch=7, verbose=0).epoch == [7, 8]


def test_eight_threads_predict_at_once(rng):
    x, y = points(rng)
    model = classifier()
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    expected, figures, answers = model.predict(x), model.evaluate(x, y), [None] * 8

    def work(k):
        answers[k] = [(model.predict(x, batch_size=5), model.evaluate(x, y)) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in answers:
        for predicted, judged in mine:
            assert_bitwise_equal(predicted, expected)
            assert judged == figures


def test_the_forgotten_token_ten_steps_back_is_found(rng):
    """The textbook's stack in small: only the first token tells the class."""
    x = [np.concatenate((rng.integers(0, 2, 1), rng.integers(2, 9, n))) for n in rng.integers(1, 11, 600)]
    y = np.array([row[0] for row in x])
    model = fl.Sequential(
        [
            fl.Embedding(input_dim=9, output_dim=12),
            fl.LSTM(16, return_sequences=True),
            fl.Dropout(0.2),
            fl.LSTM(8),
            fl.Dense(1, activation="sigmoid"),
        ],
        seed=1,
    )
    model.compile(optimizer=fl.optimizers.Adam(0.01), loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=5, verbose=0)
    held = np.column_stack((np.arange(200) % 2, rng.integers(2, 9, (200, 10))))
    assert model.evaluate(held, held[:, 0])[1] >= 0.99
