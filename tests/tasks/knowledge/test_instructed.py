"""Texts that are written to instructions: which text follows which, and what is learned of them."""

import pytest
from knowledge_tasks import knowledge_task

from seal_jax.tasks.knowledge import instructed, prompt
from seal_jax.tasks.protocol import Context, Lesson, Question, Refusal, Tell
from seal_jax.tasks.sources import answered

SHIP = Context(
    id="ship",
    title="Ostravelle",
    text="She took slate from Naurim. Divers found her.",
    questions=(Question("q", "CANARY question?", "CANARY answer"),),
)
PORT = Context(id="port", title="Bexholt", text="Bexholt is a port.")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("1. List the dates.\n2) Ask five questions.", ["List the dates.", "Ask five questions."]),
        ("Sure!\n\n- **Dates:** List.\n• Draw a map\nDone.", ["Dates: List.", "Draw a map"]),
        ("List the dates.\n\n Ask five questions.", ["List the dates.", "Ask five questions."]),
        ("1. List dates.\n2. list DATES.\n3. Ask", ["list DATES."]),  # once; a word is none
        ("10. List 3. May first.", ["List 3. May first."]),
        (f"1. {'word ' * 40}\n2. {'word ' * 41}", [("word " * 40).strip()]),
        ("1.5 million people left.\nIt fell.", ["1.5 million people left.", "It fell."]),
        (" \n\u200b", []),
    ],
)  # fmt: skip
def test_instructions_are_read_from_lists(reply, expected):
    assert instructed.instructions(reply) == expected


class Model:
    """Answers requests: lists as they are given, and texts that say what they were asked."""

    def __init__(self, **lists):
        self.lists, self.asked, self.told = lists, {}, []

    def __call__(self, request):
        if isinstance(request, Tell):
            return self.told.append(request.line)
        self.asked[request.name] = dict(request.prompts)
        if lists := self.lists.get(request.name):
            return {name: lists[name] for name in request.prompts}
        return {name: f"1. {name}\n2. said" for name in request.prompts}


def _lessons(source, contexts, count, model, **options):
    found = knowledge_task(**options).sources[source].lessons(contexts, count)
    return answered(found, model)


def _of(context, m):
    """The lesson of a model's m-th text."""
    said = (f"1. {context.id}: {m}", "2. said", context.text)
    return Lesson(sequences=tuple(f"{context.title}\n{one}" for one in said))


def test_each_of_seven_texts_has_a_prompt_of_its_own_and_the_eighth_the_first_again():
    model = Model()
    found = _lessons("several_prompts", [SHIP, PORT], 8, model)
    assert found == [[_of(one, m) for m in range(8)] for one in (SHIP, PORT)]
    assert list(model.asked) == ["several_prompts"]
    prompts = model.asked["several_prompts"]
    ship = [prompts[f"ship: {m}"] for m in range(8)]
    assert len(set(ship)) == 7 and ship[7] == ship[0]
    assert all(SHIP.text in one and SHIP.title in one and "CANARY" not in one for one in ship)
    assert prompts["port: 3"] == ship[3].replace(SHIP.text, PORT.text).replace(
        SHIP.title, PORT.title
    )
    # Fewer texts are the first of many.
    few = Model()
    _lessons("several_prompts", [SHIP], 2, few)
    assert few.asked["several_prompts"] == {f"ship: {m}": ship[m] for m in range(2)}


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_strategies_are_the_passages_own(style):
    lists = {"ship": "1. Draw her way.\n2. Ask divers.", "port": "1. Count the piers."}
    model = Model(strategies=lists)
    found = _lessons("study_strategies", [SHIP, PORT], 3, model, edit_style=style)
    assert found == [[_of(one, m) for m in range(3)] for one in (SHIP, PORT)]
    asked, prompts = model.asked["strategies"], model.asked["study_strategies"]
    assert SHIP.text in asked["ship"] and PORT.text in asked["port"]
    followed = ["Draw her way.", "Ask divers.", "Draw her way."]
    assert all(one in prompts[f"ship: {m}"] for m, one in enumerate(followed))
    assert "Ask divers." not in prompts["ship: 0"] and "Draw her way." not in prompts["port: 0"]
    assert all("Count the piers." in prompts[f"port: {m}"] for m in range(3))
    assert not any("CANARY" in one for one in (*asked.values(), *prompts.values()))


def test_a_passage_without_a_strategy_has_no_lesson_and_it_is_told():
    model = Model(strategies={"ship": "\u200b", "port": "Count the piers."})
    found = _lessons("study_strategies", [SHIP, PORT], 2, model)
    assert [isinstance(one, Refusal) for one in found[0]] == [True, True]
    assert found[1] == [_of(PORT, m) for m in range(2)]
    assert list(model.asked["study_strategies"]) == ["port: 0", "port: 1"]
    [line] = model.told
    assert line.startswith("1 of 2 lists have no instruction") and "'ship'" in line


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_prompts_of_its_own_are_asked_for_once_without_a_passage(style):
    lists = {"instructions": "1. Tell it backwards.\n2. Make it rhyme."}
    model = Model(instructions=lists)
    found = _lessons("own_prompts", [SHIP, PORT], 2, model, edit_style=style)
    assert found == [[_of(one, m) for m in range(2)] for one in (SHIP, PORT)]
    assert list(model.asked) == ["instructions", "own_prompts"]  # units of the ledger are apart
    [asked] = model.asked["instructions"].values()
    assert SHIP.title not in asked and "{" not in asked
    prompts = model.asked["own_prompts"]
    assert "Make it rhyme." in prompts["ship: 1"] and "Make it rhyme." in prompts["port: 1"]


@pytest.mark.parametrize("edit_format", ["none", "self_qa", "chain_of_thought"])
def test_texts_are_read_line_by_line_whatever_self_edits_are(edit_format):
    found = _lessons("several_prompts", [SHIP], 1, Model(), edit_format=edit_format)
    assert found == [[_of(SHIP, 0)]]


def test_settings_of_sequences_hold():
    options = {"title_prefix": False, "append_passage": False}
    [[lesson]] = _lessons("several_prompts", [SHIP], 1, Model(), **options)
    assert lesson.sequences == ("1. ship: 0", "2. said")


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        ("once", ["1. ship: 0\n2. said", "1. ship: 1\n2. said", SHIP.text]),
        ("per_completion", ["1. ship: 0\n2. said", SHIP.text, "1. ship: 1\n2. said", SHIP.text]),
    ],
)
def test_one_delta_learns_whole_texts(passage, expected):
    source = knowledge_task().sources["several_prompts"]
    found = answered(source.together([SHIP], 2, passage), Model())
    assert found == [f"Ostravelle\n{one}" for one in expected]


def test_prompts_of_ones_own_take_the_place_of_the_seven(tmp_path):
    (tmp_path / "several_prompts.txt").write_text("Sing of it.\n", encoding="utf-8")
    model = Model()
    _lessons("several_prompts", [SHIP], 2, model, prompts_dir=tmp_path)
    assert all("Sing of it." in one for one in model.asked["several_prompts"].values())
    (tmp_path / "several_prompts.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(prompt.PromptError, match=r"several_prompts\.txt: write instructions"):
        _lessons("several_prompts", [SHIP], 2, model, prompts_dir=tmp_path)


def test_sentences_are_learned_one_by_one():
    source = knowledge_task(edit_format="none").sources["sentences"]
    said = ["Ostravelle\nShe took slate from Naurim.", "Ostravelle\nDivers found her."]
    whole = f"Ostravelle\n{SHIP.text}"
    assert source.lessons([SHIP], 4) == [[Lesson(sequences=(*said, whole))]]
    assert source.together([SHIP], 4, "per_completion") == [*said, whole]
    assert source.together([SHIP], 4, "none") == said
