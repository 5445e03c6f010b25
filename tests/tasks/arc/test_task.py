"""ARC as a task: what is read, drawn, asked and marked, and recipes that nobody wrote."""

import json
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_jax.settings import SettingsError, config_dict
from seal_jax.tasks import directives, sources
from seal_jax.tasks.arc import arc, examples, prompt, recipe, votes
from seal_jax.tasks.arc.recipe import Recipe
from seal_jax.tasks.arc.task import Arc, Puzzle, random_recipe
from seal_jax.tasks.base import Task
from seal_jax.tasks.directives import Limits
from seal_jax.tasks.protocol import Best, Bounds, Directives, Grammar, Lesson, Refusal

PAIRS = [
    {"input": [[1, 2], [3, 4]], "output": [[3, 4], [1, 2]]},
    {"input": [[5, 6], [0, 0]], "output": [[0, 0], [5, 6]]},
    {"input": [[7], [8]], "output": [[8], [7]]},
]
TESTS = [
    {"input": [[9, 0], [1, 1]], "output": [[1, 1], [9, 0]]},
    {"input": [[2], [4]], "output": [[4], [2]]},
]
FIRST = Recipe(
    basic=True,
    size=False,
    chain=False,
    repeat=False,
    outputs_only=True,
    learning_rate=1e-3,
    epochs=2,
)
TEXT = recipe.write(FIRST)
SECOND = recipe.write(
    Recipe(
        basic=False,
        size=True,
        chain=False,
        repeat=True,
        outputs_only=False,
        learning_rate=5e-3,
        epochs=1,
    )
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folders of puzzles: "one" and "two" to train on, "held" to be asked."""
    folders = {}
    for split, ids in {"train": ("one", "two"), "eval": ("held",)}.items():
        folders[split] = tmp_path_factory.mktemp(split)
        for i, id in enumerate(ids):
            turned = [{key: np.roll(grid, i, 0).tolist() for key, grid in p.items()} for p in PAIRS]
            puzzle = {"train": turned, "test": TESTS}
            (folders[split] / f"{id}.json").write_text(json.dumps(puzzle))
    return folders


@pytest.fixture(scope="module")
def make(files):
    """(options of few_shot, seed) -> the task."""

    def made(*, seed=0, styles=("chat", "chat"), **own):
        return Arc(
            config_dict.from_config(
                {
                    "task": "few_shot",
                    "seed": seed,
                    "edits": {"prompt_style": styles[0]},
                    "answers": {"prompt_style": styles[1]},
                    "few_shot": {"train": str(files["train"]), "eval": str(files["eval"])} | own,
                }
            )
        )

    return made


def _one(task):
    return task.contexts("train")[0]


# What is taught.


def test_puzzles_are_contexts_whose_text_are_the_demonstrations(make):
    task = make()
    assert isinstance(task, Task) and task.takes_all and task.writes and task.directs
    assert [context.id for context in task.contexts("train")] == ["one", "two"]
    assert [context.id for context in task.contexts("eval")] == ["held"]
    one = _one(task)
    assert isinstance(one, Puzzle)
    assert one.text == prompt.show(one.task.demonstrations, "digits")
    assert one.text.startswith("Input:\n12\n34\nOutput:\n34\n12\n\n")
    assert (one.title, one.group, one.questions) == ("one", "one", ())
    assert task.reference_texts("eval") == [task.contexts("eval")[0].text]
    nested = _one(make(form="nested"))
    assert nested.text.startswith("Input:\n[[1, 2], [3, 4]]\nOutput:\n[[3, 4], [1, 2]]")


def test_ids_choose_puzzles_in_the_order_of_the_source(make):
    assert [c.id for c in make(train_tasks=("two",)).contexts("train")] == ["two"]
    assert [c.id for c in make(train_tasks=("two", "one")).contexts("train")] == ["one", "two"]
    with pytest.raises(SettingsError, match=r"few_shot\.eval_tasks names 'one', which .* correct"):
        make(eval_tasks=("held", "one"))


@pytest.mark.parametrize("styles", [("plain", "plain"), ("chat", "plain"), ("plain", "chat")])
def test_prompts_that_are_no_chats_are_refused(make, styles):
    with pytest.raises(SettingsError, match=r"prompts are chats: set edits\.prompt_style and"):
        make(styles=styles)


def test_a_text_of_ones_own_is_no_puzzle(make):
    with pytest.raises(SettingsError, match="no ARC task"):
        make().context_from("Rome", "Rome fell.", [("When?", "476")])


def test_the_prompt_holds_the_demonstrations_and_the_limits_but_no_test(make):
    task = make(max_epochs=7)
    asked = task.edit_prompt(_one(task))
    assert asked == recipe.request(_one(task).text, Limits(max_epochs=7))
    assert task.preface == ""
    assert "90\n11" not in asked and "11\n90" not in asked


def test_recipes_are_held_to_their_grammar_where_the_settings_say_so(make):
    assert make().grammar is None
    limits = Limits(min_epochs=2, max_epochs=3)
    task = make(constrained=True, min_epochs=2, max_epochs=3)
    assert task.grammar == Grammar(recipe.regex(limits), "whole")


def test_bounds(make):
    assert make().bounds() == Bounds(sequences=250, epochs=10, steps=375)
    few = make(max_examples=1, max_epochs=3, max_steps=5)
    assert few.bounds() == Bounds(sequences=2, epochs=3, steps=5)


# From a recipe to a lesson.


def _examples(task, puzzle, wanted, draw, seed=0):
    """The chats of a recipe's examples, made without the task."""
    made = examples.training_examples(
        puzzle.task.demonstrations,
        [name for name in ("basic", "size", "chain", "repeat") if getattr(wanted, name)],
        seed=(seed, zlib.crc32(puzzle.id.encode()), draw),
        leave_out=task.settings.few_shot.leave_out,
        max_examples=task.settings.few_shot.max_examples,
    )
    form, only = task.settings.few_shot.form, wanted.outputs_only
    return tuple(prompt.chat(example, form, outputs_only=only) for example in made)


@pytest.mark.parametrize("text", [TEXT, SECOND])
@pytest.mark.parametrize("draw", [0, 3])
def test_the_lesson_of_a_recipe(make, text, draw):
    task = make(max_examples=9, leave_out=(1,), seed=5)
    wanted = recipe.parse(text, Limits())
    for puzzle in task.contexts("train"):
        lesson = task.read(puzzle, f"Here it is:\n{text}\nIt turns the grids.", draw)
        assert lesson == Lesson(
            sequences=_examples(task, puzzle, wanted, draw, seed=5),
            directives=Directives(learning_rate=wanted.learning_rate, epochs=wanted.epochs),
            head=text,
        )
        assert 0 < len(lesson.sequences) <= 9
        assert (lesson.sequences[0].spans is None) != wanted.outputs_only


def test_recipes_of_a_puzzle_differ_by_what_they_ask_for_and_by_nothing_else(make):
    task = make(max_examples=9)
    slow = recipe.write(recipe.parse(TEXT.replace("1e-3", "1e-4"), Limits()))
    one, other = (task.read(_one(task), text, 1) for text in (TEXT, slow))
    assert one.sequences is other.sequences  # made once
    assert (one.directives, one.head) != (other.directives, other.head)
    assert task.read(_one(task), TEXT, 2).sequences != one.sequences
    assert make(max_examples=9, seed=1).read(_one(task), TEXT, 1).sequences != one.sequences


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Rotate the grids.", "not a recipe: the text holds no JSON object: expected one."),
        (TEXT.replace("1e-3", "1"),
         "not a recipe: learning_rate must be from 1e-5 to 1e-2, not 1."),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused_with_its_reason(make, text, reason):
    task = make()
    assert task.read(_one(task), text, 0) == Refusal(reason, invalid=True)


def test_with_the_directives_of_another_a_recipe_is_the_other(make):
    assert make().redirect(TEXT, "other") == "other"


def test_what_recipes_an_editor_writes(make):
    task = make(max_examples=2)
    texts = [[TEXT, TEXT, "no"], [SECOND, recipe.write(FIRST).replace("1e-3", "1e-4"), "{}"]]
    lessons = [
        [task.read(puzzle, text, 0) for text in of]
        for puzzle, of in zip(task.contexts("train"), texts, strict=True)
    ]
    found = task.describe(lessons)
    assert found == {
        "valid": 4,
        "invalid": 2,
        "basic": 0.75,
        "size": 0.25,
        "chain": 0.0,
        "repeat": 0.25,
        "outputs_only": 0.75,
        "learning_rate": [1e-3, 1e-3, 1e-3],
        "epochs": [2.0, 2.0, 2.0],
        "distinct": 3,
        "commonest": TEXT,
        "commonest_times": 2,
    }
    assert "basic 75%, size 25%" in directives.said(found)
    assert task.describe([[Refusal("not a recipe: ...")]]) == {"valid": 0, "invalid": 1}


# Recipes that nobody wrote.


def test_random_recipes_are_those_of_their_draw():
    """Literal: of the code before tasks were one protocol."""
    drawn = [
        random_recipe(Limits(), draw) for draw in ((0, "one", 0), (0, "one", 1), (7, "two", 0))
    ]
    assert [(r.basic, r.size, r.chain, r.repeat, r.outputs_only) for r in drawn] == [
        (False, True, False, False, True),
        (False, False, False, True, False),
        (True, True, True, True, False),
    ]
    assert [(r.learning_rate, r.epochs) for r in drawn] == [(2e-5, 9), (6e-3, 3), (8e-4, 2)]


def test_random_recipes_are_even():
    limits = Limits(min_learning_rate=9e-4, max_learning_rate=2e-3, min_epochs=2, max_epochs=3)
    drawn = [random_recipe(limits, (0, "one", number)) for number in range(1000)]
    for name in ("basic", "size", "chain", "repeat", "outputs_only"):
        assert 430 < sum(getattr(one, name) for one in drawn) < 570  # standard deviation 16
    for rate in (9e-4, 1e-3, 2e-3):
        assert 270 < sum(one.learning_rate == rate for one in drawn) < 400
    assert 430 < sum(one.epochs == 2 for one in drawn) < 570


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.text(max_size=8), st.integers(0, 99))
def test_random_recipes_are_valid(seed, id, number):
    limits = Limits(min_learning_rate=1e-4, max_learning_rate=3e-3, min_epochs=2, max_epochs=4)
    one = random_recipe(limits, (seed, id, number))
    assert recipe.parse(recipe.write(one), limits) == one


def _lessons(source, contexts, count, answer=None):
    """What a source asks for, each time answered so, and the lessons that it gives."""
    requests = []

    def answered(request):
        requests.append(request)
        return answer

    found = sources.answered(source.lessons(contexts, count), answered)
    return requests, found


def test_the_source_of_random_recipes(make):
    task = make(max_examples=3, seed=4)
    contexts = task.contexts("train")
    requests, found = _lessons(task.sources["random"], contexts, 3)
    assert requests == []
    assert found == [
        [task.lesson(context, random_recipe(Limits(), (4, context.id, m)), m) for m in range(3)]
        for context in contexts
    ]
    assert len({lesson.head for of in found for lesson in of}) == 6


def test_the_oracle_is_learned_from_a_draw_a_time(make):
    task = make(max_examples=3, oracle=TEXT)
    requests, found = _lessons(task.sources["oracle"], task.contexts("train"), 2)
    assert requests == []
    assert found == [[task.read(c, TEXT, m) for m in range(2)] for c in task.contexts("train")]
    assert found[0][0].sequences != found[0][1].sequences


@pytest.mark.parametrize("best", [0, 1])
def test_the_best_of_some_fixed_recipes(make, best):
    task = make(max_examples=3, fixed=(json.dumps(json.loads(TEXT), indent=1), SECOND))
    [asked], found = _lessons(task.sources["fixed"], task.contexts("eval"), 2, answer=best)
    assert isinstance(asked, Best)
    assert (asked.options, asked.edits) == ((TEXT, SECOND), False)
    one = _one(task)
    assert [asked.lesson(one, i, "") for i in (0, 1)] == [
        task.read(one, text, 0) for text in (TEXT, SECOND)
    ]
    chosen = (TEXT, SECOND)[best]
    assert found == [[task.read(c, chosen, m) for m in range(2)] for c in task.contexts("eval")]


def test_the_best_of_no_recipes_is_refused(make):
    with pytest.raises(SettingsError, match=r"chooses among some recipes: give few_shot\.fixed"):
        _lessons(make().sources["fixed"], (), 1)


@pytest.mark.parametrize("name", ["random", "fixed", "oracle"])
def test_recipes_of_several_puzzles_cannot_be_learned_together(make, name):
    task = make(fixed=(TEXT,))
    with pytest.raises(SettingsError, match="so several contexts cannot be learned together"):
        task.sources[name].together(task.contexts("train"), 1, "once")


# What is asked, and how it came out.


def _variants(task, puzzle, test, *, leave_one_out):
    own = task.settings.few_shot
    return votes.variants(
        puzzle.task,
        test,
        seed=(task.settings.seed, zlib.crc32(puzzle.id.encode()), test),
        leave_one_out=leave_one_out,
        permutations=own.permutations,
        transforms=own.transforms,
    )


@pytest.mark.parametrize(
    ("view", "own", "left_out"),
    [
        ("adapted", True, True),
        ("adapted", False, False),
        ("unadapted", True, False),
        ("reading", True, False),
    ],
)
def test_the_prompts_that_vote(make, view, own, left_out):
    """Only an adapted model lacks demonstrations, and only where the settings say so."""
    task = make(leave_one_out=own, transforms=("rotate_90", "identity"), seed=3)
    puzzle = _one(task)
    exam = task.exam(puzzle, view)
    expected = [
        (f"test {test + 1}/{number}", f"test {test + 1}", variant)
        for test in range(2)
        for number, variant in enumerate(_variants(task, puzzle, test, leave_one_out=left_out))
    ]
    assert [(one.id, one.question) for one in exam.asked] == [of[:2] for of in expected]
    assert len({one.id for one in exam.asked}) == len(exam.asked)
    for one, (_, _, variant) in zip(exam.asked, expected, strict=True):
        assert one.prompt == prompt.query(variant.demonstrations, variant.query_input, "digits")
        assert one.transform == variant.transform
    # Two tests, two changes, two orders, and a demonstration left out in its turn or none.
    assert len(exam.asked) == 2 * 2 * 2 * (3 if left_out else 1)
    # Unchanged prompts come first: they decide where votes are equal.
    names = [one.transform.name for one in exam.asked if one.question == "test 1"]
    assert names == sorted(names, key=lambda name: name != "identity")


@pytest.mark.parametrize("form", ["digits", "nested"])
def test_true_grids_are_scored_after_all_demonstrations(make, form):
    task = make(form=form)
    puzzle = _one(task)
    for view in ("adapted", "unadapted"):
        scored = task.exam(puzzle, view).scored
        assert [(one.question, one.prompt, one.gold) for one in scored] == [
            (
                f"test {i + 1}",
                prompt.query(puzzle.task.demonstrations, pair.input, form),
                prompt.answer(pair.output, form),
            )
            for i, pair in enumerate(puzzle.task.tests)
        ]


def test_no_prompt_holds_a_tests_output(make):
    task = make(form="nested", transforms=("identity",))
    exam = task.exam(_one(task), "adapted")
    asked = [one.prompt for one in (*exam.asked, *exam.scored)]
    assert not [text for text in asked if "[[1, 1], [9, 0]]" in text]


def _said(exam, grids):
    """Answers to every prompt: the grid of its test, changed as the prompt is."""
    return {
        one.id: prompt.answer(one.transform.apply(np.array(grids[one.question], np.int8)),
                              "digits")
        for one in exam.asked
        if one.question in grids
    }  # fmt: skip


RIGHT = {"test 1": TESTS[0]["output"], "test 2": TESTS[1]["output"]}


def _mark(task, texts, view="unadapted"):
    puzzle = _one(task)
    [mark] = task.mark([(puzzle, task.exam(puzzle, view), texts)], grader=None)
    return mark


def test_right_answers_solve_a_puzzle(make):
    task = make(transforms=("identity", "transpose"), permutations=2)
    texts = _said(task.exam(_one(task), "unadapted"), RIGHT)
    mark = _mark(task, texts)
    assert mark.scores == {"solved": 1.0, "graded": 1.0}
    assert mark.answers == tuple(
        {
            "question": f"test {i + 1}",
            "attempts": [TESTS[i]["output"]],
            "solved": True,
            "graded": 1.0,
            "prompts": 4,
            "unreadable": 0,
        }
        for i in range(2)
    )
    assert not mark.retry and task.graded_by(None) == "exact grids"
    assert json.loads(json.dumps(mark.answers)) == list(mark.answers)


def test_every_test_must_be_right(make):
    task = make(transforms=("identity",), permutations=1)
    exam = task.exam(_one(task), "unadapted")
    mark = _mark(task, _said(exam, RIGHT | {"test 2": [[2], [2]]}))
    # Of test 2's two cells one is right; the best answer without a rule has one too.
    assert mark.scores == {"solved": 0.0, "graded": 0.5}
    assert [answer["solved"] for answer in mark.answers] == [True, False]


def test_two_attempts_by_votes_the_first_seen_where_they_are_equal(make):
    task = make(transforms=("identity",), permutations=5)
    exam = task.exam(_one(task), "unadapted")
    first = [one.id for one in exam.asked if one.question == "test 2"]
    assert len(first) == 5
    said = dict(zip(first, ["7\n7", "4\n2", "4\n2", "8\n8", "8\n8"], strict=True))
    mark = _mark(task, said | {one.id: "9" for one in exam.asked if one.question == "test 1"})
    assert mark.answers[1]["attempts"] == [[[4], [2]], [[8], [8]]]
    assert mark.answers[1]["solved"] and not mark.answers[0]["solved"]
    said |= {first[3]: "7\n7"}  # 7 and 4 have two each: the first to be seen goes first
    mark = _mark(task, dict(reversed(said.items())))
    assert mark.answers[1]["attempts"] == [[[7], [7]], [[4], [2]]]
    assert mark.answers[1]["solved"]
    said |= dict(zip(first, ["1\n1", "7\n7", "1\n1", "7\n7", "4\n2"], strict=True))
    assert not _mark(task, said).answers[1]["solved"]  # a third attempt does not count


def test_answers_that_are_no_grid_are_counted(make):
    task = make(transforms=("identity",), permutations=2)
    exam = task.exam(_one(task), "unadapted")
    texts = dict(zip((one.id for one in exam.asked), ["no", "11\n90", "", "12\n1"], strict=True))
    mark = _mark(task, texts)
    assert [answer["unreadable"] for answer in mark.answers] == [1, 2]
    assert [answer["attempts"] for answer in mark.answers] == [[TESTS[0]["output"]], []]
    assert (mark.answers[1]["solved"], mark.answers[1]["graded"]) == (False, 0.0)
    assert mark.scores == {"solved": 0.0, "graded": 0.5}


def test_prompts_that_did_not_fit_have_no_vote(make):
    task = make(transforms=("identity",), permutations=2)
    exam = task.exam(_one(task), "unadapted")
    [kept] = [one for one in exam.asked if one.id == "test 1/1"]
    mark = _mark(task, {kept.id: "11\n90"})
    assert [answer["prompts"] for answer in mark.answers] == [1, 0]
    assert [answer["solved"] for answer in mark.answers] == [True, False]
    assert [answer["unreadable"] for answer in mark.answers] == [0, 0]


def test_marks_are_in_the_order_of_the_batch(make):
    task = make(transforms=("identity",), permutations=1)
    puzzle = _one(task)
    exam = task.exam(puzzle, "unadapted")
    batch = [(puzzle, exam, texts) for texts in (_said(exam, RIGHT), {}, _said(exam, RIGHT))]
    marks = task.mark(batch, grader=None)
    assert [mark.scores["solved"] for mark in marks] == [1.0, 0.0, 1.0]


# For curate and for people.


def test_practice_asks_each_demonstration_as_if_it_were_the_test(make):
    task = make()
    puzzle = _one(task)
    found = task.practice(puzzle)
    assert [one.task for one in found] == arc.leave_one_out(puzzle.task)
    assert [one.id for one in found] == ["one/0", "one/1", "one/2"]
    for i, one in enumerate(found):
        assert one.task.tests == (puzzle.task.demonstrations[i],)
        assert one.text == prompt.show(one.task.demonstrations, "digits")
        assert len(one.task.demonstrations) == 2
        # They can be learned and asked like any other.
        assert task.read(one, TEXT, 0).sequences and task.exam(one, "adapted").asked


def test_a_puzzle_with_one_demonstration_has_no_practice(make):
    task = make()
    [alone] = arc.leave_one_out(arc.leave_one_out(_one(task).task)[0])[:1]
    assert task.practice(Puzzle(id="x", title="x", text="", task=alone)) == []


def test_a_report_shows_grids_as_json(make):
    shown = make().show(_one(make()))
    assert shown == {
        "demonstrations": [[pair["input"], pair["output"]] for pair in PAIRS],
        "tests": [[pair["input"], pair["output"]] for pair in TESTS],
    }
    json.dumps(shown)


def test_without_pillow_the_command_to_install_it_is_said(make, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "seal_jax.tasks.arc.picture", raising=False)
    monkeypatch.delattr("seal_jax.tasks.arc.picture", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SettingsError, match=r"pip install 'seal_jax\[figures\]'"):
        make().draw(_one(make()), [], str(tmp_path / "a.png"))


def test_pictures_of_a_puzzle_and_its_marked_answers(make, tmp_path):
    pytest.importorskip("PIL")
    task = make(transforms=("identity",), permutations=1)
    puzzle = _one(task)
    answers = _mark(task, _said(task.exam(puzzle, "unadapted"), RIGHT)).answers
    for name, of in (("alone.png", []), ("marked.png", answers)):
        task.draw(puzzle, of, str(tmp_path / name))
    alone, marked = ((tmp_path / name).read_bytes() for name in ("alone.png", "marked.png"))
    assert alone.startswith(b"\x89PNG") and marked.startswith(b"\x89PNG") and alone != marked
