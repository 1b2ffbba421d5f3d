"""A linear-chain CRF over a batch against enumeration of every path; both of its ways, and when which is taken."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.chain import Chain, ChainScores
from fastlstm.data.packed import pack
from fastlstm.engine import chain as engine
from fastlstm.engine.chain import chain_gradient, chain_losses, chain_marginals
from fastlstm.kernels import crf as kernels
from tests import strategies
from tests.naive import crf as naive
from tests.tolerances import OUTPUT, assert_bitwise_equal

LEVELS = (0.0, 0.0, 0.0, 80.0, -80.0, 700.0, -700.0, -1e4, -math.inf)
"""What scores are moved by: forbidden, hundreds apart, or as a layer gives them."""


def random_scores(rng, lengths, tags, levels=(0.0,), dtype="float64"):
    """Return the emissions of each sequence, and a chain; values are such that float32 holds them."""

    def draw(*shape):
        values = rng.standard_normal(shape) * rng.choice([1.0, 5.0])
        return (values + rng.choice(levels, shape)).astype(np.float32).astype(dtype)

    return [draw(length, tags) for length in lengths], Chain(draw(tags, tags), draw(tags), draw(tags))


def batch(sequences, chain):
    return ChainScores(pack(sequences, features=True)[0], chain)


def naive_of(x, chain):
    return naive.Scores(*(np.asarray(part, np.float64) for part in (x, *chain)))


def run(sequences, chain, paths, weights=None):
    """Return losses, marginals and the gradient (of emissions as lists), all in the user's order."""
    scores = batch(sequences, chain)
    packed, form = pack(sequences, features=True)
    tags = pack(paths, features=False)[0].rows
    marginals = np.empty_like(scores.rows)
    chain_marginals(scores, chain, marginals)
    losses = chain_losses(scores, tags)
    weights = np.ones(len(sequences)) if weights is None else packed.to_packed_order(weights)
    moved = scores.with_rows(scores.rows.copy())
    again, of_chain = chain_gradient(moved, tags, weights)
    assert_bitwise_equal(again[weights != 0], losses[weights != 0])
    losses, again = packed.to_user_order(losses), packed.to_user_order(again)
    return losses, form.unpack(packed.with_rows(marginals)), form.unpack(moved), of_chain


def close(given, expected, bound):
    np.testing.assert_allclose(given, expected, rtol=0, atol=bound)


def assert_close(given, expected, bound):
    np.testing.assert_allclose(given, expected, rtol=0, atol=bound)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.integers(1, 4),
    strategies.float_types(),
    st.booleans(),
    strategies.seeds(),
)
def test_losses_marginals_and_gradients_are_those_of_all_paths(lengths, tags, dtype, hostile, seed):
    rng = np.random.default_rng(seed)
    sequences, chain = random_scores(rng, lengths, tags, LEVELS if hostile else (0.0,), dtype)
    sequences = [x for x in sequences if naive.all_paths(naive_of(x, chain))]
    if not sequences:
        return
    known = [naive_of(x, chain) for x in sequences]
    allowed = [naive.all_paths(scores) for scores in known]
    paths = [np.array(found[rng.integers(len(found))][0]) for found in allowed]
    weights = rng.uniform(0.5, 2.0, len(sequences))
    losses, marginals, dx, of_chain = run(sequences, chain, paths, weights)
    bound = OUTPUT[dtype]
    total = [np.zeros_like(part, np.float64) for part in chain]
    for n, scores in enumerate(known):
        assert_close(losses[n], naive.loss(scores, paths[n]), 1e-10 * max(1.0, losses[n]))
        assert_close(marginals[n], naive.expected_counts(scores).x, bound)
        assert (marginals[n][scores.x == -math.inf] == 0).all()
        expected = naive.gradient(scores, paths[n])
        assert_close(dx[n], weights[n] * expected.x, bound)
        for part, one in zip(total, expected[1:], strict=True):
            part += weights[n] * one
    for got, wanted in zip(of_chain, total, strict=True):
        assert_close(got, wanted, 1e-10)


@pytest.mark.parametrize("tags", [1, 7, 8, 9, 16, 23, 33])
def test_probabilities_of_any_number_of_tags_add_up(tags, rng, dtype):
    """Up to whole registers and beyond; the gradient of each part of a chain is a probability less one."""
    sequences, chain = random_scores(rng, [6, 1, 4], tags, dtype=dtype)
    paths = [rng.integers(0, tags, len(x)) for x in sequences]
    _, marginals, dx, of_chain = run(sequences, chain, paths)
    for n, (part, gradient) in enumerate(zip(marginals, dx, strict=True)):
        assert_close(part.sum(axis=1, dtype=np.float64), 1.0, 10 * np.finfo(dtype).eps)
        assert_close(gradient, part - np.eye(tags)[paths[n]], np.finfo(dtype).eps)
    first = sum(part[0] - np.eye(tags)[path[0]] for part, path in zip(marginals, paths, strict=True))
    last = sum(part[-1] - np.eye(tags)[path[-1]] for part, path in zip(marginals, paths, strict=True))
    assert_close(of_chain.start, first, 10 * np.finfo(dtype).eps)
    assert_close(of_chain.end, last, 10 * np.finfo(dtype).eps)
    arrived = sum((part - np.eye(tags)[path])[1:].sum(axis=0) for part, path in zip(marginals, paths, strict=True))
    left = sum((part - np.eye(tags)[path])[:-1].sum(axis=0) for part, path in zip(marginals, paths, strict=True))
    assert_close(of_chain.transitions.sum(axis=0), arrived, 30 * np.finfo(dtype).eps)
    assert_close(of_chain.transitions.sum(axis=1), left, 30 * np.finfo(dtype).eps)


# --- which way is taken, and that both agree --------------------------------------------------------------------


@numba.njit(nogil=True, error_model="numpy", _nrt=False)
def both_ways(emissions, offsets, n, length, chain, scratch, found):
    """Write log Z of a sequence the scaled way (NaN: declined), and by logarithms."""
    highest = kernels._exponentials_of_moves(chain, emissions.shape[1], scratch)
    found[0] = kernels._scaled_ahead(emissions, offsets, n, length, chain, highest, scratch)
    found[1] = kernels._logs_ahead(emissions, offsets, n, length, chain, scratch)


def log_partitions(x, chain):
    scores, found = batch([x], chain), np.empty(2)
    scratch = np.full(kernels.scratch_size(*x.shape), np.nan)
    both_ways(scores.rows, scores.offsets, 0, len(x), engine._table(chain), scratch, found)
    return found


def tagging_chain(rng, kinds, forbidden):
    """Return a chain of the tags O, B and I of so many kinds: I follows a B or I of its kind, and begins nothing."""
    tags = 1 + 2 * kinds
    transitions, start, end = rng.normal(0, 3, (tags, tags)), rng.normal(0, 3, tags), rng.normal(0, 3, tags)
    for inside in range(2, tags, 2):
        allowed = np.isin(np.arange(tags), [inside - 1, inside])
        transitions[~allowed, inside] = forbidden
        start[inside] = forbidden
    return Chain(transitions, start, end)


@pytest.mark.parametrize("forbidden", [0.0, -1e4, -math.inf])
@pytest.mark.parametrize("spread", [1.0, 10.0, 40.0])
def test_a_tagger_of_long_sequences_is_computed_the_fast_way(forbidden, spread, rng):
    chain = tagging_chain(rng, 4, forbidden)
    x = rng.normal(0, spread, (2000, len(chain.start)))
    scaled, logs = log_partitions(x, chain)
    assert math.isfinite(scaled), "the scaled way was declined"
    assert abs(scaled - logs) <= 1e-12 * abs(logs)


def separate(*advantages):
    """Return emissions and a chain of tags none of which another follows: what leads now may lose by far later."""
    x = np.array(advantages, np.float64).T
    transitions = np.where(np.eye(x.shape[1]), 0.0, -np.inf)
    return x, Chain(transitions, np.zeros(x.shape[1]), np.zeros(x.shape[1]))


LATE = {
    "the second wins at the end": separate([900, 0, 0, 0], [0, 0, 0, 901]),
    "little by little": separate([200] * 4 + [0] * 4, [0] * 4 + [200] * 3 + [201]),
    "little by little, behind at both ends": separate(
        [200] * 4 + [0] * 13, [0] * 13 + [200] * 4, [0] * 4 + [200] * 9 + [0] * 4
    ),
    "only through what is all but forbidden": (
        np.zeros((4, 2)),
        Chain(np.array([[-1e3, -1e4], [-10001.0, -9998.0]]), np.zeros(2), np.array([-1e5, 0.0])),
    ),
    "the end forbids what leads": (np.zeros((5, 3)), Chain(np.diag([9e2, 0, 1]), np.zeros(3), np.array([-1e4, 0, 0]))),
    "the end forbids all": (np.ones((2, 3)), Chain(np.zeros((3, 3)), np.zeros(3), np.full(3, -1e4))),
}  # fmt: skip


@pytest.mark.parametrize("case", LATE)
def test_what_is_negligible_at_one_step_and_all_that_counts_at_another_is_not_lost(case, dtype):
    x, chain = LATE[case]
    x = x.astype(dtype)
    scaled, logs = log_partitions(x, chain)
    exact = naive.log_partition(naive_of(x, chain))
    assert_close(logs, exact, 1e-11 * max(1.0, abs(exact)))
    if not math.isnan(scaled):
        assert_close(scaled, exact, 1e-11 * max(1.0, abs(exact)))
    path = np.array(naive.best_path(naive_of(x, chain))[0])
    losses, [marginals], [dx], of_chain = run([x], chain, [path])
    expected = naive.gradient(naive_of(x, chain), path)
    assert_close(losses[0], naive.loss(naive_of(x, chain), path), 1e-9)
    assert_close(marginals, naive.expected_counts(naive_of(x, chain)).x, OUTPUT[dtype])
    assert_close(dx, expected.x, OUTPUT[dtype])
    for got, wanted in zip(of_chain, expected[1:], strict=True):
        assert_close(got, wanted, 1e-10)


def test_the_slow_way_is_taken_where_it_is_needed():
    taken = {name for name, (x, chain) in LATE.items() if math.isnan(log_partitions(x, chain)[0])}
    assert taken >= {name for name in LATE if "little" in name or "second" in name}


def test_what_is_forbidden_has_probability_0_however_well_it_would_go_on():
    x, chain = separate([0, 0], [-math.inf, 200])
    _, [marginals], _, of_chain = run([x], chain, [np.array([0, 0])])
    assert marginals.tolist() == [[1, 0], [1, 0]]
    assert (of_chain.transitions == 0).all()


@pytest.mark.parametrize("tags", [3, 11])
def test_both_ways_give_the_same_results(tags, rng):
    """What the last step gives to all tags but one, the end takes back: the paths score alike, but the way differs."""
    sequences, chain = random_scores(rng, [5, 2, 6], tags)
    paths = [rng.integers(0, tags, len(x)) for x in sequences]
    given = 2e4 * (np.arange(tags) > 0)
    moved = [np.vstack([x[:-1], x[-1:] + given]) for x in sequences]
    taken_back = chain._replace(end=chain.end - given)
    for x, other in zip(sequences, moved, strict=True):
        assert math.isfinite(log_partitions(x, chain)[0])
        assert math.isnan(log_partitions(other, taken_back)[0])
    one, two = run(sequences, chain, paths), run(moved, taken_back, paths)
    assert_close(two[0], one[0], 1e-10)
    for part, other in zip([*one[1], *one[2], *one[3]], [*two[1], *two[2], *two[3]], strict=True):
        assert_close(other, part, 1e-10)


# --- threads, batches, hostile values ---------------------------------------------------------------------------


@pytest.mark.usefixtures("share_everything")
@pytest.mark.parametrize("lengths", [[9] * 70, [*range(1, 70)], [40, 3]], ids=["dense", "ragged", "two"])
def test_any_number_of_threads_gives_the_same_bits(lengths, rng, dtype):
    sequences, chain = random_scores(rng, lengths, 9, dtype=dtype)
    paths = [rng.integers(0, 9, length) for length in lengths]
    weights = rng.uniform(0.5, 2.0, len(lengths))
    results = []
    for count in (1, 2, 5):
        fl.set_num_threads(count)
        losses, marginals, dx, of_chain = run(sequences, chain, paths, weights)
        results.append([losses, *marginals, *dx, *of_chain])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert_bitwise_equal(two, one)


def test_a_sequence_has_the_same_bits_alone_and_in_any_batch(rng, dtype):
    sequences, chain = random_scores(rng, [5, 9, 1, 5, 12], 6, dtype=dtype)
    paths = [rng.integers(0, 6, len(x)) for x in sequences]
    losses, marginals, dx, _ = run(sequences, chain, paths)
    for n, x in enumerate(sequences):
        [loss], [marginal], [gradient], _ = run([x], chain, [paths[n]])
        assert_bitwise_equal(loss, losses[n])
        assert_bitwise_equal(marginal, marginals[n])
        assert_bitwise_equal(gradient, dx[n])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 2, 4])
@pytest.mark.parametrize("tag", [0, 9])
def test_nan_and_infinity_make_their_own_sequence_nan_and_no_other(value, step, tag, rng):
    sequences, chain = random_scores(rng, [5, 5, 3], 10)
    paths = [rng.integers(0, 10, len(x)) for x in sequences]
    expected = run(sequences, chain, paths)
    sequences[0][step, tag] = value
    losses, marginals, dx, _ = run(sequences, chain, paths)
    assert math.isnan(losses[0])
    assert np.isnan(marginals[0][:, 0]).any()
    assert np.isnan(dx[0]).any()
    for n in (1, 2):
        assert_bitwise_equal(losses[n], expected[0][n])
        assert_bitwise_equal(marginals[n], expected[1][n])
        assert_bitwise_equal(dx[n], expected[2][n])


def test_a_weight_of_zero_leaves_a_sequence_out(rng):
    sequences, chain = random_scores(rng, [5, 5, 3], 4)
    paths = [rng.integers(0, 4, len(x)) for x in sequences]
    sequences[1][2, 3] = math.nan
    _, _, dx, of_chain = run(sequences, chain, paths, np.array([1.0, 0.0, 2.0]))
    others = [0, 2]
    expected = run([sequences[n] for n in others], chain, [paths[n] for n in others], np.array([1.0, 2.0]))
    assert (dx[1] == 0).all()
    for n, place in enumerate(others):
        assert_bitwise_equal(dx[place], expected[2][n])
    for got, wanted in zip(of_chain, expected[3], strict=True):
        assert_close(got, wanted, 1e-14)


def test_a_million_steps_keep_their_digits():
    """Steps that are all alike: log Z is known in closed form, from the eigenvalues of a 2 x 2 matrix."""
    steps, p = 1_000_000, 0.25
    chain = Chain(np.log([[p, 1 - p], [1 - p, p]]), np.log([0.5, 0.5]), np.zeros(2))  # rows add up to 1: Z is 1
    scores = batch([np.zeros((steps, 2))], chain)
    [loss] = chain_losses(scores, np.zeros(steps, np.int64))
    expected = -math.log(0.5) - (steps - 1) * math.log(p)
    assert abs(loss - expected) <= 1e-11 * expected


def test_the_rows_may_be_read_only_and_strided(rng):
    sequences, chain = random_scores(rng, [6, 6], 3)
    x = np.stack(sequences)
    paths = rng.integers(0, 3, 12)
    expected = chain_losses(batch(x, chain), paths)
    x.flags.writeable = False
    assert_bitwise_equal(chain_losses(batch(x, chain), paths), expected)
    turned = np.asfortranarray(x)
    assert_bitwise_equal(chain_losses(batch(turned, chain), paths), expected)
