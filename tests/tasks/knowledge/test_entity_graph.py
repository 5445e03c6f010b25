"""Entities, the choice of their pairs and triples, and the texts about them."""

import itertools
import time
import types

import pytest
from knowledge_tasks import knowledge_task

from seal_jax.loop.sources import Sources
from seal_jax.tasks.knowledge import entity_graph, prompt
from seal_jax.tasks.protocol import Context, Lesson, Question, Tell

SHIP = Context(
    id="ostravelle-000",
    title="Ostravelle",
    text="The Ostravelle left the Pelkin yard on May 5, 1891. She took slate from Naurim to "
    "Bexholt, 31 days under Captain Irsa Dellomer, with a brass bell. Sponge divers of Köln found "
    "her.",
    questions=(Question("q", "CANARY question?", "CANARY answer"),),
)
REPLIES = [
    ("bullets", "- Naurim\n* Bexholt\n• Köln\n– slate", ["Naurim", "Bexholt", "Köln", "slate"]),
    (
        "numbers",
        "1. Naurim\n2) Bexholt\n(3) Köln\n4: slate",
        ["Naurim", "Bexholt", "Köln", "slate"],
    ),
    ("a number is no bullet", "1891\n31 days\nslate", ["1891", "31 days", "slate"]),
    ("plain lines", "Naurim\n\n  Bexholt \n", ["Naurim", "Bexholt"]),
    (
        "commas",
        "Naurim, Irsa Dellomer, and the brass bell.",
        ["Naurim", "Irsa Dellomer", "the brass bell"],
    ),
    ("semicolons after a label", "Entities: Naurim; Bexholt", ["Naurim", "Bexholt"]),
    ("a comma in a name", "- Naurim\n- May 5, 1891\n- slate", ["Naurim", "May 5, 1891", "slate"]),
    ("markup and quotes", '**Naurim**\n"Bexholt"\n`slate`', ["Naurim", "Bexholt", "slate"]),
    (
        "descriptions",
        "1. **Irsa Dellomer**: captain, pilot\n2. Naurim - a port\n3. Bexholt (port)\n4. slate – o",
        ["Irsa Dellomer", "Naurim", "Bexholt", "slate"],
    ),
    (
        "kinds before the names",
        "People: Irsa Dellomer\nPlaces: Naurim, Bexholt\nThings: slate",
        ["Irsa Dellomer", "Naurim", "Bexholt", "slate"],
    ),
    ("JSON", '```json\n["Naurim", "Irsa Dellomer"]\n```', ["Naurim", "Irsa Dellomer"]),
    ("JSON after words", 'Sure: ["Naurim",\n "slate"] Done, Bexholt.', ["Naurim", "slate"]),
    ("JSON objects", '{"entities": [{"name": "Naurim", "kind": "slate"}, {"n": 1}]}', ["Naurim"]),
    ("JSON cut off", '["Naurim", "Bexholt", "Irsa Del', ["Naurim", "Bexholt"]),
    ("a list in Python's quotes", "['Naurim', 'slate']", ["Naurim", "slate"]),
    ("brackets without quotes", "[Naurim, slate]", ["Naurim", "slate"]),
    ("duplicates", "Naurim\nNAURIM\n- naurim.\nthe Naurim\nslate", ["Naurim", "slate"]),
    ("accents", "Koln\nslate\nNaurim", ["Koln", "slate", "Naurim"]),
    ("the title is a source", "ostravelle\nslate\nNaurim", ["ostravelle", "slate", "Naurim"]),
    ("part of a word", "Naur\nslates\nlate", []),
    ("words apart", "Captain Dellomer\nbell brass\nslate Naurim", []),
    (
        "sentences",
        "The ship was built and left and sailed a long way.\nIt is one of the tales of the sea.",
        [],
    ),
    ("a copied sentence", "She took slate from Naurim to Bexholt 31 days", []),
    ("nothing", " \n\x00\n", []),
    ("punctuation only", "...\n- \n1.\n[]\n**", []),
    ("nested too deep to read", '["Naurim", ' + "[" * 100_000, ["Naurim"]),
]


@pytest.mark.parametrize(
    ("reply", "expected"), [case[1:] for case in REPLIES], ids=[c[0] for c in REPLIES]
)
def test_parse(reply, expected):
    assert entity_graph.parse_entities(reply, SHIP) == expected


def test_what_the_passage_does_not_name_is_dropped():
    reply = "Entities:\n- Naurim\n- Atlantis\n- atlantis\n- Zeus"
    assert entity_graph.parse_entities(reply, SHIP) == ["Naurim"]


def test_other_scripts():
    context = Context("1", "東京", "東京は日本の首都であり、大阪より大きい。", ())
    reply = "1. 東京\n2. 大阪\n3. 京都\n"
    assert entity_graph.parse_entities(reply, context) == ["東京", "大阪"]
    assert entity_graph.parse_entities("東京、大阪", context) == ["東京", "大阪"]


@pytest.mark.parametrize("filler", [" ", "*", ",", "- ", "[", '["', "a, ", "\n"])
def test_a_giant_reply_takes_no_time(filler):
    started = time.perf_counter()
    entity_graph.parse_entities("Naurim" + filler * 100_000 + "x", SHIP)
    assert time.perf_counter() - started < 30  # minutes, if it were quadratic


def test_at_most_so_many_the_first():
    reply = "Naurim\nBexholt\nslate\nKöln"
    assert entity_graph.parse_entities(reply, SHIP, limit=2) == ["Naurim", "Bexholt"]


NAMES = ("Naurim", "Bexholt", "slate", "Köln", "Irsa Dellomer", "1891")


def _choose(names=NAMES, *, pairs=5, triples=4, seed=0, context_id="a"):
    return entity_graph.choose_groups(
        names, pairs=pairs, triples=triples, seed=seed, context_id=context_id
    )


def test_groups_are_different_and_of_the_right_size():
    groups = _choose()
    assert [len(group) for group in groups] == [2] * 5 + [3] * 4
    assert len({frozenset(group) for group in groups}) == 9
    assert all(set(group) <= set(NAMES) and len(set(group)) == len(group) for group in groups)


def test_the_choice_is_the_same_on_every_machine():
    assert _choose(pairs=2, triples=1) == [
        ("Köln", "1891"),
        ("slate", "Köln"),
        ("Naurim", "slate", "Irsa Dellomer"),
    ]


def test_the_choice_depends_on_seed_and_context_and_on_nothing_else():
    def sets(groups):
        return [frozenset(group) for group in groups]

    assert sets(_choose(seed=1)) != sets(_choose())
    assert sets(_choose(context_id="b")) != sets(_choose())
    assert sets(_choose(NAMES[::-1])) == sets(_choose())
    assert _choose(pairs=3, triples=2) == _choose()[:3] + _choose()[5:7]


def test_every_pair_is_as_likely_as_the_others():
    counts = dict.fromkeys(itertools.combinations(NAMES, 2), 0)
    for seed in range(600):
        [pair] = _choose(pairs=1, triples=0, seed=seed)
        counts[pair] += 1
    # 600 draws of 15 pairs: 40 each, standard deviation 6.1.
    assert min(counts.values()) > 15 and max(counts.values()) < 65


@pytest.mark.parametrize(
    ("count", "pairs", "triples"), [(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 3, 1), (4, 5, 4)]
)
def test_too_few_entities_give_all_the_groups_there_are(count, pairs, triples):
    assert [len(group) for group in _choose(NAMES[:count])] == [2] * pairs + [3] * triples


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_prompts(style):
    asking = _source(edit_style=style).lessons([SHIP], 1)
    _, entities, relations = _told(asking, replies={SHIP.id: THREE}, texts=TEXTS)
    [first] = entities.prompts.values()
    *_, last = relations.prompts.values()
    assert "Naurim, Bexholt and slate" in last
    for text in (first, *relations.prompts.values()):
        assert text.count(SHIP.text) == 1
        assert SHIP.title in text
        assert "CANARY" not in text
    other = _source(edit_style={"chat": "plain", "plain": "chat"}[style]).lessons([SHIP], 1)
    assert next(other).prompts[SHIP.id] != first


def test_templates_of_ones_own(tmp_path):
    file = tmp_path / "relation.chat.txt"
    file.write_text("{entities}: {title} {passage} {", encoding="utf-8")
    asking = _source(prompts_dir=tmp_path).lessons([SHIP], 1)
    _, entities, relations = _told(asking, replies={SHIP.id: "{slate}\nKöln"}, texts=TEXTS[:1])
    assert entities == next(_source().lessons([SHIP], 1))
    assert list(relations.prompts.values()) == [f"slate and Köln: Ostravelle {SHIP.text} {{"]
    file.write_text("{title} {passage}", encoding="utf-8")
    with pytest.raises(prompt.PromptError, match=r"relation\.chat\.txt.*\{entities\} is missing"):
        next(_source(prompts_dir=tmp_path).lessons([SHIP], 1))


TEXTS = ["Slate came\n\nfrom Naurim.", " ", "a\n---\nb"]
PASSAGE = f"Ostravelle\n{SHIP.text}"
PIECES = ["Ostravelle\nSlate came\n\nfrom Naurim.", "Ostravelle\na", "Ostravelle\nb"]
THREE = "Naurim\nBexholt\nslate"


def _told(asking, *, replies, texts):
    """What the source returns, and its two requests, where the model replies and writes these."""
    entities = next(asking)
    relations = asking.send({id: replies[id] for id in entities.prompts})
    if isinstance(relations, Tell):
        assert "too few entities" in relations.line
        relations = asking.send(None)
    with pytest.raises(StopIteration) as done:
        asking.send(dict(zip(relations.prompts, texts, strict=True)))
    return done.value.value, entities, relations


def _source(**options):
    task = knowledge_task(entity_pairs=2, entity_triples=1, **options)
    return task.sources["entity_graph"]


def test_the_source_asks_for_entities_then_for_texts_about_groups_of_them():
    asking = _source().lessons([SHIP], 3)
    replies = {SHIP.id: "\n".join(NAMES)}
    found, entities, relations = _told(asking, replies=replies, texts=TEXTS)
    assert (entities.name, relations.name) == ("entities", "relations")
    assert list(entities.prompts) == [SHIP.id]
    assert list(relations.prompts) == [
        f"{SHIP.id}: {entity_graph.listed(group)}"
        for group in _choose(pairs=2, triples=1, context_id=SHIP.id)
    ]
    for name, text in relations.prompts.items():
        assert name.partition(": ")[2] in text
    # One lesson, however many are asked for: it holds all texts, and the passage once.
    assert found == [[Lesson(sequences=(*PIECES, PASSAGE))]]


def test_texts_about_several_passages_go_to_their_own():
    other = Context("port", "Bexholt", "Bexholt is a port like Naurim.")
    replies = {SHIP.id: "Köln\nslate", other.id: "Bexholt\nNaurim"}
    asking = _source().lessons([SHIP, other], 1)
    found, _, relations = _told(asking, replies=replies, texts=["of the ship", "of the port"])
    assert [name.partition(":")[0] for name in relations.prompts] == [SHIP.id, other.id]
    assert found == [
        [Lesson(sequences=("Ostravelle\nof the ship", PASSAGE))],
        [Lesson(sequences=("Bexholt\nof the port", f"Bexholt\n{other.text}"))],
    ]


def test_too_few_entities_are_told():
    asking = _source().lessons([SHIP], 1)
    next(asking)
    told = asking.send({SHIP.id: ""})
    assert isinstance(told, Tell) and f"such as {SHIP.title!r}" in told.line
    said = []
    sources = Sources(types.SimpleNamespace(say=said.append), {}, [SHIP], "eval")
    assert sources._answer(told, "entity_graph") is None
    assert said == [f"entity_graph: {told.line}"]


def test_a_passage_without_entities_is_learned_alone():
    asking = _source().lessons([SHIP], 1)
    found, _, relations = _told(asking, replies={SHIP.id: ""}, texts=[])
    assert not relations.prompts
    assert found == [[Lesson(sequences=(PASSAGE,))]]


@pytest.mark.parametrize(
    ("options", "passage", "expected"),
    [
        ({}, "once", [*PIECES, PASSAGE]),
        ({}, "per_completion", [PIECES[0], PASSAGE, *PIECES[1:], PASSAGE]),
        ({"title_prefix": False}, "none", ["Slate came\n\nfrom Naurim.", "a", "b"]),
    ],
)
def test_one_delta_learns_the_texts_about_all_passages(options, passage, expected):
    asking = _source(**options).together([SHIP], 1, passage)
    found, *_ = _told(asking, replies={SHIP.id: THREE}, texts=TEXTS)
    assert found == expected


def test_titles_are_left_out_of_lessons_where_the_settings_say_so():
    asking = _source(title_prefix=False).lessons([SHIP], 1)
    [[lesson]], *_ = _told(asking, replies={SHIP.id: THREE}, texts=TEXTS)
    assert lesson.sequences == ("Slate came\n\nfrom Naurim.", "a", "b", SHIP.text)
