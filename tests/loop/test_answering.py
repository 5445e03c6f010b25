"""Draws and means of answers: by what is asked alone, and without what nobody can know."""

import dataclasses
import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from seal_jax.core import evaluate, sampling
from seal_jax.loop import answering, attempt, rewards, sample
from seal_jax.loop.attempt import Candidate
from seal_jax.loop.session import EncodedExam
from seal_jax.settings import Answers, Settings
from seal_jax.tasks.base import Task
from seal_jax.tasks.generated import Said
from seal_jax.tasks.protocol import Asked, Context, Exam, Question, Refusal, Scored, Verdict


def _session(**answers):
    """Of a model whose answer is the number of its row's key."""
    return SimpleNamespace(
        settings=Settings(answers=Answers(**answers)),
        model=None,
        stop_ids=(0,),
        devices=SimpleNamespace(shard=lambda tree: tree),
        read=lambda tokens, prompt, stopped: Said(str(tokens[0])),
    )


@pytest.fixture(autouse=True)
def answers_are_keys(monkeypatch):
    def answers(static, params, deltas, prompts, lengths, keys, automaton):
        numbers = jax.random.key_data(keys)[..., -1].reshape(-1, 1)
        ones = np.ones(len(numbers), np.int32)
        return sampling.Samples(tokens_BxN=numbers, lengths_B=ones, stopped_B=ones > 0)

    def likelihoods(config, params, deltas, queries):
        return -np.float32(queries.tokens_QxT[..., 0])

    monkeypatch.setattr(evaluate, "answers_of_candidates", answers)
    monkeypatch.setattr(evaluate, "gold_log_likelihoods_of_candidates", likelihoods)


def _exam(*ids, golds=()):
    prompts = tuple((i + 1,) for i in range(len(ids)))
    exam = Exam(
        tuple(Asked(id=id, question=id, prompt=id) for id in ids),
        tuple(
            Scored(question=id, prompt=id, gold=gold) for id, gold in zip(ids, golds, strict=False)
        ),
    )
    return EncodedExam(exam, prompts, tuple((prompt, (9,)) for prompt in prompts[: len(golds)]), 0)


def _ask(exams, draws, *, count=4, **answers):
    session = _session(temperature=0.7, **answers)
    said = answering.ask(session, None, None, exams, count=count, width=4, draws=draws)
    return [one["texts"] for one in said]


@pytest.mark.fault("13")
def test_an_answer_is_drawn_by_what_is_asked_alone():
    """Not by how many are asked at once, by its neighbours, by K or by its model's place."""
    exams, draws = [_exam("a", "b", "c", "d", "e"), _exam("b", "a")], [("x", 1), ("y", 0)]
    plain = _ask(exams, draws)
    assert len({text for of in plain for text in of.values()}) == 7
    for size, count in itertools.product((1, 2, 3, 8), (2, 3, 8)):
        assert _ask(exams, draws, count=count, questions_at_once=size) == plain
    assert _ask(exams[::-1], draws[::-1]) == plain[::-1]
    assert _ask([_exam("c")], draws[:1]) == [{"c": plain[0]["c"]}]


@pytest.mark.fault("13")
def test_another_context_round_or_replicate_is_another_draw(monkeypatch):
    """Two self-edits about a context share theirs, as they share the initial delta."""
    seen = []

    def ask(*_, draws, **__):
        seen.extend(draws)
        return [{"texts": {}, "gold_log_likelihoods": {}}] * len(draws)

    monkeypatch.setattr(answering, "ask", ask)
    session = SimpleNamespace(exam=lambda context, view: None)
    nothing = Refusal("", invalid=False)
    pieces = [
        Candidate(context=Context(id, "", ""), index=index, replicate=replicate, lesson=nothing)
        for id, index, replicate in itertools.product(("a", "b"), (0, 1), (0, 1))
    ]
    monkeypatch.setattr(Candidate, "describe", lambda self: {})
    one = np.ones((8, 1))
    results = SimpleNamespace(losses_S=one, taken_S=one > 0, finite=one[:, 0])
    monkeypatch.setattr(jax, "device_get", lambda tree: tree)
    trained = SimpleNamespace(results_K=results, deltas_K=None)
    for draw in ("round 1", "round 2"):
        attempt._examine(session, None, pieces, trained, 8, 4, draw, ())
    of = [
        (draw, one.context.id, one.replicate)
        for draw, one in itertools.product(("round 1", "round 2"), pieces)
    ]
    assert len(set(of)) == 8
    for (a, name_a), (b, name_b) in itertools.combinations(zip(of, seen, strict=True), 2):
        assert (a == b) == (name_a == name_b)


@pytest.mark.fault("13", control=True)
def test_a_self_edit_is_drawn_by_its_context_and_its_number(monkeypatch):
    """Not by how many contexts are sampled together, by its neighbours or by how many samples."""

    def generate(static, params, prompts, lengths, keys, *, samples_per_prompt, automaton):
        numbers = jax.random.key_data(keys)[..., -1].reshape(-1, 1)
        ones = np.ones(len(numbers), np.int32)
        return sampling.Samples(tokens_BxN=numbers, lengths_B=ones, stopped_B=ones > 0)

    monkeypatch.setattr(sampling, "generate_jit", generate)
    session, prompts = _session(), [sample.Prompt(id, [1, 2]) for id in "abcde"]

    def texts(prompts, at_once, samples):
        found = {}
        for first in range(0, len(prompts), at_once):
            of, how = prompts[first : first + at_once], {"samples": samples, "automaton": None}
            for edit in sample._sample(session, None, of, at_once=at_once, draw="x", **how):
                found[edit.context, edit.index] = edit.text
        return found

    plain = texts(prompts, 5, 4)
    assert len(set(plain.values())) == 20
    for at_once, samples in itertools.product((1, 2, 3, 8), (1, 3, 4)):
        found = texts(prompts[::-1], at_once, samples)
        assert found == {key: plain[key] for key in found} and len(found) == 5 * samples


def test_greedy_answers_need_no_keys(monkeypatch):
    named = []

    def keys_for(seed, names):
        named.extend(names)
        return jax.random.split(jax.random.key(0), len(names))

    monkeypatch.setattr(answering, "keys_for", keys_for)
    session = _session(temperature=0.0, questions_at_once=2)
    exams = [_exam("a", "b", "c")]
    answering.ask(session, None, None, exams, count=2, width=4, draws=[("x",)])
    assert set(named) == {("padding",)}


class Wrong:
    """Holds every answer for wrong, and remembers what it was asked."""

    name = "wrong"

    def grade(self, answers):
        assert all(answer.gold for answer in answers)
        return [Verdict(correct=False, empty=False) for _ in answers]


@pytest.mark.fault("11")
@pytest.mark.parametrize("gold", ["", " \t"])
def test_without_a_gold_answer_there_is_neither_a_verdict_nor_a_likelihood(gold):
    """And means leave it out."""
    questions = (Question("a", "?", "that"), Question("b", "?", gold), Question("c", "?", "this"))
    context, exam = Context("id", "", "", questions), _exam("a", "b", "c", golds=("x", gold, "y"))
    [said] = answering.ask(
        _session(questions_at_once=2), None, None, [exam], count=1, width=4, draws=[("x",)]
    )
    assert said["gold_log_likelihoods"] == {"a": -1.0, "c": -3.0}
    [mark] = Task(Settings()).mark([(context, exam.exam, said["texts"])], Wrong())
    marked = rewards.with_likelihoods(dataclasses.asdict(mark), said["gold_log_likelihoods"])
    assert [one["correct"] for one in marked["answers"]] == [False, None, False]
    assert [one["gold_log_likelihood"] for one in marked["answers"]] == [-1.0, None, -3.0]
    assert marked["answers"][1]["ungraded"] == "the question has no gold answer"
    assert marked["scores"] == {"accuracy": 0.0, "gold_log_likelihood": -2.0}
    assert not mark.retry


@pytest.mark.fault("11")
def test_of_no_gold_answer_at_all_no_score_is_known():
    context = Context("id", "", "", (Question("a", "?", ""),))
    exam = _exam("a", golds=("",))
    [mark] = Task(Settings()).mark([(context, exam.exam, {"a": "yes"})], Wrong())
    marked = rewards.with_likelihoods(dataclasses.asdict(mark), {})
    assert marked["scores"] == {"accuracy": None, "gold_log_likelihood": None}
