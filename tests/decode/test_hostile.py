"""The program of hostile inputs runs, and can fail."""

import pytest

from tests.decode import hostile, hostile_cases


def test_a_thousand_inputs_give_right_answers_or_named_errors(capsys):
    assert hostile.run(first=0, count=1000, seed=1) == 0, capsys.readouterr().out


def test_every_byte_of_the_arpa_file_has_its_turn():
    turns = sorted(
        turn for kind, turn in map(hostile.kind_of, range(10_000)) if kind is hostile_cases.arpa
    )  # fmt: skip
    assert turns == list(range(turns[-1] + 1))
    assert turns[-1] + 1 >= 2 * len(hostile_cases.naive_ctc.write_arpa(hostile_cases.TINY))


@pytest.mark.parametrize(("name", "wrong"), [
    ("greedy", lambda right: right + 1),
    ("viterbi", lambda right: right[::-1] + right[:1]),
    ("ctc_align", lambda right: 1 / 0),
])  # fmt: skip
def test_wrong_answers_and_unnamed_errors_count(monkeypatch, capsys, name, wrong):
    decoder = getattr(hostile_cases, name)
    monkeypatch.setattr(hostile_cases, name, lambda *args, **options: wrong(decoder(*args, **options)))
    assert hostile.run(first=0, count=200, seed=1) >= 5
    assert "seed 1:\nTraceback" in capsys.readouterr().out
