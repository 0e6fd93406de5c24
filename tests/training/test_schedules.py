import math

import pytest

from stemwright.training.config import LoopSection, ScheduleSection, read_config
from stemwright.training.schedules import Schedule

LOOP = LoopSection(steps=100, batch=1, max_seconds=50)


def test_the_universal_models_warm_up() -> None:
    config = read_config("uss_audioset")
    schedule = Schedule(config.schedule, config.loop)
    factors = [schedule.factor(step, 0) for step in (0, 9_999, 10_000, 19_999, 20_000, 29_999, 30_000, 10**6)]
    assert factors == [0.001, 0.001, 0.01, 0.01, 0.1, 0.1, 1.0, 1.0]


def test_the_rate_is_halved_after_three_validations_without_improvement() -> None:
    schedule = Schedule(ScheduleSection(kind="plateau"), LOOP)
    seen = []
    for value in (1.0, 0.5, 0.9, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        schedule.observe(value)
        seen.append(schedule.factor(0, 0))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_a_restored_schedule_goes_on() -> None:
    section = ScheduleSection(kind="plateau")
    first, second = Schedule(section, LOOP), Schedule(section, LOOP)
    for value in (3.0, 1.0, 1.0):
        first.observe(value)
    second.load_state_dict(first.state_dict())
    second.observe(1.0)
    assert second.factor(0, 0) == 0.5


def test_a_cosine_falls_over_the_steps_or_the_time() -> None:
    steps = Schedule(ScheduleSection(kind="cosine", floor=0.1, warmup_steps=10), LOOP)
    assert [steps.factor(step, 0) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert steps.factor(55, 0) == pytest.approx(0.55)
    assert steps.factor(100, 0) == pytest.approx(0.1)
    time = Schedule(ScheduleSection(kind="cosine", progress="time"), LOOP)
    assert time.factor(3, 12.5) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert time.factor(3, 99.0) == pytest.approx(0.0)
