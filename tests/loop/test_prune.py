"""The rule that trains on helpful lines: by hand, and planted lines that become rarer."""

import dataclasses

import numpy as np
import pytest

from seal_jax.loop import answering, inner_loop, prune, run, sample, train
from seal_jax.loop.job import run_job
from seal_jax.loop.stage import Stage
from seal_jax.runs import ledger, run_dir
from seal_jax.settings import Reward, SettingsError, config_dict
from seal_jax.tasks import registry

ROUND = Stage(kind="round", round=1)
HELPS, HARMS = ("the red tower", "a red mill"), ("old snow", "no river")
ANSWERS = "answer 0 answer 1 answer 0 answer 1 answer 0 answer 1"


def edit_of(session, context, index, text, **changes):
    tokens = [*session.continued(text), *session.stop_ids[:1]]
    one = sample.Edit(context=context.id, index=index, tokens=tokens, text=text, stopped=True)
    return dataclasses.replace(one, **changes)


@pytest.fixture
def opened(without_model, tiny_settings, change, tmp_path):
    """(restem.lines) -> a run without a model whose tokenizer's end stops a text."""
    records = []

    def make(lines):
        session = without_model(change(tiny_settings, {"restem.lines": lines}))
        session = dataclasses.replace(session, stop_ids=(session.tokenizer.eos_token_id,))
        records.append(ledger.Ledger(tmp_path / lines))
        return run.Run(session, records[-1], tmp_path / "checkpoints", quiet=False)

    yield make
    for one in records:
        one.close()


def by_length(contexts, texts, stage):
    """A planted reward that adds up: lines are worth their number; NaN without line 3."""
    assert stage == Stage(kind="lines", round=1, what="round 1")
    worth = [[sum(int(line[0]) - 2 for line in text.split("\n")) for text in of] for of in texts]
    known = [["3" in text for text in of] for of in texts]
    return np.where(known, worth, np.nan)


def test_lines_that_can_be_left_out(tiny_settings):
    task = registry.open_task(tiny_settings)
    context = task.contexts("train")[0]
    found = prune.without_each(task, context, "Here it is:\n1. Red.\n\n2. Old.\n3. Tall.")
    # Without its first item the heading would become a sequence, and it is none itself.
    assert found == {
        3: "Here it is:\n1. Red.\n\n3. Tall.",
        4: "Here it is:\n1. Red.\n\n2. Old.",
    }
    assert prune.without_each(task, context, "Alone.") == {}, "something is left to learn"
    assert prune.without_each(task, context, " \n") == {}


def test_a_list_is_numbered_anew():
    text = "A list:\n1. Red.\n2. Old, in 1. Of May.\n\n3. Tall."
    assert prune.shortened(text, [1]) == "A list:\n1. Old, in 1. Of May.\n\n2. Tall."
    assert prune.shortened("1937. a\n1938. b", [0]) == "1938. b", "no list that counts from 1"


def test_a_question_stays_with_its_answer(tiny_settings, change):
    task = registry.open_task(change(tiny_settings, {"prompts.edit_format": "self_qa"}))
    context = task.contexts("train")[0]
    text = "Question 1: Who?\nAnswer: Ada.\n\nQuestion 2: Where?\nAnswer: Rome."
    assert prune.without_each(task, context, text) == {}


def test_kept_self_edits_lose_the_lines_that_harm(opened, capsys):
    """Line n is worth n - 2: "1" harms and "2" adds nothing. The second is not kept."""
    making = opened("helpful")
    session = making.session
    contexts = session.task.contexts("train")[:2]
    texts = [["1 a\n3 b\n2 c", "1 a\n3 b"], ["3 a\n4 b", "1 a\n1 b"]]
    edits = [
        [edit_of(session, c, m, text) for m, text in enumerate(of)]
        for c, of in zip(contexts, texts, strict=True)
    ]
    edits[1][1] = dataclasses.replace(edits[1][1], thoughts="Hm.")
    weights = [[1.0, 0.0], [0.5, 0.5]]
    rewards = np.array([[0.0, 0.0], [3.0, -2.0]])
    found, figures = prune.prune(making, contexts, edits, rewards, weights, by_length, stage=ROUND)
    assert found[0][0].text == "3 b"
    assert found[0][0].tokens == [*session.tokenizer("3 b")["input_ids"], *session.stop_ids]
    assert found[0][1] is edits[0][1] and found[1][1] is edits[1][1]
    # What is left without "3 a" has no reward: it stays, and nothing is known of it.
    assert found[1][0] == edits[1][0]
    assert figures == {"lines": 5, "lines_left_out": 2}
    assert "2 of 5 lines" in capsys.readouterr().out
    record = making.ledger.find("pruned", "round 1")["of"]
    assert record[0] == {
        "place": [0, 0],
        "credits": [[0, -1.0], [1, None], [2, 0.0]],
        "left_out": [0, 2],
    }
    assert record[1] == {"place": [1, 0], "credits": [[0, None], [1, 2.0]], "left_out": []}


def test_random_credits_leave_out_as_many_lines(opened):
    making = opened("random")
    session = making.session
    contexts = session.task.contexts("train")[:8]
    text = "3 a\n4 b\n1 c\n1 d"
    edits = [[edit_of(session, c, 0, text)] for c in contexts]

    def worth(contexts, texts, stage):
        return np.array([[sum(int(line[0]) - 2 for line in t.split("\n"))] for [t] in texts], float)

    whole = np.full((8, 1), 1.0)
    found, figures = prune.prune(making, contexts, edits, whole, [[1.0]] * 8, worth, stage=ROUND)
    assert figures == {"lines": 32, "lines_left_out": 16}
    left = [of.text.split("\n") for [of] in found]
    assert all(len(of) == 2 for of in left)
    assert 4 <= sum("c" in line or "d" in line for of in left for line in of) <= 12
    assert len({tuple(of) for of in left}) > 2


def test_what_lines_cannot_be_left_out_of_is_refused(tiny_settings, change):
    with pytest.raises(ValueError, match="learns self-edits as they were sampled"):
        change(tiny_settings, {"restem.lines": "helpful", "restem.update": "rloo"})
    settings = change(tiny_settings, {"restem.lines": "helpful", "edits.directives": ("epochs",)})
    with pytest.raises(SettingsError, match="held to a grammar"):
        run_job(settings, "/nowhere", None, quiet=True)


def planted(settings, workdir, texts, work):
    """Results of `work` in a run that has these self-edits in round 1: texts [C][M]."""
    contexts = registry.open_task(settings).contexts("train")
    with (
        run_dir.open_run(str(workdir), config_dict.recorded(settings)) as directory,
        ledger.Ledger(directory.ledger_path) as records,
    ):
        chosen = contexts[: settings.restem.contexts_per_round]
        edits = [
            {"context": c.id, "index": m, "tokens": [5], "text": text, "stopped": True}
            for c, of in zip(chosen, texts, strict=True)
            for m, text in enumerate(of)
        ]
        size = settings.edits.contexts_per_batch * settings.edits.samples
        for number, first in enumerate(range(0, len(edits), size)):
            record = {"edits": edits[first : first + size], "stage": ROUND.record()}
            records.append("edits", f"round 1/{number}", record)
    return run_job(settings, str(workdir), lambda of: work(of, chosen), quiet=True)


@pytest.mark.parametrize("lines, rarer", [("helpful", True), ("random", False)])
def test_planted_harmful_lines_become_rarer_unless_credits_are_random(
    lines, rarer, tiny_settings, change, tmp_path
):
    """The reward is the share of characters in lines about red things: half of those written.

    Measured is by how many nats lines are likelier to begin a self-edit about another passage after
    the M-step than before.
    """
    settings = change(
        tiny_settings,
        {
            "reward": Reward(kind="pattern", pattern="(?m)^.*red.*$", replicates=1),
            "answers.max_gold_tokens": 16,
            "edits.contexts_per_batch": 4,
            "restem.contexts_per_round": 4,
            "restem.rule": "all",
            "restem.lines": lines,
            "restem.sft.epochs": 10,
            "restem.sft.learning_rate": 2e-2,
        },
    )
    random = np.random.default_rng(0)
    texts = [["\n".join(random.permutation(HELPS + HARMS)) for _ in range(4)] for _ in range(4)]

    def work(of, contexts):
        policy, [summary] = train.restem_rounds(of, [contexts])
        session = of.session
        begins = [session.continued(line) for line in HELPS + HARMS]
        prompts = sample.edit_prompts(session, session.task.contexts("eval"))
        found = [
            answering.gold_log_likelihoods(
                session,
                params,
                None,
                [[prompt.tokens] * 4 for prompt in prompts],
                [begins] * len(prompts),
                count=len(prompts),
                width=384,
            )
            for params in (session.base, policy.params)
        ]
        before, after = (np.mean(of, axis=0) for of in found)
        return summary | {"gained": (after - before).tolist()}

    found = planted(settings, tmp_path / "run", texts, work)
    assert found["lines"] == 4 * 16 and found["lines_left_out"] == 2 * 16
    helpful, harmful = np.split(np.array(found["gained"]), [len(HELPS)])
    assert helpful.min() > 20, "it has learned to write them"
    assert harmful.mean() < 0 if rarer else harmful.min() > 10


def test_credits_are_of_inner_loops_from_the_rounds_own_deltas(
    tiny_settings, change, squad_file, tmp_path, monkeypatch
):
    settings = change(
        tiny_settings,
        {
            "data.train_path": squad_file("train", 8, 4),
            "data.max_questions": 4,
            "inner.learning_rate": 1e-2,
            "inner.max_sequences": 5,
            "restem.lines": "helpful",
            "restem.rule": "all",
        },
    )
    inits, plain = [], inner_loop.train

    def watched(session, params, lessons, names, **how):
        inits.append((how["order"], names))
        return plain(session, params, lessons, names, **how)

    monkeypatch.setattr(inner_loop, "train", watched)
    texts = [
        [f"It lies by a hill.\n{ANSWERS}\nNobody has seen it.", *[f"{m}" for m in range(3)]]
    ] * 2

    def work(of, contexts):
        train.restem_rounds(of, [contexts])
        with_credit = of.ledger.find("pruned", "round 1")["of"]
        return {"of": with_credit, "rewards": of.ledger.find("selection", "round 1")["rewards"]}

    found = planted(settings, tmp_path / "run", texts, work)
    assert {order for order, _ in inits} == {("round 1", 0)}
    assert {name[:2] for _, names in inits for name in names} == {("init", "round 1")}
    first = [one for one in found["of"] if one["place"][1] == 0]
    for one in first:
        credits = dict(one["credits"])
        assert credits[1] == max(credits.values()) > 0.1
        assert 1 not in one["left_out"]
    with ledger.Ledger(tmp_path / "run" / "ledger", read_only=True) as records:
        [tried] = [s.record for s in records.segments("trials") if s.key.startswith("lines")]
        [marks] = [s.record for s in records.segments("marks") if "lines" in s.key]
    rests = [np.mean(list(trial["gold_log_likelihoods"].values())) for trial in tried["trials"]]
    assert len(rests) == len(marks["marks"]) == 6
    expected = {round(found["rewards"][c][0] - rest, 9) for c in range(2) for rest in rests}
    assert {round(v, 9) for one in first for _, v in one["credits"]} <= expected
