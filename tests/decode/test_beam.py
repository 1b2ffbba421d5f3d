"""Beam search against a textbook version, exhaustive search and greedy search."""

from collections import namedtuple

import numpy as np
import pytest

from fastlstm.decode.beam import beam_search
from fastlstm.decode.beam_options import BeamOptions, Constraints
from fastlstm.decode.constraints import Trie
from fastlstm.errors import DataError
from tests.naive import beam as naive

MODELS = 500


class RandomModel:
    """Logits that depend on the whole history: only a correctly reordered state gives the right ones."""

    def __init__(self, seed, vocab, dtype=np.float32, sources=4, impossible=0.1):
        self.seed, self.vocab, self.dtype, self.sources, self.impossible = seed, vocab, dtype, sources, impossible
        self.known = {}
        self.rows = []  # batch size of each call

    def look_up(self, sequence, ids):
        if (sequence, ids) not in self.known:
            rng = np.random.default_rng([self.seed, sequence, len(ids), *ids])
            logits = (2.0 * rng.normal(size=self.vocab)).astype(self.dtype)
            logits[rng.random(self.vocab) < self.impossible] = -np.inf
            self.known[sequence, ids] = logits, rng.dirichlet(np.full(self.sources, 0.3))
        return self.known[sequence, ids]

    def logits(self, sequence):
        return lambda ids: self.look_up(sequence, ids)[0].tolist()

    def attention(self, sequence):
        return lambda ids: self.look_up(sequence, ids)[1].tolist()

    def start_state(self, sequences, length):
        return {"ids": np.zeros((sequences, length), np.int64), "who": [np.arange(sequences)], "n": -1}

    def step(self, tokens, state):
        self.rows.append(len(tokens))
        ids, n = state["ids"].copy(), state["n"]
        if n >= 0:
            ids[:, n] = tokens
        history = [tuple(row[: n + 1].tolist()) for row in ids]
        known = [self.look_up(int(s), h) for s, h in zip(state["who"][0], history, strict=True)]
        logits, attention = (np.array(part) for part in zip(*known, strict=True))
        return logits, {"ids": ids, "who": state["who"], "n": n + 1}, attention


def random_case(rng, on):
    """Draw a model size and the options named in ``on``; in the naive version's words."""
    vocab, length = int(rng.integers(2, 7)), int(rng.integers(1, 6))
    case = {"width": int(rng.integers(1, 7)), "max_length": length, "ends": (int(rng.integers(vocab)),)}

    def phrase(longest):
        return tuple(rng.integers(vocab, size=rng.integers(1, longest + 1)).tolist())

    if "no end" in on:
        case["ends"] = ()
    if "many ends" in on:
        case["ends"] = tuple(sorted({int(i) for i in rng.integers(vocab, size=2)}))
    if "length penalty" in on:
        case |= {"alpha": float(rng.uniform(-1, 2)), "power": bool(rng.integers(2))}
    if "coverage penalty" in on:
        case["beta"] = float(rng.uniform(0.1, 1))
    if "early stopping" in on:
        case["stopping"] = [True, "never"][rng.integers(2)]
    if "min length" in on:
        case["min_length"] = int(rng.integers(1, length + 1))
    if "no repeats" in on:
        case["ngram"] = int(rng.integers(1, 4))
    if "prefix" in on:
        case["prefix"] = phrase(length)
    if "banned" in on:
        case["banned"] = tuple({phrase(3) for _ in range(3)})
    if "required" in on:
        case["required"] = tuple(dict.fromkeys(phrase(2) for _ in range(rng.integers(1, 3))))
    if "allowed" in on:
        some = {parity: rng.permutation(vocab)[: rng.integers(1, vocab + 1)].tolist() for parity in (0, 1)}
        case["allowed"] = lambda ids: some[sum(ids) % 2]
    if "groups" in on:
        case["groups"] = int(rng.integers(2, 4))
        case |= {"width": case["width"] * case["groups"], "diversity": float(rng.uniform(0, 2))}
    return vocab, case


def run_naive(model, sequence, case):
    attention = model.attention(sequence) if case.get("beta") else None
    try:
        return naive.beam_search(model.logits(sequence), next_attention=attention, **case)
    except naive.NothingLeft:
        return None


def run_ours(model, sequences, case, step=None):
    allowed = case.get("allowed")
    found = beam_search(
        step or model.step,
        np.zeros(sequences, int),
        state=model.start_state(sequences, case["max_length"]),
        beam_width=case["width"],
        max_length=case["max_length"],
        n_best=case["width"],
        length_penalty=case.get("alpha", 0.0),
        early_stopping=case.get("stopping", False),
        constraints=Constraints(
            min_length=case.get("min_length", 0),
            no_repeat_ngram=case.get("ngram", 0),
            prefix=case.get("prefix", ()),
            banned=case.get("banned", ()),
            required=case.get("required", ()),
            allowed=allowed and (lambda sequence, ids: allowed(ids)),
        ),
        options=BeamOptions(
            stop_ids=case["ends"],
            length_formula="power" if case.get("power") else "gnmt",
            coverage_penalty=case.get("beta", 0.0),
            groups=case.get("groups", 1),
            diversity=case.get("diversity", 0.0),
            normalized=case.get("normalized", False),
        ),
    )
    return found


def assert_same(ours, expected):
    assert [(h.ids, h.finished) for h in ours] == [(ids, ended) for ids, _, _, ended in expected]
    np.testing.assert_allclose([h.score for h in ours], [h[1] for h in expected], atol=1e-5)
    np.testing.assert_allclose([h.logprob for h in ours], [h[2] for h in expected], atol=1e-5)


OPTIONS = (
    "no end", "many ends", "length penalty", "coverage penalty", "early stopping", "min length", "no repeats", "prefix",
    "banned", "required", "allowed", "groups",
)  # fmt: skip
TURNED_ON = [(), *((name,) for name in OPTIONS), ("half of all",)]


@pytest.mark.parametrize("on", TURNED_ON, ids=lambda on: on[0] if on else "plain")
def test_equals_the_textbook(on):
    answered = 0
    for seed in range(MODELS):
        rng = np.random.default_rng([seed, len(on)])
        chosen = tuple(rng.permutation(OPTIONS)[:6]) if on == ("half of all",) else on
        vocab, case = random_case(rng, chosen)
        model = RandomModel(seed, vocab, (np.float32, np.float64)[seed % 2])
        expected = run_naive(model, 0, case)
        if expected is None:
            with pytest.raises(DataError, match=r"next id|required"):
                run_ours(model, 1, case)
        else:
            assert_same(run_ours(model, 1, case)[0], expected)
            answered += 1
    assert answered > MODELS // 8  # the comparison is not one of errors only


@pytest.mark.parametrize("on", [(), ("groups", "length penalty"), ("required",), ("allowed", "no repeats")])
def test_batch_equals_each_alone(on):
    rng = np.random.default_rng(5)
    compared = 0
    for seed in range(100):
        vocab, case = random_case(rng, on)
        model = RandomModel(seed, vocab, impossible=0.0)
        expected = [run_naive(model, sequence, case) for sequence in range(4)]
        if None not in expected:
            for ours, alone in zip(run_ours(model, 4, case), expected, strict=True):
                assert_same(ours, alone)
            compared += 1
    assert compared > 20


def test_finished_beams_leave_the_batch():
    model = RandomModel(3, 5, impossible=0.0)
    run_ours(model, 6, {"width": 3, "max_length": 12, "ends": (0, 1), "stopping": True})
    assert model.rows[0] == 6
    assert model.rows[1] == 18
    assert 0 < model.rows[-1] < 18 or len(model.rows) < 12


# ---------------------------------------------------------------- exhaustive and greedy


class TableModel:
    """A free choice of every conditional distribution: table t is (V^t, V); the state is the prefix's number."""

    def __init__(self, rng, vocab, length):
        self.vocab = vocab
        self.tables = [rng.normal(size=(vocab**t, vocab)).astype(np.float32) * 2 for t in range(length)]

    def step(self, tokens, state):
        prefix, t = state
        prefix = prefix * self.vocab + tokens
        return self.tables[t][prefix], (prefix, t + 1)

    def search(self, **arguments):
        return beam_search(self.step, 0, state=(np.zeros(1, np.int64), 0), max_length=len(self.tables), **arguments)

    def best(self, end, alpha):
        """The best (ids, score) of all sequences, by brute force over arrays."""
        total, winner = np.zeros(1), (-np.inf, 0, 0)
        for t, table in enumerate(self.tables):
            table = table.astype(np.float64)
            grown = total[:, None] + table - np.logaddexp.reduce(table, axis=1, keepdims=True)
            total = grown.reshape(-1).copy()
            contest = grown / ((6 + t) / 6) ** alpha
            if t < len(self.tables) - 1:
                contest[:, [v for v in range(self.vocab) if v != end]] = -np.inf
            at = int(contest.argmax())
            winner = max(winner, (contest.flat[at], t + 1, at), key=lambda w: w[0])
            if end is not None:
                total[end :: self.vocab] = -np.inf
        score, length, number = winner
        digits = [number // self.vocab**k % self.vocab for k in range(length)]
        return tuple(reversed(digits)), score


def sizes():
    """Every (V, T) with V^T <= 10^5 and T >= 3, and some of the many with T below 3."""
    for length in range(1, 17):
        largest = int(1e5 ** (1 / length) + 1e-9)
        few = {1: (1, 2, 3, 64, 65, 1000, 99_999, 100_000), 2: (1, 2, 5, 33, 100, 316), 3: (1, 2, 3, 4, 5, 9, 32, 46)}
        yield from ((vocab, length) for vocab in few.get(length, range(1, largest + 1)))


def test_wide_beam_equals_exhaustive_search():
    rng = np.random.default_rng(11)
    for vocab, length in sizes():
        model = TableModel(rng, vocab, length)
        for end, alpha in ((None, 0.0), (vocab // 2, 0.0), (vocab - 1, 0.7)):
            [ours] = model.search(beam_width=vocab**length, eos_id=end, length_penalty=alpha, early_stopping="never")
            ids, score = model.best(end, alpha)
            assert (ours.ids + ((end,) if ours.finished else ())) == ids, (vocab, length, end)
            assert ours.score == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("on", [(), ("banned", "no repeats"), ("required",), ("allowed", "min length"), ("prefix",)])
def test_wide_beam_equals_exhaustive_search_under_constraints(on):
    rng = np.random.default_rng(23)
    for seed in range(60):
        _, case = random_case(rng, on)
        vocab = 3
        case |= {"max_length": min(case["max_length"], 4), "ends": (0,), "stopping": "never"}
        if any(i >= vocab for key in ("banned", "required") for phrase in case.get(key, ()) for i in phrase):
            continue
        if on == ("prefix",):
            case["prefix"] = (1, 2, 1)[: case["max_length"]]
        case["min_length"] = min(case.get("min_length", 0), case["max_length"])
        if "allowed" in case:
            case["allowed"] = lambda ids: [0, 1] if sum(ids) % 2 else [1, 2]
        model = RandomModel(seed, vocab)
        rules = {key: value for key, value in case.items() if key not in ("width", "stopping")}
        expected = naive.exhaustive(model.logits(0), vocab, **rules)
        case["width"] = vocab ** case["max_length"]
        if expected:
            assert_same(run_ours(model, 1, case)[0], expected)
        else:
            with pytest.raises(DataError):
                run_ours(model, 1, case)


def test_width_one_is_greedy():
    for seed in range(MODELS):
        model = RandomModel(seed, 2 + seed % 9, impossible=0.0)
        ids, logprob = naive.greedy(model.logits(0), max_length=7, ends=(1,))
        [[ours]] = run_ours(model, 1, {"width": 1, "max_length": 7, "ends": (1,)})
        assert ours.ids == ids
        assert ours.logprob == pytest.approx(logprob, abs=1e-5)


# ---------------------------------------------------------------- ties, ends, large vocabularies


@pytest.mark.parametrize("vocab", [1, 5, 31, 32, 33, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_fall_to_the_lower_parent_then_the_lower_id(vocab, dtype):
    found = beam_search(lambda t, s: (np.zeros((len(t), vocab), dtype), s), 0, beam_width=4, n_best=4, max_length=2)
    expected = [(a, b) for a in range(vocab) for b in range(vocab)][:4]
    assert [h.ids for h in found] == expected


def test_large_rows_with_ties_match_a_full_sort():
    rng = np.random.default_rng(3)
    for dtype in (np.float32, np.float64):
        for vocab in (100, 257, 5000):
            table = rng.integers(-3, 4, size=(vocab, vocab)).astype(dtype)  # many equal logits
            width, total, ids = 7, np.zeros(1), [()]
            last = np.zeros(1, int)
            for _ in range(4):
                wide = table[last].astype(np.float64)
                score = total[:, None] + (wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)).round(9)
                order = np.argsort(-score.round(7).reshape(-1), kind="stable")[:width]
                ids = [(*ids[k // vocab], int(k % vocab)) for k in order]
                total, last = score.reshape(-1)[order], order % vocab
            found = beam_search(
                lambda t, s, table=table: (table[t], s), 0, beam_width=width, n_best=width, max_length=4
            )
            np.testing.assert_allclose([h.score for h in found], total, atol=1e-5)
            assert found[0].ids == ids[0]


def test_end_ids_are_dropped_and_stop_ids_stay():
    def step(tokens, state):
        return np.array([[0.0, 3.0, 2.0, 1.0]]).repeat(len(tokens), 0), state

    options = BeamOptions(stop_ids=[2])
    found = beam_search(step, 0, beam_width=4, n_best=4, max_length=1, eos_id=1, options=options)
    assert [(h.ids, h.finished) for h in found] == [((), True), ((2,), True), ((3,), False), ((0,), False)]
    found = beam_search(step, 0, beam_width=2, n_best=2, max_length=3, eos_id=[1, 2])
    assert [h.ids for h in found] == [(), ()]
    assert all(h.finished for h in found)


def test_log_probabilities_are_taken_as_they_are():
    rng = np.random.default_rng(0)
    log_p = np.log(rng.dirichlet(np.ones(6), size=6)) - 1.0  # sums to 1/e: a second log-softmax would show
    options = BeamOptions(normalized=True)
    [best] = beam_search(lambda t, s: (log_p[t], s), 2, beam_width=6**3, max_length=3, options=options)
    total = log_p[2][:, None, None] + log_p[:, :, None] + log_p[None]
    assert best.ids == np.unravel_index(total.argmax(), total.shape)
    assert best.logprob == pytest.approx(total.max())


def test_state_kinds_and_axis():
    State = namedtuple("State", "h c")
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(5, 5))

    def body(h, tokens):
        h = np.tanh(h @ weight + np.eye(5)[tokens])
        return 3 * h, h

    def plain(tokens, h):
        return body(h, tokens)

    def nested(tokens, state):
        assert isinstance(state["lstm"], State)
        logits, h = body(state["lstm"].h, tokens)
        return logits, {"lstm": State(h, state["lstm"].c), "note": "kept", "k": [None, 3, np.float32(2)]}

    def second_axis(tokens, state):
        logits, h = body(state[0].T, tokens)
        return logits, (np.ascontiguousarray(h.T),)

    def wrapped(tokens, state):
        logits, h = body(state["box"], tokens)
        return logits, {"box": h}

    h = np.zeros((1, 5))
    arguments = {"beam_width": 3, "max_length": 6, "n_best": 3}
    expected = beam_search(plain, 1, state=h, **arguments)
    kept = {"lstm": State(h, h), "note": "kept", "k": [None, 3, np.float32(2)]}
    assert beam_search(nested, 1, state=kept, **arguments) == expected
    axis = BeamOptions(state_axis=1)
    assert beam_search(second_axis, 1, state=(h.T,), options=axis, **arguments) == expected
    own = BeamOptions(reorder=lambda state, parents: {"box": state["box"][parents]})
    assert beam_search(wrapped, 1, state={"box": h}, options=own, **arguments) == expected
    assert not h.any()  # the caller's state is untouched


def test_trie_yields_only_its_phrases():
    phrases = [(1, 2, 3), (1, 2), (4,), (3, 3, 3, 3)]
    model = RandomModel(7, 6, impossible=0.0)
    trie = Trie(phrases, eos_id=0)
    found = beam_search(
        model.step, 0, state=model.start_state(1, 6), beam_width=20, n_best=20, max_length=6, eos_id=0,
        constraints=Constraints(allowed=trie),
    )  # fmt: skip
    assert sorted(h.ids for h in found) == sorted(phrases)


@pytest.mark.parametrize("convert", [
    lambda x: x.astype(">f4"), lambda x: x.astype(np.float16), lambda x: np.asfortranarray(x), lambda x: x.astype(int),
    lambda x: x.astype(np.longdouble), lambda x: x.tolist(), lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
])  # fmt: skip
def test_any_layout_of_the_logits(convert):
    table = np.random.default_rng(2).integers(-5, 6, size=(40, 40)).astype(np.float64) + np.arange(40) % 7
    expected = beam_search(lambda t, s: (table[t], s), 0, max_length=5, n_best=4)
    found = beam_search(lambda t, s: (convert(table[t]), s), 0, max_length=5, n_best=4)
    assert [h.ids for h in found] == [h.ids for h in expected]


# ---------------------------------------------------------------- an independent oracle
