"""The filters keep what Hugging Face's processors keep, on 10,000 rows; skipped where torch is missing."""

import numpy as np
import pytest

from fastlstm.decode.sampling import log_probabilities
from tests.decode.test_sampling import KINDS, row_of
from tests.naive import sampling as naive

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers.generation.logits_process")

# 10,000 rows: (rows, V). Every kind of row in each: ties, -inf, one-hot, all equal, sorted, Zipf, huge.
SHAPES = [(2000, 2), (2000, 3), (2000, 16), (2000, 50), (1500, 128), (400, 1000), (80, 10_000), (20, 50_000)]
CASES = [
    ("top_k", hf.TopKLogitsWarper, 5),
    ("top_k", hf.TopKLogitsWarper, 40),
    ("top_p", hf.TopPLogitsWarper, 0.9),
    ("top_p", hf.TopPLogitsWarper, 0.3),
    ("min_p", hf.MinPLogitsWarper, 0.05),
    ("typical_p", hf.TypicalLogitsWarper, 0.6),
    ("epsilon_cutoff", hf.EpsilonLogitsWarper, 3e-3),
    ("eta_cutoff", lambda eta: hf.EtaLogitsWarper(eta, device="cpu"), 3e-3),
]


@pytest.fixture(autouse=True)
def stable_sort(monkeypatch):
    """``torch.sort`` with no promise of order leaves the choice among equal scores to chance; give it one."""
    sort = torch.sort
    monkeypatch.setattr(torch, "sort", lambda x, **options: sort(x, stable=True, **options))


@pytest.fixture(scope="module", params=[np.float64, np.float32])
def batches(request):
    rng = np.random.default_rng(17)
    made = [np.array([row_of(KINDS[i % len(KINDS)], V, rng) for i in range(N)], request.param) for N, V in SHAPES]
    assert sum(len(batch) for batch in made) == 10_000
    return made


def clear_by(logits, name, value, temperature):
    """How clear the textbook's decision was, and what rounding may make of so many logits of this size."""
    clear = naive.log_probabilities(logits, temperature=temperature, **{name: value})[1]
    largest = np.abs(logits[logits > -np.inf].astype(np.float64)).max()
    return clear, 4 * np.finfo(logits.dtype).eps * (16 + len(logits) / 16 + largest / temperature)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("name", "processor", "value"), CASES, ids=lambda case: str(case)[:20])
def test_sets_equal_hugging_face(batches, name, processor, value, temperature):
    excused = 0
    for logits in batches:
        scores = torch.from_numpy(logits)
        if temperature != 1:
            scores = hf.TemperatureLogitsWarper(temperature)(None, scores)
        want = (processor(value)(None, scores) > -np.inf).numpy()
        got = log_probabilities(logits, temperature=temperature, **{name: value}) > -np.inf
        for row in np.flatnonzero((want != got).any(axis=1)):
            # Theirs sums in another order: a difference is right only where on paper it is a draw, and it is one id
            # (or, in a type's last place, the few ids there are at the cut).
            clear, rounding = clear_by(logits[row], name, value, temperature)
            assert name in ("top_p", "typical_p")
            assert clear < rounding
            assert abs(int(got[row].sum()) - int(want[row].sum())) <= 1 + logits.shape[1] // 10_000
            excused += 1
    assert excused <= 1500  # the rows whose scores are all equal, or rounded: 0.9 of 50 equal ones is a draw


def test_penalties_and_bans_equal_hugging_face():
    rng = np.random.default_rng(3)
    for V in (5, 60, 1000):
        logits = rng.normal(size=(50, V)) * 3
        history = rng.integers(min(V, 12), size=(50, 20))
        ids, scores = torch.from_numpy(history), torch.from_numpy(logits)
        for options, want in [
            ({"repetition_penalty": 1.3}, hf.RepetitionPenaltyLogitsProcessor(1.3)(ids, scores)),
            ({"no_repeat_ngram": 2}, hf.NoRepeatNGramLogitsProcessor(2)(ids, scores)),
            ({"no_repeat_ngram": 3}, hf.NoRepeatNGramLogitsProcessor(3)(ids, scores)),
            ({"banned_ids": [1, 3]}, hf.SuppressTokensLogitsProcessor([1, 3])(ids, scores)),
            ({"logit_bias": {2: -1.5}}, hf.SequenceBiasLogitsProcessor({(2,): -1.5})(ids, scores.clone())),
            ({"min_length": 21, "end_ids": 2}, hf.MinLengthLogitsProcessor(21, 2)(ids, scores)),
            ({"min_length": 20, "end_ids": 2}, hf.MinLengthLogitsProcessor(20, 2)(ids, scores)),
            ({"max_length": 21, "end_ids": [2, 4]}, hf.ForcedEOSTokenLogitsProcessor(21, [2, 4])(ids, scores.clone())),
        ]:
            want = torch.log_softmax(want, dim=-1).numpy()
            possible = ~np.isnan(want).all(axis=1)  # theirs goes on with a row that is banned as a whole
            assert possible.sum() > 20
            got = log_probabilities(logits[possible], history=history[possible], **options)
            np.testing.assert_allclose(got, want[possible], rtol=1e-12, atol=1e-12, err_msg=str(options))
