"""The CTC loss: 300 batches against torch, numeric gradients, threads, batches and memory that change nothing."""

import doctest
import gc
import math
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.labels import Labels
from fastlstm.data.packed import Packed, pack
from fastlstm.errors import DataError, OptionError, ShapeError
from fastlstm.runtime import config
from fastlstm.training import losses
from fastlstm.training.losses import CTC, ctc_loss
from tests.gradcheck import assert_gradients
from tests.naive import ctc_loss as naive
from tests.tolerances import assert_bitwise_equal

PAGE = Path(__file__).parents[2] / "docs" / "ctc_loss.md"


class Case(NamedTuple):
    """A batch as users have it: logits (T_n, K) and labels (L_n,) of each sequence."""

    logits: list
    labels: list
    blank: int

    @property
    def possible(self):
        return np.array(
            [len(z) >= len(y) + sum(np.diff(y) == 0) for z, y in zip(self.logits, self.labels, strict=True)]
        )

    def packed(self, dtype="float64", activation=lambda z: z):
        return pack([activation(z.astype(dtype).astype(float)).astype(dtype) for z in self.logits], features=True)[0]


def make_case(seed, sequences=None, classes=None, longest=30, possible=False):
    """Return a ragged batch with repeats, empty strings, and unless `possible` more labels than steps in some."""
    rng = np.random.default_rng(seed)
    sequences, classes = sequences or rng.integers(1, 7), classes or rng.integers(2, 13)
    blank = int(rng.integers(classes))
    logits, labels = [], []
    for _ in range(sequences):
        steps = int(rng.integers(1, longest))
        count = int(rng.integers(0, steps // 2 + 1 if possible else steps + 2))
        logits.append(rng.choice([0.3, 2.0, 20.0]) * rng.standard_normal((steps, classes)))
        string = rng.integers(0, classes - 1, count)
        if rng.random() < 0.3 and not possible:
            string[:] = string[:1]
        labels.append(string + (string >= blank))
    return Case(logits, labels, blank)


def softmax(z):
    return np.exp(naive.log_softmax(z))


def by_sequence(packed, rows):
    """Return rows of a packed batch as a list of (T_n, K), in the user's order."""
    lengths, found = packed.lengths, [None] * packed.sequences
    for n in range(packed.sequences):
        place = n if packed.order is None else packed.order[n]
        found[place] = rows[packed.offsets[: lengths[n]] + n]
    return found


def gradients(case, loss, fused, dtype="float64", weights=None):
    """Return the value, and the gradient of each sequence, in the user's order."""
    packed = case.packed(dtype, (lambda z: z) if fused else softmax)
    labels = loss.check_targets(case.labels, packed)
    weights = None if weights is None else packed.to_packed_order(weights)
    value = loss.gradient(packed, labels, weights, fused)
    return value, by_sequence(packed, packed.rows)


@pytest.mark.parametrize("seed", range(300))
def test_losses_and_gradients_are_torchs(seed):
    """torch in float64, for in float32 it is the one that loses digits."""
    torch = pytest.importorskip("torch")
    case, dtype = make_case(seed), ("float64", "float32")[seed % 3 == 0]
    packed = case.packed(dtype)
    zero_infinity = bool(seed % 2) or not case.possible.all()
    loss = CTC(case.blank, zero_infinity)
    labels = loss.check_targets(case.labels, packed)
    zs = [torch.tensor(z.astype(dtype).astype(float), requires_grad=True) for z in case.logits]
    padded = torch.nn.utils.rnn.pad_sequence([torch.log_softmax(z, 1) for z in zs])
    targets = torch.tensor(np.concatenate(case.labels).astype(np.int64))
    lengths = [torch.tensor([len(part) for part in parts]) for parts in (case.logits, case.labels)]
    theirs = {
        zero: torch.nn.functional.ctc_loss(padded, targets, *lengths, case.blank, "none", zero_infinity=zero)
        for zero in (False, True)
    }
    weights = np.random.default_rng(seed).random(len(zs))
    (theirs[zero_infinity] * torch.tensor(weights)).sum().div(len(zs)).backward()

    if not case.possible.all():  # what an error forbids to train on has the value that it has
        unchecked = packed.to_user_order(CTC(case.blank).sequences(packed, labels, fused=True))
        assert (np.isposinf(unchecked) == ~case.possible).all()
        assert unchecked == pytest.approx(theirs[False].detach().numpy(), rel=1e-5, abs=1e-6)
        with pytest.raises(DataError, match=f"sequence {np.flatnonzero(~case.possible)[0]} has"):
            CTC(case.blank).check_targets(case.labels, packed)
    bound = {"float32": 1e-6, "float64": 1e-12}[dtype]
    sequences = packed.to_user_order(loss.sequences(packed, labels, fused=True))
    assert sequences == pytest.approx(theirs[zero_infinity].detach().numpy(), rel=bound, abs=bound)
    value, found = gradients(case, loss, True, dtype, weights)
    assert value == pytest.approx((theirs[zero_infinity].detach().numpy() * weights).mean(), rel=bound)
    for ours, z, fine in zip(found, zs, case.possible, strict=True):
        assert np.abs(ours - z.grad.numpy()).max() < bound
        assert fine or not ours.any()


def test_among_these_batches_is_everything_that_can_happen():
    cases = [make_case(seed) for seed in range(300)]
    assert sum(not case.possible.all() for case in cases) > 50
    assert sum(case.possible.all() for case in cases) > 50
    assert sum(any(len(y) == 0 for y in case.labels) for case in cases) > 50
    assert sum(any((np.diff(y) == 0).any() for y in case.labels) for case in cases) > 50
    assert {case.blank == 0 for case in cases} == {True, False}
    assert sum(any(len(y) == len(z) for y, z in zip(case.labels, case.logits, strict=True)) for case in cases) > 10


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_those_of_central_differences(fused, weighted, rng):
    case = Case(
        [rng.standard_normal((steps, 4)) for steps in (3, 6, 4)],
        [np.array([], int), np.array([2, 2, 0]), np.array([0, 3])],
        1,
    )
    loss = CTC(blank=1)
    packed = case.packed(activation=(lambda z: z) if fused else softmax)
    labels = loss.check_targets(case.labels, packed)
    weights = rng.random(3) if weighted else None
    gradient = packed.with_rows(packed.rows.copy())
    value = loss.gradient(gradient, labels, weights, fused)
    assert value == loss.value(packed, labels, weights, fused)
    assert_gradients(
        lambda: loss.value(packed, labels, weights, fused), {"output": packed.rows}, {"output": gradient.rows}
    )


@pytest.mark.parametrize("seed", range(10))
def test_the_gradient_of_probabilities_leads_to_that_of_logits(seed, dtype):
    case = make_case(seed, possible=True)
    loss = CTC(case.blank)
    value, fused = gradients(case, loss, True, dtype)
    other, unfused = gradients(case, loss, False, dtype)
    bound = {"float32": 2e-5, "float64": 1e-10}[dtype]
    assert other == pytest.approx(value, rel=bound)
    for z, dz, dp in zip(case.logits, fused, unfused, strict=True):
        p = softmax(z.astype(dtype).astype(float))
        through = p * (dp - (p * dp).sum(axis=1, keepdims=True))
        assert np.abs(dz - through).max() < bound


@pytest.mark.parametrize("fused", [False, True])
def test_number_of_threads_changes_no_bit(fused, dtype, share_everything):
    case = make_case(3, sequences=13, possible=True)
    loss, results = CTC(case.blank), []
    for threads in (1, 2, 3):
        fl.set_num_threads(threads)
        packed = case.packed(dtype, (lambda z: z) if fused else softmax)
        labels = loss.check_targets(case.labels, packed)
        losses = loss.sequences(packed, labels, fused)
        loss.gradient(packed, labels, None, fused)
        results.append((losses, packed.rows))
    for losses, rows in results[1:]:
        assert_bitwise_equal(losses, results[0][0])
        assert_bitwise_equal(rows, results[0][1])


@pytest.mark.parametrize("kept", [0, 1 << 19])
@pytest.mark.parametrize("fused", [False, True])
def test_a_sequence_alone_has_the_same_bits_as_among_others(fused, kept, dtype):
    case = make_case(4, sequences=7, possible=True, longest=60)
    loss = CTC(case.blank)
    with config.tuned(ctc_kept=kept):
        _, together = gradients(case, loss, fused, dtype)
        packed = case.packed(dtype, (lambda z: z) if fused else softmax)
        losses = loss.sequences(packed, loss.check_targets(case.labels, packed), fused)
        for n, among in enumerate(together):
            one = Case(case.logits[n : n + 1], case.labels[n : n + 1], case.blank)
            value, alone = gradients(one, loss, fused, dtype, np.array([1.0 / 7.0]))
            assert_bitwise_equal(alone[0], among)
            assert value == packed.to_user_order(losses)[n] * (1.0 / 7.0)


def test_impossible_sequences_count_as_zero_beside_others(dtype):
    case = make_case(5, sequences=3, possible=True)
    value, expected = gradients(case, CTC(case.blank), True, dtype)
    other = (case.blank + 1) % case.logits[0].shape[1]
    longer = Case([*case.logits, np.zeros((2, case.logits[0].shape[1]))], [*case.labels, [other] * 2], case.blank)
    found, among = gradients(longer, CTC(case.blank, zero_infinity=True), True, dtype)
    assert found == pytest.approx(value * 3 / 4, rel=1e-14)
    assert not among[3].any()
    for one, another in zip(among[:3], expected, strict=True):
        assert np.abs(one - another * 3 / 4).max() < {"float32": 1e-7, "float64": 1e-15}[dtype]


def test_a_sequence_of_weight_zero_counts_nothing_even_if_impossible():
    case = Case([np.zeros((3, 3)), np.full((3, 3), [0.0, -np.inf, 0.0])], [[1], [1]], 0)
    value, found = gradients(case, CTC(), True, weights=np.array([1.0, 0.0]))
    assert value == pytest.approx(math.log(27 / 6) / 2)
    assert found[0].any()
    assert not found[1].any()
    assert gradients(case, CTC(), True)[0] == math.inf


def test_value_and_sequences_leave_the_output_as_it_is(dtype):
    case = make_case(6, possible=True)
    packed, loss = case.packed(dtype), CTC(case.blank)
    kept = packed.rows.copy()
    packed.rows.flags.writeable = False
    labels = loss.check_targets(case.labels, packed)
    losses = loss.sequences(packed, labels, fused=True)
    assert loss.value(packed, labels, fused=True) == pytest.approx(losses.mean(), rel=1e-15)
    assert_bitwise_equal(packed.rows, kept)


@pytest.mark.parametrize("blank", [-1, 4])
def test_a_negative_blank_counts_from_the_end(blank, rng):
    case = Case([rng.standard_normal((6, 5))], [np.array([0, 3])], 4)
    assert gradients(case, CTC(blank), True)[0] == pytest.approx(naive.ctc_of_logits(case.logits[0], [0, 3], 4)[0])


def test_a_dense_batch_may_come_as_it_lies_in_memory(rng):
    """Packed rows that are a view (T, N, K) of a batch-first array."""
    z = rng.standard_normal((3, 5, 4))
    packed, _ = pack(z, features=True)
    assert packed.in_place.ndim == 3
    loss = CTC()
    expected = np.mean([naive.ctc_of_logits(one, [1, 2])[0] for one in z])
    assert loss.value(packed, loss.check_targets([[1, 2]] * 3, packed), fused=True) == pytest.approx(expected)


def test_repeated_calls_hold_no_more_memory():
    """An array that is kept takes more than 100 bytes a call; free lists of Python and NumPy may take some."""
    case = make_case(7, sequences=5, possible=True)
    loss, packed = CTC(case.blank), case.packed()
    labels, marks = loss.check_targets(case.labels, packed), []
    tracemalloc.start()
    for calls in (200, 1000):
        for _ in range(calls):
            loss.gradient(packed, labels, None, True)
            loss.value(packed, labels, None, True)
        gc.collect()
        marks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert marks[1] - marks[0] < 64 * 1000, f"{marks[1] - marks[0]} bytes more after 1000 calls"


def output_of(lengths, classes=5, steps=True):
    """Return an output of which only the shape may be looked at, as it is checked before there is one."""
    packed, _ = pack([np.zeros((length, 1)) for length in lengths], features=True)
    rows = np.broadcast_to(np.float32(0), (packed.total, classes))
    return Packed(rows, packed.batch_sizes, packed.order) if steps else packed.one_row_each(rows[: len(lengths)])


@pytest.mark.parametrize(
    ("loss", "target", "error", "words"),
    [
        (
            CTC(),
            [[1], [5], [2]],
            DataError,
            "ctc: sequence 1 has label 5, which is no class: the model has 5; .*0 to 4",
        ),
        (CTC(), [[1], [2], [-7]], DataError, "sequence 2 has label -7"),
        (CTC(), [[3, 1, 0], [1], [0]], DataError, "sequence 0 has label 0, which is the blank.*but for the blank 0"),
        (CTC(-1), [[3, 1, 4], [1], [0]], DataError, "sequence 0 has label 4, which is the blank"),
        (CTC(), [[1, 2], [0], [5]], DataError, "sequence 1 has label 0"),
        (CTC(), [[1], [2]], ShapeError, "2 strings of labels for 3 sequences"),
        (CTC(), Labels(np.array([1]), np.array([0, 1])), ShapeError, "1 strings of labels for 3 sequences"),
        (CTC(), [1, 2, 3], ShapeError, r"ctc: labels have shape \(3,\)"),
        (CTC(), [[1], [1.5], [2]], DataError, r"sequence 1 hold 1\.5; expected whole"),
        (CTC(), [[1], [1, 2, 3, 4, 1], [2]], DataError, "sequence 1 has 5 labels which need 5 steps; the output has 4"),
        (
            CTC(),
            [[1], [], [2, 2]],
            DataError,
            "sequence 2 has 2 labels, 1 of them like .* need 3 steps.* has 2.*zero_inf",
        ),
        (CTC(5), [[1], [1], [2]], OptionError, "blank=5; the model has 5 classes: expected 0 to 4, or -1 to -5"),
        (CTC(-6), [[1], [1], [2]], OptionError, "blank=-6"),
    ],
)
def test_targets_that_cannot_be_used(loss, target, error, words):
    with pytest.raises(error, match=words):
        loss.check_targets(target, output_of([3, 4, 2]))


def test_an_output_without_steps_says_what_to_change():
    with pytest.raises(ShapeError, match="one row a sequence; set return_sequences=True"):
        CTC().check_targets([[1], [2]], output_of([3, 4], steps=False))


def test_repeats_are_counted_within_a_sequence_only():
    """The last label of one may be the first of the next."""
    labels = CTC().check_targets([[], [1, 2], [2, 2], [], [2, 1, 1], []], output_of([1, 2, 3, 1, 4, 1]))
    assert labels.lengths.sum() == 7


def test_targets_need_no_steps_of_their_own_with_zero_infinity():
    assert CTC(zero_infinity=True).check_targets([[1] * 9, []], output_of([3, 4])).lengths.tolist() == [0, 9]


@pytest.mark.parametrize("blank", [0.5, "0", None, True])
def test_a_blank_that_is_no_class_number(blank):
    with pytest.raises(OptionError, match="ctc: blank="):
        CTC(blank)


@pytest.mark.parametrize("weights", [np.ones(2), np.ones((3, 1))])
def test_weights_are_one_a_sequence(weights):
    case = make_case(8, sequences=3, possible=True)
    packed, loss = case.packed(), CTC(case.blank)
    labels = loss.check_targets(case.labels, packed)
    for call in (loss.value, loss.gradient):
        with pytest.raises(ShapeError, match=r"ctc: the batch has 3 sequences, its weights have shape"):
            call(packed, labels, weights, True)


def test_a_description_makes_the_same_loss_again():
    loss = CTC(blank=np.int64(-1), zero_infinity=True, from_logits=True)
    assert loss.config() == {"blank": -1, "zero_infinity": True, "from_logits": True}
    assert type(loss.config()["blank"]) is int
    assert CTC(**loss.config()).config() == loss.config()
    assert CTC().config() == {"blank": 0, "zero_infinity": False, "from_logits": False}
    assert (loss.by_sequence, loss.own_lengths, loss.fuses, loss.name) == (True, True, "softmax", "ctc")


def test_the_function_takes_lists_and_padded_arrays_and_keeps_their_order():
    case = make_case(9, sequences=4, possible=True)
    expected = [naive.ctc_of_logits(z, y, case.blank)[0] for z, y in zip(case.logits, case.labels, strict=True)]
    assert ctc_loss(case.labels, case.logits, mask_index=case.blank) == pytest.approx(expected, rel=1e-12)
    lengths, counts = [len(z) for z in case.logits], [len(y) for y in case.labels]
    output = np.full((4, max(lengths), case.logits[0].shape[1]), np.nan)
    target = np.full((4, max(counts)), 99)
    for n, (z, y) in enumerate(zip(case.logits, case.labels, strict=True)):
        output[n, : len(z)], target[n, : len(y)] = z, y
    assert ctc_loss(target, output, counts, lengths, case.blank) == pytest.approx(expected, rel=1e-12)


def test_the_function_gives_infinity_for_what_cannot_be_and_takes_whole_numbers_for_logits():
    losses = ctc_loss([[1, 1], [1]], np.zeros((2, 2, 3), int))
    assert losses == pytest.approx([np.inf, math.log(9 / 3)])
    assert ctc_loss([[1]], np.zeros((1, 2, 3), np.float32)).dtype == np.float64
    with pytest.raises(DataError, match="sequence 0 has label 7"):
        ctc_loss([[7]], np.zeros((1, 2, 3)))


@pytest.mark.parametrize("loss", [CTC(), CTC(zero_infinity=True), CTC(from_logits=True)])
def test_gradients_pass_the_check_of_ones_own_losses(loss):
    assert fl.testing.check_gradients(loss, (3, 6, 4), lengths=[6, 3, 5]) < 1e-7


def test_the_loss_is_known_by_its_name():
    assert losses.known(losses.get("ctc"))
    assert losses.get("CTC", {"blank": -1}).config()["blank"] == -1


def test_the_examples_of_the_page_give_what_it_says():
    results = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert results.attempted >= 8
    assert results.failed == 0
