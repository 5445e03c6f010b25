"""Run directories made by the real writers, with invented passages, grids and answers."""

import dataclasses
import json

import numpy as np

from seal_jax.loop import arms, results
from seal_jax.loop.results import Outcome
from seal_jax.loop.stage import Stage
from seal_jax.runs import ledger, run_dir
from seal_jax.settings import Answers, Continual, Data, Edits, FewShot, Reward, Settings
from seal_jax.stats.intervals import mean
from seal_jax.tasks import registry

_WORDS = (
    "harbour lantern valley copper river guild winter bridge orchard comet ledger mill tower "
    "granite ferry meadow signal archive canal beacon"
).split()


def _words(rng, count):
    return " ".join(rng.choice(_WORDS, count)).capitalize() + "."


def squad_file(path, name, contexts, questions=2, words=90, title=None):
    """A file in SQuAD's form; each answer is a word of its passage."""
    rng = np.random.default_rng([len(name), contexts])
    articles = []
    for c in range(contexts):
        text = " ".join(_words(rng, words // 6) for _ in range(6))
        asked = []
        for q in range(questions):
            gold = text.split()[q + 1].strip(".")
            answer = {"text": gold, "answer_start": text.index(gold)}
            question = f"What of {name} {c} comes at place {q}?"
            asked.append({"id": f"{name}-{c}-{q}", "question": question, "answers": [answer]})
        paragraph = {"context": text, "qas": asked}
        articles.append({"title": title or f"{name} article {c}", "paragraphs": [paragraph]})
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return str(path)


class Recorder:
    """Writes a ledger's records as the loop does: what was tried and how it was marked apart."""

    def __init__(self, records):
        self._records = records

    def add(self, kind, record, stage, number=None):
        """Adds a record of a stage, under a number where it has several of a kind."""
        key = stage.name if number is None else f"{stage}/{number}"
        self.add_under(key, kind, record, stage)

    def add_under(self, key, kind, record, stage):
        """Adds a record of a stage under another key."""
        self._records.append(kind, key, record | {"stage": stage.record()})

    def answers(self, of, stage, number=0):
        """Adds answers {context id: {"answers", "scores"}}, with their marks."""
        said = [{"context": id} | _said(one) for id, one in of.items()]
        self.add("answers", {"of": said}, stage, number)
        self._marks(f"answers {stage}/{number}", of.values(), stage)

    def trials(self, trials, stage, number=0, *, tokens=(90, 120), marked=True):
        """Adds a group of trials with "answers" and "scores", and their marks."""
        without = [
            {k: v for k, v in one.items() if k not in ("answers", "scores")} | _said(one)
            for one in trials
        ]
        real, computed = tokens
        group = {"trials": without, "real_tokens": real, "computed_tokens": computed}
        self.add("trials", group, stage, number)
        if marked:
            whole = [one for one in trials if one["reason"] is None]
            self._marks(f"trials {stage}/{number}", whole, stage)

    def _marks(self, key, of, stage):
        marks = [
            {
                "answers": [_without(a, "gold_log_likelihood") for a in one["answers"]],
                "scores": _without(one["scores"], "gold_log_likelihood"),
            }
            for one in of
        ]
        self.add_under(key, "marks", {"marks": marks}, stage)


def _without(record, key):
    return {k: v for k, v in record.items() if k != key}


def _said(one):
    answers = one["answers"]
    return {
        "texts": {a["question"]: a.get("text", "") for a in answers},
        "gold_log_likelihoods": {a["question"]: a["gold_log_likelihood"] for a in answers},
    }


def marked(answers, **scores):
    """Answers with their scores: accuracy, unless others are given, and the likelihood."""
    scores = scores or {"accuracy": mean(a["correct"] for a in answers)}
    known = [a["gold_log_likelihood"] for a in answers]
    own = None if None in known or not known else mean(known)
    return {"answers": answers, "scores": scores | {"gold_log_likelihood": own}}


def knowledge(
    folder, *, contexts=3, edits=2, replicates=1, questions=2, finished=True, rounds=1,
    edit_text=None, title=None, batches=None, changes=None, marks=True, directives=(),
):  # fmt: skip
    """A run of knowledge incorporation: rounds, then the arms base and edit_before.

    Args:
      edit_text: (context, edit) -> a self-edit, instead of invented lines.
      batches: how many of a round's planned batches are there; the run then ends with them.
      changes: keys of results.json to add or replace.
      marks: whether the last of the batches is marked.
      directives: what the self-edits of rounds say of their update.
    """
    data = Data(
        train_path=squad_file(folder.parent / f"{folder.name}-train.json", "train",
                              contexts * rounds, questions, title=title),
        eval_path=squad_file(folder.parent / f"{folder.name}-eval.json", "held out", 2, questions),
    )  # fmt: skip
    settings = Settings(
        data=data,
        reward=Reward(kind="accuracy", replicates=replicates),
        edits=Edits(directives=directives),
        continual=Continual(bounds=()),
    )
    task = registry.open_task(settings)
    rng = np.random.default_rng(0)
    head = '{"learning_rate": 1e-3, "epochs": 4}' if directives else ""

    def edit(c, m):
        if edit_text:
            return edit_text(c, m)
        lines = [f"{i}. {_words(rng, 12)}" for i in range(1, 9)]
        return "\n".join([head, *lines] if head else lines)

    def answers(context, gain=0.0):
        return marked([
            {
                "question": question.id,
                "text": _words(rng, 5),
                "correct": bool(rng.random() < 0.3 + gain),
                "empty": False,
                "gold_log_likelihood": float(rng.normal() - 5 + gain),
                "ungraded": None,
            }
            for question in context.questions
        ])  # fmt: skip

    def trial(context, m, r, gain):
        return {
            "context": context.id, "index": m, "replicate": r, **answers(context, gain),
            "reason": None, "first_loss": 2.5, "last_loss": 0.5, "steps": 9, "sequences": 9,
            "dropped_sequences": 0, "dropped_tokens": 0, "head": head, "trained_tokens": 100,
        }  # fmt: skip

    train, held_out = task.contexts("train"), task.contexts("eval")
    with run_dir.open_run(folder, dataclasses.asdict(settings)) as directory:
        with ledger.Ledger(directory.ledger_path) as ledger_:
            records = Recorder(ledger_)
            for n in range(1, rounds + 1):
                stage = Stage(kind="round", round=n)
                own = train[(n - 1) * contexts : n * contexts]
                records.add("edits", {"edits": [
                    {"context": context.id, "index": m, "text": edit(c, m), "tokens": [1, 2],
                     "stopped": m > 0}
                    for c, context in enumerate(own) for m in range(edits)
                ]}, stage, 0)  # fmt: skip
                records.answers({context.id: answers(context) for context in own}, stage)
                records.add("plan", {"groups": [[c] for c in range(contexts)]}, stage)
                rewards = []
                for c, context in enumerate(own[: contexts if batches is None else batches]):
                    trials = [
                        trial(context, m, r, 0.1 * m)
                        for m in range(edits) for r in range(replicates)
                    ]  # fmt: skip
                    last = batches is not None and c + 1 == batches
                    given = {"tokens": (900, 1200), "marked": marks or not last}
                    records.trials(trials, stage, c, **given)
                    right = [[a["correct"] for a in t["answers"]] for t in trials]
                    rewards.append(np.reshape(right, (edits, -1)).mean(axis=1).tolist())
                if batches is not None:
                    return folder
                kept = [[float(m == int(np.argmax(of))) for m in range(edits)] for of in rewards]
                records.add("selection", {
                    "contexts": [context.id for context in own], "rewards": rewards,
                    "weights": kept,
                }, stage)  # fmt: skip
                steps = [{"loss": 1.0 / (k + 1), "grad_norm": 1.0} for k in range(6)]
                policy = {"version": n, "kept": contexts, "steps": steps}
                records.add("policy", policy, stage)
            plain = {context.id: answers(context) for context in held_out}
            records.answers(plain, Stage(kind="unadapted", split="eval", what="base"))
            written = [
                {"context": c.id, "index": 0, "text": "Held out facts.", "stopped": True}
                for c in held_out
            ]
            editor = Stage(kind="edits", split="eval", what="base")
            records.add("edits", {"edits": written}, editor, 0)
            trials = [trial(context, 0, 0, 0.5) for context in held_out]
            arm = Stage(kind="arm", split="eval", what="edit_before")
            records.add("plan", {"groups": [[0, 1]]}, arm)
            records.trials(trials, arm)
        if not finished:
            return folder
        every = arms.table(task)
        of_arm = {
            "counts": {"trials": 2, "invalid_edits": 0, "unadapted_fallbacks": 0},
            "recipe": {"trained_tokens": 2400, "steps": 18},
        }
        found = results.of(
            [
                Outcome("base", every["base"], [[plain[c.id]] for c in held_out]),
                Outcome("edit_before", every["edit_before"], [[t] for t in trials], **of_arm),
            ],
            task, held_out, seed=0, draws=200,
        )  # fmt: skip
        pair = {"names": ["edit_before", "base"]}
        found |= {
            "pairs": [
                pair | {"metric": "accuracy", "difference": 0.125, "interval": [-0.05, 0.3125]},
                pair | {"metric": "gold_log_likelihood", "difference": 0.5,
                        "interval": [0.25, 0.75]},
            ],
            "matched_minus_mismatched": {
                "edit_before": {"difference": 1.25, "interval": [0.5, 2.0], "n_contexts": 2}
            },
            "rounds": [{"mean_unadapted": 0.25}],
            "left_out": {"train": {"too long": 7}, "eval": {}},
            "grader": "local-2", "model": "invented model", "versions": {"jax": "0.10.2"},
            "config": dataclasses.asdict(settings),
        }  # fmt: skip
        seconds = {
            "round 1: adapt": 75.0, "round 1: sample": 5.5, "eval edit_before: adapt": 30.0,
            "total": 90.0,
        }  # fmt: skip
        run_dir.write_json(directory.timing_path, {"seconds": seconds, "resumed": False})
        run_dir.write_json(directory.results_path, found | (changes or {}))
    return folder


def few_shot(folder, *, curated=False, adapted=None):
    """A run of two ARC tasks: one round of two recipes, of which one solves its task; or curate.

    Args:
      adapted: what the arm edit_before answers to every evaluation task; None is without that arm.
    """
    tasks = {split: folder.parent / f"{folder.name}-{split}" for split in ("train", "eval")}
    pair = {"input": [[0, 1], [2, 3]], "output": [[3, 2], [1, 0]]}
    for path, ids in zip(tasks.values(), (("aa", "bb"), ("ee", "ff")), strict=True):
        path.mkdir()
        for id in ids:
            test = {"input": [[4, 5]], "output": [[5, 4]]}
            (path / f"{id}.json").write_text(json.dumps({"train": [pair, pair], "test": [test]}))
    settings = Settings(
        task="few_shot",
        few_shot=FewShot(train=str(tasks["train"]), eval=str(tasks["eval"])),
        reward=Reward(kind="solved"),
        edits=Edits(prompt_style="chat"),
        answers=Answers(prompt_style="chat"),
    )
    task = registry.open_task(settings)
    families = ("basic", "size", "chain", "repeat")
    written = {f"use_{name}_augmentations": name == "size" for name in families}
    training = {"strategy": "train_using_all_tokens", "learning_rate": 0.001, "num_train_epochs": 2}
    recipe = json.dumps({"data_generation": written, "training": training})

    def attempts(grid):
        solved = grid == [[5, 4]]
        answer = {
            "question": "test 1", "attempts": [grid] if grid else [], "solved": solved,
            "graded": float(solved), "gold_log_likelihood": -3.0 + solved,
        }  # fmt: skip
        return marked([answer], solved=float(solved), graded=float(solved))

    def trial(id, index, grid):
        return {
            "context": id, "index": index, "replicate": 0, **attempts(grid), "reason": None,
            "head": recipe, "sequences": 4, "steps": 6, "first_loss": 3.0, "last_loss": 1.0,
            "dropped_sequences": 0, "dropped_tokens": 0, "trained_tokens": 9,
        }  # fmt: skip

    given = {"split": "train", "on": "leave_one_out"} if curated else {}
    with run_dir.open_run(folder, dataclasses.asdict(settings) | given) as directory:
        with ledger.Ledger(directory.ledger_path) as ledger_:
            records = Recorder(ledger_)
            if curated:
                stage = Stage(kind="curate")
                records.add("plan", {"groups": [[0], [1]]}, stage)
                one = trial(task.practice(task.contexts("train")[0])[0].id, 0, [[3, 2], [1, 0]])
                records.trials([one], stage, tokens=(9, 9))
                return folder
            stage = Stage(kind="round", round=1)
            texts = [
                {"context": id, "index": m, "text": text, "stopped": True}
                for id in ("aa", "bb") for m, text in enumerate((recipe, recipe, "no recipe"))
            ]  # fmt: skip
            records.add("edits", {"edits": texts}, stage, 0)
            records.add("plan", {"groups": [[0]]}, stage)
            trials = [
                trial(id, m, [[5, 4]] if (id, m) == ("bb", 1) else [[4, 4]])
                for id in ("aa", "bb") for m in range(2)
            ]  # fmt: skip
            records.trials(trials, stage, tokens=(9, 9))
            records.answers({id: attempts(None) for id in ("aa", "bb")}, stage)
            if adapted:
                plain = {id: attempts(None) for id in ("ee", "ff")}
                records.answers(plain, Stage(kind="unadapted", split="eval", what="base"))
                arm = Stage(kind="arm", split="eval", what="edit_before")
                records.add("plan", {"groups": [[0, 1]]}, arm)
                records.trials([trial(id, 0, adapted) for id in plain], arm)
        held_out = task.contexts("eval")
        every, lesson = arms.table(task), task.read(task.contexts("eval")[0], recipe, 0)
        outcomes = [Outcome("base", every["base"], [[attempts(None)] for _ in held_out])]
        if adapted:
            one = [attempts(adapted)]
            outcomes.append(Outcome("edit_before", every["edit_before"], [one for _ in held_out]))
        found = results.of(outcomes, task, held_out, seed=0, draws=200)
        found |= {
            "left_out": {"train": {"it takes 900 tokens": 1}, "eval": {}},
            "directives": {"edits base": task.describe([[lesson]])},
            "best_fixed": {"fixed": {"head": recipe, "mean_rewards": [0.25]}},
            "grader": "exact grids",
        }
        run_dir.write_json(directory.results_path, found)
    return folder
