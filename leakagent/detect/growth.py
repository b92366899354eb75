"""Whether the live count of one site keeps growing: a test on its samples.

The problem.  A count that has grown is no leak: programs warm up, pools and caches fill, load comes in waves, garbage is collected in
steps.  A count that keeps growing is one, long before the memory is full.

What does not work.  A threshold: every program has another one.  A least-squares line: one burst tilts it.  The Mann-Kendall
test alone: it takes samples for independent, and those of a live count are not, so that it finds a trend in every second queue.

What we do.  Samples are kept at several distances, `SIZE` of each: a fast leak is seen in minutes, a slow one in hours, and what was long
ago hides neither.  Of one row of samples, all of these have to hold:

1. *Trend*: Mann-Kendall's test (Mann, Econometrica 13, 1945; Kendall, Rank Correlation Methods, 1975), with its variance corrected
   for ties and, after Hamed and Rao (Journal of Hydrology 204, 1998), for autocorrelation of the ranks: z of `Z` or more.
2. *Size*: the Theil-Sen slope (Sen, JASA 63, 1968: the median of the slopes between all pairs) times the span is at least `RISE` resources,
   half of the level at the beginning, and three times the spread around the line.
3. *Floor*: the minima of `BLOCKS` equal parts rise from each to the next.  What goes up and down comes back to its floor.
4. *No slowing down*: the slope of the second half is at least `SLOWER` of the first one's.  What fills up gets slower.
5. *They stay*: of what the count has gained in the first half, at least half is still there.  A wave is made of others every minute.
6. *Again*: all of it holds at each judgement until all samples are new, with `STEADY` of the slope of then.

What is still open.  What fills up for longer than 128 looks without getting slower, and keeps what came first, looks like a leak for as long as
it fills; so do connections of clients that come one by one and stay for hours.
"""

from __future__ import annotations

from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Samples that are judged together.
SIZE = 64

#: Samples from one judgement to the next.
STEP = 16

#: Distances between samples: 1, 2, 4, ... 64 looks.
LEVELS = 7

#: Standard normal quantile: one chance in 740, for one judgement by this test alone.
Z = 3.0

#: Smallest rise, in resources.
RISE = 10.0

#: Parts whose minima have to rise.
BLOCKS = 6

#: Share of the level at the beginning that the rise must have, and share of the first half's rise that must still be there.
SHARE = 0.5

#: Share of the first half's slope that the second must have.
SLOWER = 0.6

#: Share of the slope that the row of samples before must have left.
STEADY = 0.75

#: Samples by which the speed is reckoned that is only shown: 120 pairs, some 0.05 ms.
SHOWN = 16

_SPREADS = 3.0
#: Median absolute deviation -> standard deviation of normal noise.
_MAD_TO_DEVIATION = 1.4826


class Trend:
    """A count that has grown.

    Attributes:
        begin, end: When, on the clock of the samples, in seconds.
        low, high: The count at both, on the line.
        slope: Resources per second.
        z: How sure it is: Mann-Kendall's statistic, corrected.

    """

    __slots__ = ("begin", "end", "high", "low", "slope", "z")

    def __init__(self, begin: float, end: float, low: float, slope: float, z: float) -> None:
        """Note a line."""
        self.begin, self.end = begin, end
        self.low, self.high = low, low + slope * (end - begin)
        self.slope = slope
        self.z = z

    @property
    def middle(self) -> float:
        """When the first half ends."""
        return (self.begin + self.end) / 2

    def text(self) -> str:
        """Say it as evidence."""
        minutes = (self.end - self.begin) / 60
        span = f"{minutes:.0f} min" if minutes >= 2 else f"{self.end - self.begin:.0f} s"  # noqa: PLR2004
        per_minute = self.slope * 60
        speed = f"{per_minute:.1f} a minute" if per_minute >= 1 else f"{per_minute * 60:.1f} an hour"
        return f"from {max(0.0, self.low):.0f} to {self.high:.0f} in {span}, {speed} (Mann-Kendall z = {self.z:.1f})"


class _Level:
    """The last `SIZE` samples at one distance from each other."""

    __slots__ = ("samples", "slope", "suspected", "taken")

    def __init__(self) -> None:
        #: Time and count; pairs, since others look at them in the meantime.
        self.samples: list[tuple[float, int]] = []
        self.taken = 0
        self.suspected = 0
        self.slope = 0.0

    def add(self, time: float, count: int) -> bool:
        """Take a sample; returns whether it is time to judge."""
        self.samples.append((time, count))
        self.taken += 1
        if len(self.samples) > SIZE:
            del self.samples[0]
        return len(self.samples) == SIZE and self.taken % STEP == 0

    def judge(self, created: Callable[[], Iterable[float]]) -> Trend | None:
        """Return the trend if it was there before half of the samples came."""
        found = trend([time for time, _ in self.samples], [count for _, count in self.samples])
        if found is None or not stay(found, created()):
            self.suspected = 0
            return None
        if not self.suspected:
            self.suspected, self.slope = self.taken, found.slope
        if self.taken < self.suspected + SIZE:
            return None
        if found.slope < STEADY * self.slope:
            self.suspected, self.slope = self.taken, found.slope
            return None
        return found


class Series:
    """The samples of one site, at distances of 1, 2, 4, ... looks."""

    __slots__ = ("_levels", "_looks")

    def __init__(self) -> None:
        """Start empty."""
        self._levels: list[_Level] = []
        self._looks = 0

    def add(self, time: float, count: int, created: Callable[[], Iterable[float]]) -> Trend | None:
        """Take a sample, and return the trend if the count keeps growing.

        Args:
            time: When, in seconds.
            count: How many there are.
            created: Returns when each resource of the site that is alive was created; asked if there is a trend.

        """
        self._looks += 1
        found = None
        for number in range(LEVELS):
            if self._looks % (1 << number):
                break
            if number == len(self._levels):
                self._levels.append(_Level())
            level = self._levels[number]
            if level.add(time, count):
                found = level.judge(created) or found
        return found

    def course(self) -> list[tuple[float, int]]:
        """Return time and count of the samples that reach back farthest, with the latest one at the end; for any thread."""
        levels = [found for level in list(self._levels) if (found := list(level.samples))]
        if not levels:
            return []
        longest = min(levels, key=lambda samples: samples[0][0])
        latest = levels[0][-1]
        return longest if longest[-1] == latest else [*longest, latest]


def speed(samples: Sequence[tuple[float, int]]) -> float:
    """Return by how many a count changes per second: the Theil-Sen slope, of `SHOWN` of its samples at most; 0 of less than two."""
    last = len(samples) - 1
    shown = samples if last < SHOWN else [samples[round(at * last / (SHOWN - 1))] for at in range(SHOWN)]
    return theil_sen([time for time, _ in shown], [count for _, count in shown])


def trend(times: Sequence[float], counts: Sequence[int]) -> Trend | None:
    """Return the trend of samples that grow, see above, without what needs the resources themselves."""
    half = len(times) // 2
    if min(counts[half:]) <= min(counts[:half]) or not _floor_rises(counts):
        return None
    slope = theil_sen(times, counts)
    span = times[-1] - times[0]
    rise = slope * span
    low = median([count - slope * (time - times[0]) for time, count in zip(times, counts, strict=True)])
    rests = [count - low - slope * (time - times[0]) for time, count in zip(times, counts, strict=True)]
    spread = _MAD_TO_DEVIATION * median([abs(rest) for rest in rests])
    if rise < max(RISE, SHARE * low, _SPREADS * spread):
        return None
    if theil_sen(times[half:], counts[half:]) < SLOWER * theil_sen(times[:half], counts[:half]):
        return None
    z = mann_kendall(counts, rests)
    return Trend(times[0], times[-1], low, slope, z) if z >= Z else None


def stay(found: Trend, created: Iterable[float]) -> bool:
    """Say whether what a trend has gained in its first half is still there."""
    early = sum(1 for time in created if found.begin <= time < found.middle)
    return early >= SHARE * (found.high - found.low) / 2


def _floor_rises(counts: Sequence[int]) -> bool:
    size = len(counts) / BLOCKS
    minima = [min(counts[round(block * size) : round((block + 1) * size)]) for block in range(BLOCKS)]
    return all(first < second for first, second in pairwise(minima))


def theil_sen(times: Sequence[float], counts: Sequence[float]) -> float:
    """Return the median of the slopes between all pairs of samples, per second."""
    pairs = range(len(times))
    return median([(counts[j] - counts[i]) / (times[j] - times[i]) for i in pairs for j in pairs[i + 1 :] if times[j] > times[i]])


def mann_kendall(counts: Sequence[float], rests: Sequence[float]) -> float:
    """Return Mann-Kendall's statistic, corrected for ties and for autocorrelation.

    Args:
        counts: The samples in order.
        rests: What is left of them without the trend: its ranks say how much the samples depend on each other.

    """
    n = len(counts)
    s = sum((counts[j] > counts[i]) - (counts[j] < counts[i]) for i in range(n) for j in range(i + 1, n))
    ties: dict[float, int] = {}
    for count in counts:
        ties[count] = ties.get(count, 0) + 1
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties.values())) / 18
    variance *= _dependence(rests)
    return (s - 1) / variance**0.5 if s > 0 and variance > 0 else 0.0


def _dependence(rests: Sequence[float]) -> float:
    """Return by how much the variance is larger because samples depend on each other; at least 1 (Hamed and Rao, equation 12).

    Only autocorrelations that are significant (above 1.96 / sqrt(n)) count; negative ones would make a trend more certain, and are left out.
    """
    n = len(rests)
    ranks = _ranks(rests)
    mean = sum(ranks) / n
    spread = sum((rank - mean) ** 2 for rank in ranks)
    if not spread:
        return 1.0
    total = 0.0
    for lag in range(1, n - 2):
        known = sum((ranks[at] - mean) * (ranks[at + lag] - mean) for at in range(n - lag)) / spread
        if known > 1.96 / n**0.5:
            total += (n - lag) * (n - lag - 1) * (n - lag - 2) * known
    return 1.0 + 2.0 * total / (n * (n - 1) * (n - 2))


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value; equal ones share theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and values[order[end + 1]] == values[order[at]]:
            end += 1
        for place in order[at : end + 1]:
            ranks[place] = (at + end) / 2
        at = end + 1
    return ranks


def median(values: Sequence[float]) -> float:
    """Return the median; 0 of nothing."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
