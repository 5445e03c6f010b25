"""How often do the intervals cover the truth? `python -m benchmarks.coverage`

Draws data whose true difference is known, makes an interval of each data set, and counts. Prints
the tables of docs/statistics.md: one interval by several methods, families of comparisons, and
several seeds. `--datasets=200` gives a rough answer in a minute.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from seal_jax.stats import intervals

_QUESTIONS = 8  # at most; each context has 3 to 8
_TRUTH = 1e-12  # an interval that ends on the truth covers it


@dataclasses.dataclass(frozen=True)
class Binary:
    """Right and wrong answers of two arms to the same questions.

    The logit of a right answer is `base`, plus effects of the context and of the question that both
    arms share; arm a adds `gain` and how this context takes to the arm.
    """

    name: str
    base: float
    gain: float

    def draw(self, generator: np.random.Generator, contexts: int):
        """Values of a, values of b, each a list of arrays by context."""
        size = generator.integers(3, _QUESTIONS + 1, contexts)
        shared = generator.normal(0, 1, (contexts, 1)) + generator.normal(
            0, 1, (contexts, _QUESTIONS)
        )
        taking = generator.normal(0, 0.7, (contexts, 1))
        logits = np.stack([self.base + self.gain + shared + taking, self.base + shared])
        right = generator.random(logits.shape) < special.expit(logits)
        return tuple([arm[c, :n].astype(float) for c, n in enumerate(size)] for arm in right)

    @property
    def truth(self) -> float:
        """The expected difference: logistic-normal means by Gauss-Hermite quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(200)

        def mean(centre: float, variance: float) -> float:
            right = special.expit(centre + np.sqrt(variance) * nodes)
            return float((right * weights).sum() / weights.sum())

        return mean(self.base + self.gain, 2.49) - mean(self.base, 2)


@dataclasses.dataclass(frozen=True)
class Nats:
    """Gold log-likelihoods: differences of a question and of its context, of one shape.

    The difference's variance is 1, of which `share` lies between contexts; what both arms share has
    a standard deviation of 5 nats.
    """

    name: str
    shape: str
    share: float
    truth: float = 0.5

    def draw(self, generator: np.random.Generator, contexts: int):
        """See `Binary.draw`."""
        size = generator.integers(3, _QUESTIONS + 1, contexts)
        gain = self.truth + np.sqrt(self.share) * noise(generator, self.shape, (contexts, 1))
        gain = gain + np.sqrt(1 - self.share) * noise(generator, self.shape, (contexts, _QUESTIONS))
        shared = generator.normal(-10, 5, (contexts, _QUESTIONS))
        arms = (shared + gain, shared)
        return tuple([arm[c, :n] for c, n in enumerate(size)] for arm in arms)


def noise(generator: np.random.Generator, shape: str, size: Sequence[int]):
    """Draws of mean 0 and variance 1: "normal", "t3", "exponential" or "lognormal" (skew 3.3)."""
    if shape == "normal":
        return generator.normal(0, 1, size)
    if shape == "t3":
        return generator.standard_t(3, size) / np.sqrt(3)
    if shape == "exponential":
        return generator.exponential(1, size) - 1
    variance = 0.5625
    mean = np.exp(variance / 2)
    return (generator.lognormal(0, 0.75, size) - mean) / (mean * np.sqrt(np.exp(variance) - 1))


DATA = (
    Binary("answers, about 4 of 10 right, +3 points", -0.5, 0.15),
    Binary("answers, 3 of 10 right, +21 points", -1.0, 1.2),
    Binary("answers, 3 of 100 right, +8 points", -4.5, 1.5),
    Binary("answers, none of 100 right, +10 points", -7.0, 4.0),
    Binary("answers, none of 100 right, +20 points", -8.0, 6.0),
    Nats("nats, normal", "normal", 0.3),
    Nats("nats, Student's t with 3 degrees of freedom", "t3", 0.3),
    Nats("nats, exponential", "exponential", 0.3),
    Nats("nats, lognormal", "lognormal", 0.3),
    Nats("nats, exponential contexts, no question noise", "exponential", 1.0),
)
METHODS = ("Student's t", "percentile", "widened percentile", "bootstrap-t", "paired_bootstrap")


def covers(interval: Sequence[float], truth: float) -> bool:
    """Whether (low, high) holds the truth; one that cannot be told does not."""
    return interval[0] is not None and interval[0] - _TRUTH <= truth <= interval[1] + _TRUTH


def coverage(data: Binary | Nats, *, contexts: int, datasets: int, draws: int, seed: int) -> float:
    """The share of data sets whose 95 % interval of `paired_bootstrap` holds the truth."""
    generator = np.random.default_rng(seed)
    truth, covered = data.truth, 0
    for number in range(datasets):
        a, b = data.draw(generator, contexts)
        interval = intervals.paired_bootstrap(a, b, seed=number, draws=draws)
        covered += covers(interval[1:], truth)
    return covered / datasets


def rivals(a, b, *, draws: int, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of one data set by each of METHODS."""
    weight = np.array([len(group) for group in a], dtype=float)
    difference = np.array([np.mean(group) for group in a]) - [np.mean(group) for group in b]
    count = len(weight)
    centre = (weight * difference).sum() / weight.sum()
    residual = weight * (difference - centre)
    error = np.sqrt(count / (count - 1) * (residual**2).sum()) / weight.sum()
    if error == 0:
        return dict.fromkeys(METHODS, (centre, centre))
    student = special.stdtrit(count - 1, 0.975)
    counts = np.concatenate(list(map(intervals._counts, intervals._resamples(count, draws, seed))))
    total = counts @ weight
    shift = counts @ residual / total
    squares = counts @ residual**2 - 2 * shift * (counts @ (residual * weight))
    squares = np.maximum(squares + shift**2 * (counts @ weight**2), 1e-24 * error**2)
    t = shift / (np.sqrt(count / (count - 1) * squares) / total)
    # The widened percentile interval: Hesterberg, "What Teachers Should Know About the Bootstrap".
    tail = special.ndtr(-np.sqrt(count / (count - 1)) * student)
    low, high = np.quantile(t, [0.025, 0.975])
    found = {
        "Student's t": (centre - student * error, centre + student * error),
        "percentile": tuple(centre + np.quantile(shift, [0.025, 0.975])),
        "widened percentile": tuple(centre + np.quantile(shift, [tail, 1 - tail])),
        "bootstrap-t": (centre - high * error, centre - low * error),
    }
    own = intervals.paired_bootstrap(a, b, seed=seed, draws=draws)
    return found | {"paired_bootstrap": own[1:]}


def family_coverage(
    shape: str, *, arms: int, contexts: int, datasets: int, draws: int, seed: int
) -> tuple[float, float, float]:
    """Every pair of arms that do not differ: how often all intervals at once hold the truth.

    Args:
      shape: see `noise`; "answers" draws right and wrong ones, 3 of 10 right.

    Returns:
      The share for single intervals, the share for corrected ones, and the mean corrected level.
    """
    generator = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(arms), 2))
    single = corrected = 0
    levels = []
    for number in range(datasets):
        values = _equal_arms(generator, shape, arms, contexts)
        family = intervals.paired_bootstraps(
            [([values[i]], [values[j]]) for i, j in pairs], seed=number, draws=draws
        )
        single += all(covers(interval[1:], 0) for interval in family.single)
        corrected += all(covers(interval[1:], 0) for interval in family.corrected)
        levels.append(family.corrected_level)
    return single / datasets, corrected / datasets, float(np.mean(levels))


def _equal_arms(generator, shape: str, arms: int, contexts: int):
    size = generator.integers(3, _QUESTIONS + 1, contexts)
    shared = generator.normal(0, 1, (contexts, 1)) + generator.normal(0, 1, (contexts, _QUESTIONS))
    wide = (arms, contexts, _QUESTIONS)
    if shape == "answers":
        logits = -1 + shared + generator.normal(0, 0.7, (arms, contexts, 1))
        values = (generator.random(wide) < special.expit(logits)).astype(float)
    else:
        own = np.sqrt(0.3) * noise(generator, shape, (arms, contexts, 1))
        values = 5 * shared + own + np.sqrt(0.7) * noise(generator, shape, wide)
    return [[arm[c, :n] for c, n in enumerate(size)] for arm in values]


@dataclasses.dataclass(frozen=True)
class Nested:
    """Differences of several seeds on passages of several articles, in nats, of true mean 0.

    The standard deviations: `seeds` between seeds, `articles` between articles, 0.3 of a seed on an
    article; of a passage and of a seed on a passage 2 each, both exponential. `passages` are the
    least and the most passages of an article.
    """

    name: str
    seeds: float
    articles: float
    passages: tuple[int, int] = (3, 30)

    def draw(self, generator: np.random.Generator, seeds: int, articles: int):
        """Runs of a and of b, and the article of each context."""
        size = generator.integers(self.passages[0], self.passages[1] + 1, articles)
        article = np.repeat(np.arange(articles), size)
        of_article = noise(generator, "exponential", (articles,)) * self.articles
        of_both = generator.normal(0, 0.3, (seeds, articles))
        gain = generator.normal(0, self.seeds, (seeds, 1)) + (of_article + of_both)[:, article]
        gain = gain + 2 * noise(generator, "exponential", (len(article),))
        gain = gain + 2 * noise(generator, "exponential", (seeds, len(article)))
        questions = generator.integers(3, _QUESTIONS + 1, len(article))
        runs_a = [
            [np.full(n, value) for value, n in zip(run, questions, strict=True)] for run in gain
        ]
        runs_b = [[np.zeros(n) for n in questions] for _ in range(seeds)]
        return runs_a, runs_b, article.tolist()


NESTED = (
    Nested("seeds and articles do not differ", 0.0, 0.0),
    Nested("seeds 0.2, articles 0.5", 0.2, 0.5),
    Nested("seeds 0.3, articles 0.8", 0.3, 0.8),
    Nested("seeds 1, articles 0.5", 1.0, 0.5),
    Nested("seeds 0.3, articles 0.5, 1 to 4 passages", 0.3, 0.5, (1, 4)),
)


def nested_coverage(
    data: Nested, *, seeds: int, articles: int, datasets: int, draws: int, seed: int
) -> float:
    """The share of data sets whose 95 % interval over several seeds holds the truth."""
    generator = np.random.default_rng(seed)
    covered = 0
    for number in range(datasets):
        runs_a, runs_b, of_contexts = data.draw(generator, seeds, articles)
        [interval] = intervals.paired_bootstraps(
            [(runs_a, runs_b)], of_contexts, seed=number, draws=draws
        ).single
        covered += covers(interval[1:], 0)
    return covered / datasets


def _print_methods(datasets: int) -> None:
    for contexts, repeats, draws in ((12, datasets, 1000), (200, datasets // 4, 400)):
        print(f"\n{contexts} contexts, {repeats} data sets, {draws} resamples; % covered\n")
        print("| data | " + " | ".join(METHODS) + " |")
        print("|---" * (len(METHODS) + 1) + "|")
        for data in DATA:
            generator, truth = np.random.default_rng(0), data.truth
            hits: dict[str, int] = dict.fromkeys(METHODS, 0)
            for number in range(repeats):
                a, b = data.draw(generator, contexts)
                for name, interval in rivals(a, b, draws=draws, seed=number).items():
                    hits[name] += covers(interval, truth)
            cells = [f"{hits[name] / repeats * 100:.1f}" for name in METHODS]
            print(f"| {data.name} | " + " | ".join(cells) + " |", flush=True)


def _print_families(datasets: int) -> None:
    print("\nfamilies, 1000 resamples; % of families covered whole\n")
    print(
        "| contexts | data sets | comparisons | data | single | corrected | mean corrected level |"
    )
    print("|---" * 7 + "|")
    for (contexts, repeats), arms in itertools.product(
        ((12, datasets), (200, datasets // 4)), (3, 5)
    ):
        for shape in ("answers", "normal", "exponential"):
            found = family_coverage(
                shape, arms=arms, contexts=contexts, datasets=repeats, draws=1000, seed=0
            )
            shares = " | ".join(f"{share * 100:.1f}" for share in found)
            pairs = arms * (arms - 1) // 2
            print(f"| {contexts} | {repeats} | {pairs} | {shape} | {shares} |", flush=True)


def _print_nested(datasets: int) -> None:
    sizes = ((3, 6), (3, 12), (3, 40), (5, 12))
    print(f"\nseveral seeds, {datasets} data sets, 300 resamples; % covered\n")
    print("| data | " + " | ".join(f"{s} seeds, {a} articles" for s, a in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for data in NESTED:
        cells = [
            nested_coverage(data, seeds=s, articles=a, datasets=datasets, draws=300, seed=0)
            for s, a in sizes
        ]
        print(f"| {data.name} | " + " | ".join(f"{c * 100:.1f}" for c in cells) + " |", flush=True)


_TABLES: dict[str, Callable[[int], None]] = {
    "methods": _print_methods,
    "families": _print_families,
    "nested": _print_nested,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=0, help="default: of each table its own")
    parser.add_argument("--table", choices=tuple(_TABLES), help="default: all")
    given = parser.parse_args(argv)
    usual = {"methods": 10_000, "families": 2000, "nested": 1000}
    for name in [given.table] if given.table else _TABLES:
        _TABLES[name](given.datasets or usual[name])


if __name__ == "__main__":
    main()
