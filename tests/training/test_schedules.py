"""Schedules: their ends, their shape between, and bad options."""

import math

import pytest

from fastlstm.errors import OptionError
from fastlstm.training import schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.constant(), [1, 1, 1, 1, 1]),
        (schedules.cosine(0.2), [1, 0.6 + 0.4 * math.sqrt(0.5), 0.6, 0.6 - 0.4 * math.sqrt(0.5), 0.2]),
        (schedules.linear(0.2), [1, 0.8, 0.6, 0.4, 0.2]),
        (schedules.exponential(0.0625), [1, 0.5, 0.25, 0.125, 0.0625]),
        (schedules.steps((0.5, 0.75), 0.1), [1, 1, 0.1, 0.01, 0.01]),
        (schedules.warm_up(0.5, schedules.linear()), [0, 0.5, 1, 0.5, 0]),
    ],
)
def test_factors(schedule, expected):
    assert [schedule(done / 4) for done in range(5)] == pytest.approx(expected)


def test_bad_options():
    with pytest.raises(OptionError, match="final=0"):
        schedules.exponential(0.0)
    with pytest.raises(OptionError, match="share=1"):
        schedules.warm_up(1.0, schedules.constant())
