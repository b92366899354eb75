"""Growth: hundreds of programs that don't leak, simulated with the births and deaths of what they make, are never told; leaks always."""

from __future__ import annotations

import math
import os
import random
from bisect import bisect_right
from typing import TYPE_CHECKING

import pytest

from leakagent.detect.growth import LEVELS, SIZE, Series, mann_kendall, median, speed, theil_sen, trend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Seconds between two looks, and looks of a run: more than four hours.
PAUSE, LOOKS = 15.0, 1024
SPAN = PAUSE * LOOKS

#: Runs of each kind; docs/growth.md says what 40 of them give.
RUNS = int(os.environ.get("LEAKAGENT_TEST_GROWTH_RUNS", "8"))

Life = tuple[float, float]


def told(lives: list[Life]) -> int:
    """Return at which look it is told that the count grows, 0 if never."""
    series = Series()
    births, deaths = sorted(born for born, _ in lives), sorted(died for _, died in lives)
    for look in range(1, LOOKS + 1):
        now = look * PAUSE
        count = bisect_right(births, now) - bisect_right(deaths, now)
        if series.add(now, count, lambda now=now: [born for born, died in lives if born <= now < died]) is not None:
            return look
    return 0


def arrivals(rng: random.Random, rate: Callable[[float], float], most: float) -> Iterable[float]:
    """Yield the times of a Poisson process whose rate (per second) changes, by thinning."""
    time = 0.0
    while True:
        time += rng.expovariate(most)
        if time > SPAN:
            return
        if rng.random() * most < rate(time):
            yield time


def queue(rng: random.Random, rate: Callable[[float], float], most: float, life: float) -> list[Life]:
    return [(time, time + rng.expovariate(1 / life)) for time in arrivals(rng, rate, most)]


def steady(rng: random.Random) -> list[Life]:
    """A service under constant load; what it makes lives for a second or for half an hour."""
    life = 10 ** rng.uniform(0, 3.2)
    mean = 10 ** rng.uniform(0.3, 2)
    rate = min(mean / life, 3.0)
    return queue(rng, lambda _: rate, rate, life)


def pool(rng: random.Random) -> list[Life]:
    """A pool that is filled in the beginning, or when it is needed, and replaces what breaks."""
    size, fill = rng.randint(5, 200), rng.uniform(1, 600)
    lives = []
    for _ in range(size):
        born = rng.uniform(0, fill)
        while born < SPAN:
            died = born + rng.expovariate(1 / 3600)
            lives.append((born, died))
            born = died
    return lives


def cache(rng: random.Random) -> list[Life]:
    """A cache whose hits get more as it fills."""
    size, slow = rng.randint(20, 300), rng.uniform(30, 2400)
    return [(born, 2 * SPAN) for _ in range(size) if (born := rng.expovariate(1 / slow)) < SPAN]


def bounded_cache(rng: random.Random) -> list[Life]:
    """A cache that fills at a constant speed, and then throws out the oldest."""
    size, fill = rng.randint(20, 300), rng.uniform(10, 1200)
    step = fill / size
    return [(number * step, (number + size) * step) for number in range(min(int(SPAN / step), 40_000))]


def wave(rng: random.Random) -> list[Life]:
    """Load that comes and goes, with any period up to days."""
    period, phase = 10 ** rng.uniform(1.5, 5.3), rng.uniform(0, 2 * math.pi)
    life, most = 10 ** rng.uniform(0.5, 2), rng.uniform(0.2, 2)
    return queue(rng, lambda time: most * (1 + math.sin(2 * math.pi * time / period + phase)) / 2, most, life)


def sawtooth(rng: random.Random) -> list[Life]:
    """Garbage that lives until the next collection."""
    every, rate = 10 ** rng.uniform(1, 3), rng.uniform(0.05, 0.5)
    return [(time, (time // every + 1) * every) for time in arrivals(rng, lambda _: rate, rate)]


def bursts(rng: random.Random) -> list[Life]:
    """A job every now and then that makes many at once."""
    lives = queue(rng, lambda _: 0.05, 0.05, 60)
    for time in arrivals(rng, lambda _: 1 / 1200, 1 / 1200):
        lives += [(time + rng.uniform(0, 30), time + rng.uniform(60, 900)) for _ in range(rng.randint(10, 100))]
    return lives


def steps(rng: random.Random) -> list[Life]:
    """Features that are switched on one after the other, and keep a few threads each."""
    lives: list[Life] = []
    for _ in range(rng.randint(2, 5)):
        time = rng.uniform(0, SPAN)
        lives += [(time, 2 * SPAN) for _ in range(rng.randint(2, 20))]
    return lives


@pytest.mark.parametrize("kind", [steady, pool, cache, bounded_cache, wave, sawtooth, bursts, steps])
def test_what_does_not_leak_is_never_told(kind: Callable[[random.Random], list[Life]]) -> None:
    wrong = [(seed, look) for seed in range(RUNS) if (look := told(kind(random.Random(f"{kind.__name__} {seed}"))))]
    assert wrong == []


@pytest.mark.parametrize("over", [lambda _: [], steady, pool, wave, sawtooth])
def test_leaks_are_told(over: Callable[[random.Random], list[Life]]) -> None:
    missed = []
    for seed in range(RUNS):
        rng = random.Random(f"leak {seed}")
        lives = over(rng)
        # Several times as much as there is anyway.
        usual = max(1, sum(1 for born, died in lives if born < SPAN / 4 < died))
        rate = max(400, 8 * usual) * rng.uniform(1, 4) / SPAN
        lives += [(time, 2 * SPAN) for time in arrivals(rng, lambda _, rate=rate: rate, rate)]
        if not told(lives):
            missed.append(seed)
    assert len(missed) <= max(2, RUNS // 5), missed


def test_a_leak_without_anything_else_is_told_after_a_quarter_of_an_hour() -> None:
    every_minute = [(60.0 * number, 2 * SPAN) for number in range(1000)]
    assert told(every_minute) * PAUSE / 60 < 35
    every_second = [(1.0 * number, 2 * SPAN) for number in range(1000, 9000)]
    assert told(every_second) * PAUSE - 1000 < 2000


def test_samples_are_bounded() -> None:
    series = Series()
    for look in range(20_000):
        series.add(float(look), 7, list)
    assert [len(level.samples) for level in series._levels] == [SIZE] * LEVELS
    for number, level in enumerate(series._levels):
        distances = {second[0] - first[0] for first, second in zip(level.samples, level.samples[1:], strict=False)}
        assert distances == {1 << number}


def test_the_statistics() -> None:
    # Gilbert, Statistical Methods for Environmental Pollution Monitoring, 1987, section 16.4: no ties, S = 15 of 15 for n = 6.
    assert mann_kendall([1, 2, 3, 4, 5, 6], [0] * 6) == pytest.approx(14 / math.sqrt(6 * 5 * 17 / 18))
    assert mann_kendall([6, 5, 4, 3, 2, 1], [0] * 6) == 0
    assert theil_sen([0, 1, 2, 3], [0, 2, 4, 600]) == pytest.approx(median([2, 2, 200, 2, 299, 596]))
    assert median([]) == 0
    # The same trend is less certain when the samples depend on each other.
    independent = [0.0, 1, -1, 1, -1, 0, 1, -1, 0, 1, -1, 1, -1, 0] * 3
    dependent = sorted(independent[:21]) + sorted(independent[21:], reverse=True)
    assert mann_kendall(range(42), dependent) < mann_kendall(range(42), independent)


def test_the_text() -> None:
    times = [15.0 * number for number in range(48)]
    found = trend(times, [2 * number for number in range(48)])
    assert found is not None
    assert found.text().startswith("from 0 to 94 in 12 min, 8.0 a minute (Mann-Kendall z = ")


def test_the_course_reaches_back_and_ends_with_the_latest_sample() -> None:
    series = Series()
    assert (series.course(), speed(series.course())) == ([], 0.0)
    for look in range(1, 1001):
        series.add(look * PAUSE, 5 + look, list)
        course = series.course()
        assert course[-1] == (look * PAUSE, 5 + look)
        assert len(course) <= SIZE + 1
        assert course == sorted(course)
    assert course[0][0] <= 1000 * PAUSE / 8  # of a thousand looks nearly all
    assert speed(course) == pytest.approx(1 / PAUSE)
    assert speed([(0.0, 4), (1.0, 4), (2.0, 90), (3.0, 4), (4.0, 4)]) == 0.0  # one burst is no growth
