"""What a run shares between its stages, and what it shows of them."""

import types

import numpy as np
import pytest

from seal_jax.core import batching, restem
from seal_jax.judges.endpoint import EndpointError
from seal_jax.judges.graders import EndpointGrader, LocalGrader, judge_prompt
from seal_jax.loop import attempt, inner_loop, preflight, sample, select
from seal_jax.loop.run import Run
from seal_jax.loop.session import EncodedLesson
from seal_jax.loop.stage import Stage
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Reward, SettingsError
from seal_jax.settings.endpoint import EndpointSettings
from seal_jax.tasks.protocol import Answered


@pytest.fixture
def run(without_model, tiny_settings, change, tmp_path):
    """(changes of the settings) -> a run without a model, one candidate at once."""
    opened = []

    def make(changes):
        session = without_model(change(tiny_settings, {"inner.candidates": 1, **changes}))
        opened.append(Ledger(tmp_path / "ledger"))
        return Run(session, opened[0], tmp_path / "checkpoints", quiet=False)

    yield make
    for records in opened:
        records.close()


def test_a_run_keeps_the_last_thing_asked_for_by_identity(run):
    kept = run({})
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    first, second = [1], [2]
    assert [kept.keep_one((first,), make) for _ in range(2)] == [0, 0]
    assert kept.keep_one((first, second), make) == 1
    assert kept.keep_one((first,), make) == 2, "one thing is kept, not two"
    assert kept.keep_one(([1],), make) == 3, "an equal object is another one"
    assert made == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "kind, shown",
    [("accuracy", "reward 0.5"), ("gold_log_likelihood", "reward -3"), ("length", "")],
)
def test_the_reward_so_far_is_shown(run, monkeypatch, capsys, kind, shown):
    """Of two adapted models; the first answers both of its questions, at -2 nats each."""
    tokens = batching.TokenCounts(real=1, computed=1)
    monkeypatch.setattr(
        inner_loop, "train", lambda *_, **__: types.SimpleNamespace(tokens=tokens, results_K=None)
    )

    def examine(session, params, piece, *_):
        [one] = piece
        questions = one.context.questions
        return [
            {
                **one.describe(),
                "reason": None,
                "texts": {q.id: "wrong" if one.index else q.answer for q in questions},
                "gold_log_likelihoods": {q.id: -2.0 * (one.index + 1) for q in questions},
            }
        ]

    monkeypatch.setattr(attempt, "_examine", examine)
    making = run({"reward": Reward(kind=kind, replicates=1)})
    # One self-edit sampled twice: each has a record of its own.
    lesson = EncodedLesson(sequences=((1, 2, 3),), loss_masks=(None,), learning_rate=1.0, epochs=1)
    context = making.session.task.contexts("eval")[0]
    tried = [
        attempt.Candidate(context=context, index=i, replicate=0, lesson=lesson) for i in (0, 1)
    ]
    policy = types.SimpleNamespace(digest=(), params=None)
    attempt.attempt(making, policy, tried, stage=Stage(kind="round", round=1), width=8)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "round 1: adapt: 2/2" in x]
    assert line.endswith(shown) and ("reward" in line) == bool(shown)


def test_the_same_answers_are_marked_once(run, monkeypatch):
    """Also after the ledger has sorted their keys."""
    asked, plain = [], LocalGrader.grade
    monkeypatch.setattr(
        LocalGrader, "grade", lambda self, of: (asked.append(len(of)), plain(self, of))[1]
    )
    making = run({})
    context, stage = making.session.task.contexts("eval")[0], Stage(kind="round", round=1)
    first, second = (question.id for question in context.questions)
    for key, ids in (("one", (first, second)), ("other", (second, first))):
        said = {"texts": dict.fromkeys(ids, "red"), "gold_log_likelihoods": {first: -1, second: -3}}
        [found] = attempt.mark(making, key, [(context, said)], stage)
        assert [answer["question"] for answer in found["answers"]] == [first, second]
        assert found["scores"] == {"accuracy": 0.0, "gold_log_likelihood": -2.0}
    assert asked == [2]
    assert [s.key for s in making.ledger.segments("marks")] == ["one", "other"]


def test_a_selection_that_knows_no_reward_says_none(run, capsys):
    making = run({})
    prompts = [sample.Prompt("a", [1, 2])]
    edits = [[sample.Edit(context="a", index=i, tokens=[3], text="x" * (i + 1), stopped=True)
              for i in range(2)]]  # fmt: skip
    weights, summary = select.select(
        making,
        prompts,
        edits,
        np.zeros((1, 2)),
        None,
        restem.SelectionRule("longest"),
        update="restem",
        stage=Stage(kind="round", round=1, line="longest"),
        rewarded=False,
    )
    assert weights == [[0, 1]] and summary["kept"] == 1
    assert summary["mean_reward"] is summary["mean_kept_reward"] is None
    printed = capsys.readouterr().out
    assert "longest round 1: no self-edit has a reward; 1 are kept" in printed
    assert "0.000" not in printed
    assert making.ledger.find("selection", "longest round 1")["rewards"] == [[None, None]]


@pytest.mark.fault("8")
@pytest.mark.parametrize(
    "reply, message",
    [
        ((500, ""), "no verdict on a first answer, the gold one to 'eval-0-0': the judge did not "
                    "reply: status 500"),
        ("I would rather not say.", "neither yes nor no: 'I would rather not say.'"),
        ("<think>Red is", "it ends in its thoughts"),
        ((401, "no key"), "cannot complete anything"),
    ],
)  # fmt: skip
def test_an_endpoint_that_cannot_judge_is_refused(run, endpoint_server, reply, message):
    making = run({"reward": Reward(kind="accuracy", replicates=1)})
    endpoint = EndpointSettings(base_url=endpoint_server.url, model="j", attempts=1)
    object.__setattr__(making.session, "grader", EndpointGrader(endpoint))
    context = making.session.task.contexts("eval")[0]
    [prompt] = _judged(making.session.grader, context)
    endpoint_server.script[prompt] = [reply]
    with pytest.raises((SettingsError, EndpointError), match=message):
        preflight.ask_judge(making, context)
    assert endpoint_server.prompts() == [prompt]
    endpoint_server.script[prompt] = ["Yes"]
    preflight.ask_judge(making, context)


def _judged(grader, context):
    """What the judge is asked about the gold answer to the first question."""
    question = context.questions[0]
    query = f"Topic: {context.title}\nQuestion: {question.text}\nAnswer:"
    answer = Answered(query, question.text, question.answer, question.answer)
    return [judge_prompt(grader.template, answer)]


@pytest.mark.fault("8")
def test_a_reward_without_verdicts_needs_no_judge(run, endpoint_server, capsys):
    making = run({})
    endpoint = EndpointSettings(base_url=endpoint_server.url, model="j", attempts=1)
    object.__setattr__(making.session, "grader", EndpointGrader(endpoint))
    preflight.ask_judge(making, making.session.task.contexts("eval")[0])
    assert "The reward does not need one, so the run goes on." in capsys.readouterr().out
