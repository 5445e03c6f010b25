"""Recipes: what is read, what is refused and why, and that the regular expression agrees."""

import dataclasses
import itertools
import json
import random
import re

import pytest

from seal_jax.tasks.arc import recipe as recipes
from seal_jax.tasks.arc.recipe import Recipe
from seal_jax.tasks.directives import HeadError, Limits

LIMITS = Limits()
RECIPE = Recipe(
    basic=True,
    size=False,
    chain=True,
    repeat=False,
    outputs_only=True,
    learning_rate=1e-4,
    epochs=2,
)
TEXT = (
    '{"data_generation": {"use_basic_augmentations": true, "use_size_augmentations": false, '
    '"use_chain_augmentations": true, "use_repeat_augmentations": false}, "training": '
    '{"strategy": "train_using_output_tokens", "learning_rate": 1e-4, "num_train_epochs": 2}}'
)


def _with(**changes):
    """TEXT as a tree with other values of the training part."""
    tree = json.loads(TEXT)
    tree["training"].update(changes)
    return json.dumps(tree)


def test_the_canonical_text_literal():
    assert recipes.write(RECIPE) == TEXT
    assert recipes.parse(TEXT, LIMITS) == RECIPE


def test_each_key_sets_its_own_field():
    """One at a time: no two keys are mixed up, on the way in or out."""
    base = dataclasses.replace(RECIPE, chain=False, basic=False)
    for name in ("basic", "size", "chain", "repeat"):
        changed = dataclasses.replace(base, **{name: True})
        tree = json.loads(recipes.write(changed))["data_generation"]
        assert [key for key, value in tree.items() if value] == [f"use_{name}_augmentations"]
        assert recipes.parse(recipes.write(changed), LIMITS) == changed
    everything = recipes.parse(_with(strategy="train_using_all_tokens"), LIMITS)
    assert everything == dataclasses.replace(RECIPE, outputs_only=False)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}```",
        f"Here is what I would do:\n\n{TEXT}\n\nIt turns the grids {{and mirrors them}}.",
        f"The rule {{rotate}} is clear. { {1, 2} } {TEXT}<|im_end|>",
        json.dumps(json.loads(TEXT), indent=4),
        json.dumps(json.loads(TEXT), sort_keys=True, separators=(",", ":")),
        TEXT.replace("1e-4", "0.0001"),
        TEXT.replace("1e-4", "1.0E-04"),
        f"\ufeff  {TEXT}\r\n",
        f"{{ {TEXT[1:]}",
    ],
)
def test_what_stands_round_the_object_is_passed_over(text):
    assert recipes.parse(text, LIMITS) == RECIPE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no JSON object: expected one"),
        ("I would rotate {the grids}.", "holds no JSON object"),
        ("[1, 2]", "holds no JSON object"),
        (f"{TEXT}\n{TEXT}", "holds 2 JSON objects: expected one"),
        (f"{{}} {TEXT}", "holds 2 JSON objects"),
        (TEXT[:-1], "broken at character"),
        (TEXT.replace("true", "True", 1), "broken at character 48 .*: 'True"),
        (TEXT.replace("2}}", "2,}}"), "broken at character"),
        (TEXT.replace('"', "'"), "holds no JSON object"),
        (TEXT.replace("e-4", "e-4 // small"), "broken at character"),
        # The inner object alone is not taken for the recipe where the outer one is broken.
        (TEXT.replace('{"data_generation": ', '{"data_generation" '), "broken at character 19"),
        (json.dumps({"recipe": json.loads(TEXT)}), "lacks data_generation, training"),
        ("{}", "the recipe lacks data_generation, training"),
        (_with(seed=1), 'training holds "seed", which is not in the schema'),
        (TEXT[:-1] + ', "note": "easy"}', 'the recipe holds "note", which is not in the schema'),
        (TEXT.replace("use_size", "use_scale"), "data_generation lacks use_size_augmentations"),
        (TEXT.replace('"num_train_epochs": 2', '"x": 2'), "training lacks num_train_epochs"),
        (TEXT.replace("true", "1", 1), "use_basic_augmentations must be true or false, not 1"),
        (TEXT.replace("true", "null", 1), "must be true or false, not null"),
        (TEXT.replace("false", '"false"', 1), 'must be true or false, not "false"'),
        (_with(strategy="train_using_tokens"), "strategy must be train_using_all_tokens or"),
        (_with(strategy=["train_using_all_tokens"]), "strategy must be"),
        (_with(strategy=None), "strategy must be .*, not null"),
        (_with(learning_rate="1e-4"), 'learning_rate must be a number, not "1e-4"'),
        (_with(learning_rate=True), "learning_rate must be a number, not true"),
        (_with(learning_rate=None), "learning_rate must be a number, not null"),
        (_with(learning_rate=[1e-4]), "learning_rate must be a number"),
        (_with(learning_rate=0), "learning_rate must be from 1e-5 to 1e-2, not 0"),
        (_with(learning_rate=-1e-4), "learning_rate must be from 1e-5 to 1e-2, not -0.0001"),
        (_with(learning_rate=9.99e-6), "learning_rate must be from"),
        (_with(learning_rate=0.0101), "learning_rate must be from"),
        (TEXT.replace("1e-4", "1e999"), "learning_rate must be from"),
        (TEXT.replace("1e-4", "1e-999"), "learning_rate must be from"),
        (TEXT.replace("1e-4", "NaN"), "NaN is not a number that JSON has"),
        (TEXT.replace("1e-4", "Infinity"), "Infinity is not a number"),
        (TEXT.replace("1e-4", "-Infinity"), "-Infinity is not a number"),
        (_with(num_train_epochs=0), "num_train_epochs must be from 1 to 10, not 0"),
        (_with(num_train_epochs=-3), "num_train_epochs must be from 1 to 10, not -3"),
        (_with(num_train_epochs=11), "num_train_epochs must be from 1 to 10, not 11"),
        (_with(num_train_epochs=10**30), r"num_train_epochs must be .*, not 10{30}\."),
        (_with(num_train_epochs=10**90), r"num_train_epochs must be .*, not 10{36}\.\.\."),
        (TEXT.replace("2}}", f"{'9' * 5000}}}}}"), "a number with too many digits"),
        (_with(num_train_epochs=2.0), "num_train_epochs must be an integer, not 2.0"),
        (_with(num_train_epochs=True), "num_train_epochs must be an integer, not true"),
        (_with(num_train_epochs="2"), 'num_train_epochs must be an integer, not "2"'),
        (TEXT.replace("2}}", '2, "num_train_epochs": 2}}'), '"num_train_epochs" is given twice'),
        (TEXT[:-1] + ', "training": {}}', 'the key "training" is given twice'),
        ('{"data_generation": 3, "training": {}}', "data_generation must be an object, not 3"),
        ('{"data_generation": [], "training": {}}', r"data_generation must be an object, not \[\]"),
        ('{"data_generation": ' + '{"a": ' * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_refused_and_why(text, reason):
    with pytest.raises(HeadError, match=reason):
        recipes.parse(text, LIMITS)


def test_the_bounds_are_included():
    for name, values in (("learning_rate", (1e-5, 1e-2)), ("num_train_epochs", (1, 10))):
        for value in values:
            found = recipes.parse(_with(**{name: value}), LIMITS)
            assert value in (found.learning_rate, found.epochs)


def test_a_whole_learning_rate_is_a_number():
    assert recipes.parse(_with(learning_rate=1), Limits(max_learning_rate=2)).learning_rate == 1.0


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1e-4, "1e-4"), (0.00015, "1.5e-4"), (1.0, "1e0"), (25.0, "2.5e1"), (0.1, "1e-1")],
)
def test_learning_rates_are_written_with_as_few_digits_as_there_are(rate, text):
    written = recipes.write(dataclasses.replace(RECIPE, learning_rate=rate))
    assert f'"learning_rate": {text}, ' in written


def test_writing_gives_back_every_learning_rate_to_the_bit():
    rng = random.Random(0)
    limits = Limits(min_learning_rate=1e-300, max_learning_rate=1e300)
    rates = [10 ** rng.uniform(-300, 300) for _ in range(500)] + [1.0, 25.0, 0.1, 1e22, 3e-5]
    for rate in rates:
        recipe = dataclasses.replace(RECIPE, learning_rate=rate)
        text = recipes.write(recipe)
        assert recipes.parse(text, limits) == recipe
        assert recipes.write(recipes.parse(text, limits)) == text


def test_the_regular_expression_accepts_every_canonical_recipe():
    """All 2^5 * 28 * 10 of them; each parses, and writing what was read changes nothing."""
    pattern = re.compile(recipes.regex(LIMITS))
    rates = LIMITS.learning_rates()
    assert (len(rates), rates[0], rates[9], rates[-1]) == (28, 1e-5, 1e-4, 1e-2)
    flags = itertools.product([False, True], repeat=5)
    for *used, rate, epochs in ((*f, r, n) for f in flags for r in rates for n in range(1, 11)):
        names = ("basic", "size", "chain", "repeat", "outputs_only")
        recipe = Recipe(**dict(zip(names, used, strict=True)), learning_rate=rate, epochs=epochs)
        text = recipes.write(recipe)
        assert pattern.fullmatch(text), text
        assert recipes.parse(text, LIMITS) == recipe


@pytest.mark.parametrize(
    "limits", [LIMITS, Limits(min_learning_rate=2.5e-5, max_learning_rate=3e-4, min_epochs=2)]
)
def test_whatever_the_regular_expression_accepts_parses(limits):
    """Texts one to three letters away from a recipe's: accepted ones are canonical recipes."""
    pattern = re.compile(recipes.regex(limits))
    rng = random.Random(1)
    accepted = 0
    for _ in range(20_000):
        text = TEXT
        for _ in range(rng.randint(1, 3)):
            at = rng.choice([*range(len(text) - 60, len(text)), rng.randrange(len(text))])
            text = text[:at] + rng.choice(["", *'0123456789e-. "{}tf']) + text[at + 1 :]
        if text != TEXT and pattern.fullmatch(text):
            accepted += 1
            assert recipes.write(recipes.parse(text, limits)) == text
    assert accepted > 50
    assert not pattern.fullmatch(TEXT.replace("1e-4", "1.5e-4"))
    assert not pattern.fullmatch(TEXT.replace(": 2}", ": 02}"))


def test_the_regular_expression_keeps_to_the_limits():
    limits = Limits(min_learning_rate=2.5e-5, max_learning_rate=2e-4, min_epochs=9, max_epochs=12)
    assert limits.learning_rates() == (3e-5, 4e-5, 5e-5, 6e-5, 7e-5, 8e-5, 9e-5, 1e-4, 2e-4)
    pattern = re.compile(recipes.regex(limits))
    for rate, epochs, accepted in [
        ("3e-5", 9, True),
        ("2e-4", 12, True),
        ("2e-5", 9, False),
        ("3e-4", 9, False),
        ("3e-5", 8, False),
        ("3e-5", 13, False),
        ("3e-5", 1, False),
    ]:
        text = TEXT.replace("1e-4", rate).replace(": 2}", f": {epochs}}}")
        assert bool(pattern.fullmatch(text)) == accepted
        if not accepted:
            with pytest.raises(HeadError, match=r"must be from (2.5e-5 to 2e-4|9 to 12), not"):
                recipes.parse(text, limits)


def test_limits_without_a_rate_of_one_digit_have_no_regular_expression():
    with pytest.raises(ValueError, match=r"lies from 0.00011 to 0.00019: widen the limits"):
        recipes.regex(Limits(min_learning_rate=1.1e-4, max_learning_rate=1.9e-4))


def test_the_request_holds_the_pairs_and_the_limits_and_no_placeholder():
    limits = Limits(min_learning_rate=2e-5, max_learning_rate=3e-3, min_epochs=2, max_epochs=7)
    pairs = "[[0, {most_rate}]] -> [[1]]"  # what stands in the pairs is never a placeholder
    text = recipes.request(pairs, limits)
    assert text.count(pairs) == 1
    rest = text.replace(pairs, "")
    assert "2e-5 to 3e-3" in rest and "2 to 7" in rest
    assert not re.search(r"\{\w+\}", rest)
    for key in (*re.findall(r'"(\w+)"', TEXT), "train_using_all_tokens"):
        assert f'"{key}"' in rest
    assert text == text.strip()
