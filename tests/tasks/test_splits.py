"""Which contexts are used for what: literal choices, and what every choice keeps to."""

import random

import pytest

from seal_jax.tasks import splits
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Context, Question
from seal_jax.tasks.splits import DataError


def _contexts(*sizes, questions=1):
    """Articles A0, A1, … of so many passages each."""
    asked = tuple(Question(str(k), "Who?", "Ada") for k in range(questions))
    return [
        Context(id=f"{i}-{j}", title=f"A{i}", text=f"text {i} {j}", questions=asked)
        for i, size in enumerate(sizes)
        for j in range(size)
    ]


def _official(swap=False):
    """2,067 passages with 10,570 questions, of which the chosen 200 have 974 (or 975)."""
    order = list(range(2067))
    random.Random(42).shuffle(order)
    counts = [5] * 2067
    for i in order[:26]:
        counts[i] = 4  # 974 = 200 * 5 - 26
    for i in order[200:435]:
        counts[i] += 1  # 10,570 = 2067 * 5 - 26 + 235 + 26
    for i in order[435:461]:
        counts[i] += 1
    if swap:
        counts[order[0]] += 1
        counts[order[200]] -= 1
    return [_contexts(1, questions=count)[0] for count in counts]


def test_the_paper_split_is_the_shuffle_of_python():
    contexts = _contexts(2067)
    chosen, difference = splits.paper_split(contexts)
    assert len(chosen) == 200
    # random.seed(42); random.shuffle(list(range(2067))), run apart from this code.
    assert [c.id for c in chosen[:8]] == [
        f"0-{i}" for i in (1168, 760, 685, 1193, 1679, 1572, 1257, 522)
    ]
    assert "2067 passages and 2067 questions" in difference
    assert "official development file has 2067 and 10570" in difference
    assert [c.id for c in splits.paper_split(_contexts(10)).contexts] == [
        f"0-{i}" for i in (7, 3, 2, 8, 5, 6, 9, 4, 0, 1)
    ]


def test_the_paper_split_leaves_the_global_state_alone():
    random.seed(3)
    before = random.getstate()
    splits.paper_split(_contexts(300))
    assert random.getstate() == before


def test_a_file_of_the_official_counts_passes_as_the_paper_s():
    contexts = _official()
    chosen, difference = splits.part_of(contexts, "paper")
    assert difference == ""
    assert sum(len(context.questions) for context in chosen) == 974


def test_the_official_counts_in_another_order_are_told():
    found = splits.paper_split(_official(swap=True))
    assert "200 passages have 975 questions, but the paper's have 974" in found.difference


def test_another_file_is_refused_as_the_paper_s_and_taken_as_like_it():
    contexts = _contexts(150, 150)
    with pytest.raises(DataError, match=r"300 passages.*dev-v1\.1\.json.*'like_paper'"):
        splits.part_of(contexts, "paper")
    assert splits.part_of(contexts, "like_paper") == splits.paper_split(contexts)
    assert splits.part_of(contexts, "like_paper").difference


def test_halves_share_no_article_and_lose_no_passage():
    contexts = _contexts(9, 1, 4, 4, 7, 2, 30, 5)
    contexts[0] = Context("x", " a0 ", "other spelling", ())
    for seed in range(20):
        development, test = splits.article_halves(contexts, seed=seed)
        assert not {splits.same_key(c.title) for c in development} & {
            splits.same_key(c.title) for c in test
        }
        assert abs(len(development) - len(test)) <= 30
        for half in (development, test):
            assert half == [context for context in contexts if context in half]
        assert len(development) + len(test) == len(contexts)


def test_halves_depend_on_seed_and_titles_only():
    contexts = _contexts(3, 3, 3, 3, 3, 3, 3, 3)
    development, test = splits.article_halves(contexts)
    # Every other line of: for i in 0 … 7, sha256sum of "0\na$i", sorted.
    assert sorted({c.title for c in development}) == ["A0", "A1", "A5", "A6"]
    assert splits.article_halves(contexts[::-1]) == (development[::-1], test[::-1])
    found = {tuple(c.id for c in splits.article_halves(contexts, seed=s)[0]) for s in range(20)}
    assert len(found) > 10
    assert splits.part_of(contexts, "development").contexts == development
    assert splits.part_of(contexts, "test").contexts == test
    assert splits.part_of(contexts, "all").contexts == contexts


def test_parts_that_cannot_be():
    with pytest.raises(DataError, match="at least 2 articles; found 1"):
        splits.article_halves(_contexts(5))


def test_choices_are_seeded_named_and_grow():
    contexts = _contexts(10)

    def ids(count, **options):
        return [int(c.id[2:]) for c in splits.choose(contexts, count, **options)]

    # numpy.random.default_rng([3, crc32(name)]).permutation(10), and without the 3.
    assert ids(10, seed=3, name="training contexts") == [7, 0, 2, 5, 1, 9, 4, 8, 6, 3]
    assert ids(10, seed=None, name="evaluation contexts") == [4, 7, 5, 6, 2, 1, 3, 0, 9, 8]
    assert ids(4, seed=3, name="training contexts") == [7, 0, 2, 5]
    assert ids(10, seed=4, name="training contexts") != ids(10, seed=3, name="training contexts")
    assert ids(0, seed=3, name="x") == []
    for count in (11, -1):
        with pytest.raises(DataError, match=f"x: {count} contexts are wanted, but there are 10"):
            splits.choose(contexts, count, seed=0, name="x")


def test_rounds_share_no_context_and_further_ones_change_none():
    contexts = _contexts(10)
    found = splits.rounds(contexts, count=3, rounds=3, seed=3)
    assert [[int(c.id[2:]) for c in chosen] for chosen in found] == [
        [7, 0, 2],
        [5, 1, 9],
        [4, 8, 6],
    ]
    assert splits.rounds(contexts, count=3, rounds=2, seed=3) == found[:2]
    with pytest.raises(DataError, match="12 contexts are wanted, but there are 10"):
        splits.rounds(contexts, count=3, rounds=4, seed=3)


def _context(title, text):
    return Context(id=f"{title}/{text}", title=title, text=text, questions=())


def test_disjoint_splits_pass():
    splits.check_disjoint([_context("Rome", "a"), _context("Oslo", "b")], [_context("Bonn", "c")])


@pytest.mark.parametrize("title", ["Rome", "ROME", " rome ", "Ｒｏｍｅ"])
def test_shared_article_is_refused(title):
    with pytest.raises(DataError, match=r"share 1 article\(s\)"):
        splits.check_disjoint(
            [_context("Rome", "a")], [_context("Oslo", "b"), _context(title, "c")]
        )


def test_titles_that_differ_in_underscores_are_one_article():
    with pytest.raises(DataError, match="'Old_Rome'"):
        splits.check_disjoint([_context("Old Rome", "a")], [_context("Old_Rome", "b")])


def test_shared_passage_under_another_title_is_refused():
    with pytest.raises(DataError, match=r"Oslo/Rome  FELL.*Rome/Rome fell"):
        splits.check_disjoint([_context("Rome", "Rome fell")], [_context("Oslo", "Rome  FELL")])


def test_many_shared_articles_are_counted():
    contexts = [_context(f"T{i}", f"{i}") for i in range(8)]
    with pytest.raises(DataError, match=r"share 8 article\(s\): 'T0'.*'T4' and 3 more"):
        splits.check_disjoint(contexts, contexts)


def test_real_files(shared_data):
    contexts, _ = squad.load(shared_data / "squad" / "squad-v1.1-validation.json")
    development, test = splits.article_halves(contexts)
    assert (len(development), len(test)) == (269, 265)
    assert len({c.title for c in development}) == 5
    with pytest.raises(DataError, match="534 passages and 2600 questions"):
        splits.part_of(contexts, "paper")
