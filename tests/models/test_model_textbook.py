"""Keras's textbook models of several inputs and outputs, with only their imports changed."""

import copy
import pickle

import numpy as np
import pytest

import fastlstm as fl
from fastlstm import Input, Model
from fastlstm.errors import DataError, OptionError, ShapeError
from tests.tolerances import assert_bitwise_equal

ENCODED, DECODED, UNITS = 7, 6, 12


def sequence_to_sequence(rng):
    """Return Keras's character-level encoder-decoder: the training model, the two for inference, and data."""
    encoder_inputs = Input(shape=(None, ENCODED))
    encoder = fl.LSTM(UNITS, return_state=True)
    _, state_h, state_c = encoder(encoder_inputs)
    encoder_states = [state_h, state_c]
    decoder_inputs = Input(shape=(None, DECODED))
    decoder_lstm = fl.LSTM(UNITS, return_sequences=True, return_state=True)
    decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=encoder_states)
    decoder_dense = fl.Dense(DECODED, activation="softmax")
    decoder_outputs = decoder_dense(decoder_outputs)
    model = Model([encoder_inputs, decoder_inputs], decoder_outputs, seed=0)

    encoder_model = Model(encoder_inputs, encoder_states)
    decoder_state_input_h = Input(shape=(UNITS,))
    decoder_state_input_c = Input(shape=(UNITS,))
    decoder_states_inputs = [decoder_state_input_h, decoder_state_input_c]
    decoder_outputs, state_h, state_c = decoder_lstm(decoder_inputs, initial_state=decoder_states_inputs)
    decoder_states = [state_h, state_c]
    decoder_outputs = decoder_dense(decoder_outputs)
    decoder_model = Model([decoder_inputs, *decoder_states_inputs], [decoder_outputs, *decoder_states])

    source = np.eye(ENCODED)[rng.integers(0, ENCODED, (20, 5))]
    target = np.eye(DECODED)[rng.integers(0, DECODED, (20, 4))]
    return model, encoder_model, decoder_model, source, target


def test_sequence_to_sequence_trains_and_its_inference_models_follow(rng):
    model, encoder_model, decoder_model, source, target = sequence_to_sequence(rng)
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    history = model.fit([source, target], target, batch_size=8, epochs=8, validation_split=0.2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    whole = model.predict([source, target])
    h, c = encoder_model.predict(source)
    for step in range(target.shape[1]):
        probabilities, h, c = decoder_model.predict([target[:, step : step + 1], h, c])
        assert_bitwise_equal(probabilities[:, 0], whole[:, step])


def test_states_go_from_one_order_of_lengths_to_another(rng):
    """Longest first is another order for sources than for targets; each sequence alone tells the truth."""
    model, _, _, _, _ = sequence_to_sequence(rng)
    sources = [rng.standard_normal((steps, ENCODED)) for steps in (2, 5, 1, 4)]
    targets = [rng.standard_normal((steps, DECODED)) for steps in (3, 1, 6, 2)]
    together = model.predict([sources, targets])
    for source, target, output in zip(sources, targets, together, strict=True):
        assert_bitwise_equal(model.predict([source[None], target[None]])[0], output)
    padded = [np.zeros((4, 6, ENCODED)), np.zeros((4, 6, DECODED))]
    for array, rows in zip(padded, (sources, targets), strict=True):
        for place, row in enumerate(rows):
            array[place, : len(row)] = row
    lengths = [[len(row) for row in rows] for rows in (sources, targets)]
    answers = model.predict(padded, lengths=lengths)
    for output, answer in zip(together, answers, strict=True):
        assert_bitwise_equal(answer[: len(output)], output)
        assert (answer[len(output) :] == 0).all()


def test_an_autoencoder_learns_to_repeat(rng):
    sequence = np.linspace(0.1, 0.9, 9).reshape(1, 9, 1)
    model = fl.Sequential(seed=1)
    model.add(fl.Input(shape=(9, 1)))
    model.add(fl.LSTM(20, activation="relu"))
    model.add(fl.RepeatVector(9))
    model.add(fl.LSTM(20, activation="relu", return_sequences=True))
    model.add(fl.TimeDistributed(fl.Dense(1)))
    model.compile(optimizer=fl.optimizers.Adam(0.01), loss="mse")
    model.fit(sequence, sequence, epochs=300, verbose=0)
    assert model.evaluate(sequence, sequence) < 1e-3
    assert model.predict(sequence).shape == (1, 9, 1)


def two_inputs_two_outputs():
    """Return Keras's ticket router: two texts and tags in, a priority and a department out."""
    title_input = fl.Input(shape=(None,), name="title")
    body_input = fl.Input(shape=(None,), name="body")
    tags_input = fl.Input(shape=(5,), name="tags")
    title_features = fl.LSTM(8)(fl.Embedding(30, 6)(title_input))
    body_features = fl.LSTM(4)(fl.Embedding(30, 6)(body_input))
    x = fl.Concatenate()([title_features, body_features, tags_input])
    priority = fl.Dense(1, name="priority")(x)
    department = fl.Dense(4, name="department")(x)
    inputs, outputs = [title_input, body_input, tags_input], {"priority": priority, "department": department}
    return fl.Model(inputs=inputs, outputs=outputs, seed=0)


def tickets(rng, count=40):
    x = {
        "title": rng.integers(0, 30, (count, 4)),
        "body": [rng.integers(0, 30, steps) for steps in rng.integers(1, 9, count)],
        "tags": rng.integers(0, 2, (count, 5)).astype(np.float32),
    }
    y = {"priority": rng.random((count, 1)), "department": rng.integers(0, 4, count)}
    return x, y


def test_two_inputs_and_two_outputs_by_name(rng):
    model = two_inputs_two_outputs()
    losses = {
        "priority": fl.losses.BinaryCrossentropy(from_logits=True),
        "department": fl.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    weights = {"priority": 1.0, "department": 0.2}
    model.compile("adam", losses, loss_weights=weights, metrics={"department": ["accuracy"]})
    x, y = tickets(rng)
    history = model.fit(x, y, epochs=3, batch_size=8, verbose=0).history
    assert set(history) == {"loss", "priority_loss", "department_loss", "department_accuracy"}
    for row in zip(history["loss"], history["priority_loss"], history["department_loss"], strict=True):
        assert row[0] == pytest.approx(row[1] + 0.2 * row[2])
    answers = model.evaluate(x, y, return_dict=True)
    priority, department = model.predict(x)
    assert (priority.shape, department.shape) == ((40, 1), (40, 4))
    right = (department.argmax(1) == y["department"]).mean()
    assert answers["department_accuracy"] == pytest.approx(right)
    in_lists = model.predict([x["title"], x["body"], x["tags"]])
    assert_bitwise_equal(in_lists[1], department)


def test_both_branches_of_a_siamese_model_share_their_layers(rng):
    shared = fl.Sequential([fl.LSTM(6), fl.Dense(5, activation="tanh")])
    left, right = fl.Input((None, 3)), fl.Input((None, 3))
    closeness = fl.Dot(axes=1, normalize=True)([shared(left), shared(right)])
    model = fl.Model([left, right], fl.Dense(1, activation="sigmoid")(closeness), seed=0)
    assert [layer.kind for layer in model.layers].count("LSTM") == 1
    model.compile("adam", "binary_crossentropy")
    one, other = rng.standard_normal((2, 16, 4, 3))
    same = rng.integers(0, 2, 16)
    before = model.layers[0].get_weights() if hasattr(model.layers[0], "get_weights") else None
    first = model.fit([one, other], same, epochs=5, verbose=0).history["loss"]
    assert first[-1] < first[0]
    assert before is None or not np.array_equal(before[0], model.layers[0].get_weights()[0])
    vectors = [shared.predict(part) for part in (one, other)]
    cosine = sum(vectors[0].T * vectors[1].T) / np.prod([np.linalg.norm(v, axis=1) for v in vectors], axis=0)
    weight, bias = (model.layers[-1].params[name] for name in ("weight", "bias"))
    expected = 1 / (1 + np.exp(-(cosine * weight[0, 0] + bias[0])))
    np.testing.assert_allclose(model.predict([one, other])[:, 0], expected, rtol=1e-5)


def test_a_model_file_brings_back_shared_layers_states_and_names(rng, tmp_path):
    model = two_inputs_two_outputs()
    x, y = tickets(rng)
    model.compile("adam", ["mse", fl.losses.SparseCategoricalCrossentropy(from_logits=True)], loss_weights=[2, 1])
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "m", optimizer=True)
    loaded = fl.load(tmp_path / "m")
    assert isinstance(loaded, fl.Model)
    assert loaded.input_names == ["title", "body", "tags"]
    assert loaded.output_names == ["priority", "department"]
    for one, other in zip(model.predict(x), loaded.predict(x), strict=True):
        assert_bitwise_equal(one, other)
    on, again = (one.fit(x, y, epochs=2, initial_epoch=1, verbose=0).history for one in (model, loaded))
    assert on == again

    seq, _, _, source, target = sequence_to_sequence(rng)
    seq.save(tmp_path / "s")
    assert_bitwise_equal(fl.load(tmp_path / "s").predict([source, target]), seq.predict([source, target]))


def test_a_frozen_layer_stays_and_those_before_it_move(rng):
    x = fl.Input((None, 3))
    frozen = fl.Dense(4, name="frozen")
    model = fl.Model(x, fl.Dense(1)(frozen(fl.LSTM(5)(x))), seed=0)
    frozen.trainable = False
    before = model.state_dict()
    model.compile("sgd", "mse")
    model.fit(rng.standard_normal((8, 4, 3)), rng.standard_normal((8, 1)), verbose=0)
    moved = {name for name, value in model.state_dict().items() if not np.array_equal(value, before[name])}
    assert moved == {name for name in before if not name.startswith("frozen")}
    model.trainable = False
    assert not frozen.trainable
    with pytest.raises(OptionError, match="trainable of dense, lstm was changed after compile; call compile again"):
        model.fit(rng.standard_normal((8, 4, 3)), rng.standard_normal((8, 1)), verbose=0)
    model.compile("sgd", "mse")
    before = model.state_dict()
    model.fit(rng.standard_normal((8, 4, 3)), rng.standard_normal((8, 1)), verbose=0)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_summary_tells_shapes_parameters_and_connections(capsys):
    text = two_inputs_two_outputs().summary()
    assert capsys.readouterr().out.strip() == text.strip()
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "connected", "to"]
    [row] = [line for line in lines if line.startswith("concatenate")]
    assert "(N, 17)" in row
    assert "lstm, lstm_1, tags" in row
    assert lines[-1].startswith("total ")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: fl.Model(fl.Input((None, 3)), fl.Dense(1)(fl.Input((None, 3)))), "not among the inputs"),
        (lambda: fl.Model([], []), "inputs is empty"),
        (lambda: fl.Model("x", "y"), "str among symbols"),
        (lambda: fl.Add()([fl.Input((3,)), fl.Input((4,))]), "3, 4 features; expected the same"),
        (lambda: fl.Add()([fl.Input((None, 3)), fl.Input((3,))]), "RepeatVector makes steps"),
        (lambda: fl.LSTM(3)(fl.Input((4,))), "one row a sequence; expected steps"),
        (lambda: fl.LSTM(3)(fl.Input((None,))), "holds ids; this layer takes features"),
        (lambda: fl.Embedding(3, 3)(fl.Input((None, 3))), "holds features; this layer takes ids"),
        (lambda: fl.LSTM(3)(fl.Input((None, 2)), initial_state=[fl.Input((3,))]), "1 parts; expected 2: h, c"),
        (lambda: fl.LSTM(3)(fl.Input((None, 2)), initial_state=[fl.Input((3,)), fl.Input((4,))]), r"\(None, 3\)"),
        (lambda: fl.RepeatVector(3)(fl.Input((None, 2))), "the input has steps"),
        (lambda: fl.Input((None, None)), "number of features must be known"),
        (lambda: fl.Input((2, 3, 4)), "expected"),
    ],
)
def test_what_cannot_be_connected_is_refused(build, words):
    with pytest.raises((OptionError, ShapeError), match=words):
        build()


def test_the_last_step_of_both_directions_is_refused():
    both = fl.Bidirectional(fl.LSTM(3, return_sequences=True))
    x = fl.Input((None, 2))
    with pytest.raises(OptionError, match="leave return_sequences False in the layer within Bidirectional"):
        fl.Model(x, fl.LastStep()(fl.Dropout(0.1)(both(x))))
    with pytest.raises(OptionError, match="backward direction has read one step"):
        fl.Sequential([fl.Bidirectional(fl.LSTM(3, return_sequences=True)), fl.LastStep()]).build(3)


def test_data_that_do_not_go_with_the_inputs(rng):
    model = two_inputs_two_outputs()
    model.compile("adam", "mse")
    x, y = tickets(rng, 6)
    with pytest.raises(OptionError, match="fit: x: nothing for 'tags'"):
        model.fit({"title": x["title"], "body": x["body"]}, y)
    with pytest.raises(OptionError, match="fit: x: 'label' is not among title, body, tags"):
        model.fit(x | {"label": x["tags"]}, y)
    with pytest.raises(OptionError, match="fit: x: 2 things; expected a list of 3"):
        model.fit([x["title"], x["body"]], y)
    with pytest.raises(ShapeError, match=r"holds 6 sequences, x\['tags'\] 5"):
        model.fit(x | {"tags": x["tags"][:5]}, y)
    with pytest.raises(DataError, match=r"x\['tags'\] holds NaN"):
        model.fit(x | {"tags": np.full((6, 5), np.nan)}, y)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_models_of_their_own_however_deep(again, rng):
    """A graph of 150 layers, which symbols hold by their neighbours, nests no deeper than a short one."""
    x = made = fl.Input((None, 4))
    for _ in range(150):
        made = fl.Add()([made, fl.Dense(4, activation="tanh")(made)])
    chain = fl.Sequential([fl.Dense(4) for _ in range(150)], seed=0)
    chain.build(4)
    inputs = rng.standard_normal((2, 3, 4))
    for model in (fl.Model(x, made, seed=0), chain):
        expected, twin = model.predict(inputs), again(model)
        assert_bitwise_equal(twin.predict(inputs), expected)
        twin.compile("sgd", "mse")
        twin.fit(inputs, inputs, verbose=0)
        assert (twin.predict(inputs) != expected).any()
        assert_bitwise_equal(model.predict(inputs), expected)
    shared, *_ = sequence_to_sequence(rng)
    assert [layer.name for layer in again(shared).layers] == [layer.name for layer in shared.layers]
    stream = again(fl.Model(x, fl.LSTM(3, return_sequences=True)(x), seed=0).stream())
    assert stream.step(np.ones((1, 4))).shape == (1, 3)
