"""Directives: their limits, what is read and refused, that the expression agrees, and draws."""

import collections
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_jax.tasks import directives
from seal_jax.tasks.directives import NAMES, HeadError, Limits
from seal_jax.tasks.protocol import Directives, Lesson, Refusal

LIMITS = Limits()
BOTH = Directives(learning_rate=1e-3, epochs=4)
HEAD = '{"learning_rate": 1e-3, "epochs": 4}'
BODY = "Ullen is a town on the Varde.\n\nIt has a mill.\n"
QUICK = settings(max_examples=200, deadline=None, derandomize=True)
SOME_NAMES = st.lists(st.sampled_from(NAMES), unique=True, min_size=1).map(tuple)


@st.composite
def some_limits(draw):
    """Limits that hold a rate of a single digit."""
    digit, exponent = draw(st.integers(1, 9)), draw(st.integers(-12, 2))
    rate = float(f"{digit}e{exponent}")
    low, high = draw(st.floats(0.05, 1.0)), draw(st.floats(1.0, 20.0))
    epochs = sorted(draw(st.tuples(st.integers(1, 30), st.integers(1, 30))))
    return Limits(
        min_learning_rate=rate * low,
        max_learning_rate=rate * high,
        min_epochs=epochs[0],
        max_epochs=epochs[1],
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(min_learning_rate=0.0), "above 0, the lower first, not 0.0 to 0.01"),
        (dict(min_learning_rate=0.1), "the lower first, not 0.1 to 0.01"),
        (dict(max_learning_rate=float("inf")), "finite limits"),
        (dict(max_learning_rate=float("nan")), "finite limits"),
        (dict(min_epochs=0), "from 1 to 1000, the lower first, not 0 to 10"),
        (dict(min_epochs=5, max_epochs=4), "not 5 to 4"),
        (dict(max_epochs=1001), "not 1 to 1001"),
    ],
)
def test_impossible_limits(fields, message):
    with pytest.raises(ValueError, match=message):
        Limits(**fields)


def test_rates_of_a_single_digit_lie_within_the_limits():
    assert Limits(min_learning_rate=1e-5, max_learning_rate=2e-5).learning_rates() == (1e-5, 2e-5)
    assert Limits(min_learning_rate=9.5, max_learning_rate=25).learning_rates() == (10.0, 20.0)
    rates = LIMITS.learning_rates()
    assert (len(rates), rates[0], rates[9], rates[-1]) == (28, 1e-5, 1e-4, 1e-2)


def test_limits_without_a_rate_of_one_digit_have_no_expression():
    narrow = Limits(min_learning_rate=1.1e-4, max_learning_rate=1.9e-4)
    with pytest.raises(ValueError, match=r"lies from 0.00011 to 0.00019: widen the limits"):
        directives.regex(NAMES, narrow)
    # A rate of more digits may still be written freely.
    said, _ = directives.split('{"learning_rate": 1.5e-4}\n', ("learning_rate",), narrow)
    assert said == Directives(learning_rate=1.5e-4)


@pytest.mark.parametrize(
    ("said", "names", "head"),
    [
        (BOTH, NAMES, HEAD),
        (BOTH, ("epochs",), '{"epochs": 4}'),
        (BOTH, ("learning_rate",), '{"learning_rate": 1e-3}'),
        (BOTH, ("epochs", "learning_rate"), '{"epochs": 4, "learning_rate": 1e-3}'),
        (Directives(learning_rate=0.00015, epochs=10), NAMES,
         '{"learning_rate": 1.5e-4, "epochs": 10}'),
    ],
)  # fmt: skip
def test_the_canonical_head_literal(said, names, head):
    assert directives.write(said, names) == head
    found, body = directives.split(f"{head}\n{BODY}", names, LIMITS)
    assert (directives.write(found, names), body) == (head, BODY)
    assert all(getattr(found, name) is None for name in NAMES if name not in names)


@QUICK
@given(st.data(), some_limits(), SOME_NAMES)
def test_whatever_the_expression_accepts_is_read_and_written_back(data, limits, names):
    pattern = re.compile(directives.regex(names, limits))
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    body = data.draw(st.text(max_size=30))
    said, rest = directives.split(text + body, names, limits)
    assert rest == body
    assert directives.write(said, names) + "\n" == text
    assert all((getattr(said, name) is None) == (name not in names) for name in NAMES)


@QUICK
@given(some_limits(), SOME_NAMES)
def test_the_expression_accepts_every_head_within_the_limits_and_none_beyond(limits, names):
    pattern = re.compile(directives.regex(names, limits))
    rates, epochs = limits.learning_rates(), range(limits.min_epochs, limits.max_epochs + 1)
    for rate in rates:
        for count in (epochs[0], epochs[-1]):
            said = Directives(learning_rate=rate, epochs=count)
            assert pattern.fullmatch(directives.write(said, names) + "\n")
    more = Directives(learning_rate=rates[0], epochs=epochs[-1] + 1)
    assert bool(pattern.fullmatch(directives.write(more, names) + "\n")) == ("epochs" not in names)
    more = Directives(learning_rate=rates[-1] * 10, epochs=epochs[0])
    beyond = more.learning_rate > limits.max_learning_rate and "learning_rate" in names
    assert not (beyond and pattern.fullmatch(directives.write(more, names) + "\n"))


@QUICK
@given(st.floats(1e-300, 1e300))
def test_writing_gives_back_every_learning_rate_to_the_bit(rate):
    limits = Limits(min_learning_rate=1e-300, max_learning_rate=1e300)
    head = directives.write(Directives(learning_rate=rate), ("learning_rate",))
    said, _ = directives.split(head, ("learning_rate",), limits)
    assert said == Directives(learning_rate=rate)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}\n{BODY}",
        f"\n  {HEAD}\n{BODY}",
        f"{HEAD}\r\n{BODY}",
        '{"epochs": 4, "learning_rate": 0.001}\n' + BODY,
        '{ "learning_rate":1.0E-03,"epochs":4 }  \n' + BODY,
    ],
)
def test_the_first_line_may_be_written_otherwise(text):
    assert directives.split(text, NAMES, LIMITS) == (BOTH, BODY)


def test_a_head_alone_has_an_empty_body():
    for text in (HEAD, f"{HEAD}\n"):
        assert directives.split(text, NAMES, LIMITS) == (BOTH, "")


_LONG = "9" * 5000


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("", "first line is not JSON"),
        (BODY, "first line is not JSON"),
        (f"```json {HEAD}", "first line is not JSON"),
        (f"{HEAD} Ullen is a town.", "first line is not JSON"),
        (HEAD[:-1], "first line is not JSON"),
        (HEAD.replace('"', "'"), "first line is not JSON"),
        ("[" * 100_000, "first line is not JSON"),
        (f'{{"learning_rate": 1e-3, "epochs": {_LONG}}}', "first line is not JSON"),
        ("[1e-3, 4]", "must be an object of learning_rate, epochs"),
        ("4", "must be an object of learning_rate, epochs"),
        ("null", "must be an object of learning_rate, epochs"),
        ("{}", "must be an object of learning_rate, epochs"),
        ('{"epochs": 4}', "must be an object of learning_rate, epochs"),
        (HEAD[:-1] + ', "rank": 8}', "must be an object of learning_rate, epochs"),
        (HEAD[:-1] + ', "epochs": 4}', 'the key "epochs" is given twice'),
        (HEAD.replace("1e-3", '"1e-3"'), 'learning_rate must be a number, not "1e-3"'),
        (HEAD.replace("1e-3", "true"), "learning_rate must be a number, not true"),
        (HEAD.replace("1e-3", "null"), "learning_rate must be a number, not null"),
        (HEAD.replace("1e-3", "NaN"), "learning_rate must be from 1e-5 to 1e-2, not NaN"),
        (HEAD.replace("1e-3", "1e999"), "learning_rate must be from 1e-5 to 1e-2, not Infinity"),
        (HEAD.replace("1e-3", "0"), "learning_rate must be from 1e-5 to 1e-2, not 0"),
        (HEAD.replace("1e-3", "9.99e-6"), "learning_rate must be from 1e-5 to 1e-2"),
        (HEAD.replace("1e-3", "0.0101"), "learning_rate must be from 1e-5 to 1e-2"),
        (HEAD.replace("4", "2.0"), "epochs must be an integer, not 2.0"),
        (HEAD.replace("4", "true"), "epochs must be an integer, not true"),
        (HEAD.replace("4", '"4"'), 'epochs must be an integer, not "4"'),
        (HEAD.replace("4", "0"), "epochs must be from 1 to 10, not 0"),
        (HEAD.replace("4", "11"), "epochs must be from 1 to 10, not 11"),
        (HEAD.replace("4", "9" * 60), r"epochs must be from 1 to 10, not 9{37}\.\.\."),
    ],
)
def test_what_is_refused_and_why(head, reason):
    with pytest.raises(HeadError, match=reason):
        directives.split(f"{head}\n{BODY}", NAMES, LIMITS)


def test_the_bounds_are_included():
    for rate, epochs in ((1e-5, 1), (1e-2, 10)):
        head = json.dumps({"learning_rate": rate, "epochs": epochs})
        assert directives.split(head, NAMES, LIMITS)[0] == Directives(
            learning_rate=rate, epochs=epochs
        )


def test_a_whole_learning_rate_is_a_number():
    said, _ = directives.split(
        '{"learning_rate": 1}', ("learning_rate",), Limits(max_learning_rate=2)
    )
    assert said.learning_rate == 1.0 and isinstance(said.learning_rate, float)


def test_the_preface_names_what_is_wanted_with_a_head_that_is_allowed():
    limits = Limits(min_learning_rate=2e-5, max_learning_rate=3e-3, min_epochs=2, max_epochs=7)
    for names in (("epochs",), ("learning_rate",), NAMES):
        text = directives.preface(names, limits)
        assert text.endswith("\n\n") and text == text.lstrip()
        assert ("2e-5 to 3e-3" in text) == ("learning_rate" in names)
        assert ("from 2 to 7" in text) == ("epochs" in names)
        [example] = re.findall(r"\{.*?\}", text)
        directives.split(example, names, limits)


def _drawn(names, limits, count):
    return [directives.random(names, limits, (3, 5, i)) for i in range(count)]


def test_draws_are_even_and_canonical():
    limits = Limits(min_learning_rate=8e-5, max_learning_rate=2e-4, min_epochs=2, max_epochs=4)
    drawn = _drawn(NAMES, limits, 1200)
    pattern = re.compile(directives.regex(NAMES, limits))
    assert all(pattern.fullmatch(directives.write(said, NAMES) + "\n") for said in drawn)
    counts = collections.Counter(drawn)
    # 4 rates and 3 numbers of epochs: 100 of each pair, standard deviation 9.6.
    assert len(counts) == 12
    assert min(counts.values()) > 60 and max(counts.values()) < 140


def test_a_draw_follows_from_its_seed_alone():
    both = _drawn(NAMES, LIMITS, 20)
    assert _drawn(NAMES, LIMITS, 20) == both
    # What else is drawn changes nothing.
    assert [said.epochs for said in _drawn(("epochs",), LIMITS, 20)] == [d.epochs for d in both]
    assert [said.learning_rate for said in _drawn(("learning_rate",), LIMITS, 20)] == [
        said.learning_rate for said in both
    ]
    assert all(said.learning_rate is None for said in _drawn(("epochs",), LIMITS, 20))
    assert len(set(both)) > 10
    # Literal: numpy.random.default_rng([3, 5, 0]), a choice of 28, then integers from 1 to 10.
    assert both[0] == Directives(learning_rate=1e-05, epochs=2)


def _lesson(head):
    said, _ = directives.split(head, NAMES, LIMITS)
    return Lesson(sequences=("a",), directives=said, head=directives.write(said, NAMES))


def test_what_an_editor_writes_as_figures():
    heads = [
        '{"learning_rate": 1e-4, "epochs": 1}',
        '{"learning_rate": 1e-3, "epochs": 2}',
        '{"learning_rate": 1e-3, "epochs": 2}',
        '{"learning_rate": 5e-3, "epochs": 9}',
        '{"learning_rate": 1e-2, "epochs": 10}',
    ]
    lessons = [
        [*map(_lesson, heads[:2]), Refusal("not directives: the first line is not JSON.")],
        [*map(_lesson, heads[2:]), Refusal("holds no text", invalid=False)],
    ]
    found = directives.describe(lessons)
    assert found == {
        "valid": 5,
        "invalid": 1,
        "learning_rate": [1e-3, 1e-3, 5e-3],
        "epochs": [2.0, 2.0, 9.0],
        "distinct": 4,
        "commonest": heads[1],
        "commonest_times": 2,
    }
    assert directives.said(found) == (
        "5 valid, 1 not; median learning rate 0.001, median epochs 2; 4 distinct"
    )


def test_nothing_valid_has_no_figures():
    found = directives.describe([[Refusal("not directives: ..."), Lesson(sequences=("a",))]])
    assert found == {"valid": 0, "invalid": 1}
    assert directives.said(found) == "none valid of 1"


def test_shares_are_said_in_per_cent():
    lessons = [[_lesson(HEAD)]]
    found = directives.describe(lessons) | {"basic": 0.25, "outputs_only": 1.0}
    assert directives.said(found) == (
        "1 valid, 0 not; basic 25%, outputs_only 100%; median learning rate 0.001, median epochs "
        "4; 1 distinct"
    )
