"""Run directories made by the real writers, with invented passages, grids and answers."""

import dataclasses
import json

import numpy as np

from seal_jax.loop import per_context
from seal_jax.runs import ledger, run_dir
from seal_jax.settings import Data, FewShot, Reward, Settings
from seal_jax.tasks.registry import make_task

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


def knowledge(
    folder, *, contexts=3, edits=2, replicates=1, questions=2, finished=True, rounds=1,
    edit_text=None, title=None, batches=None, changes=None,
):  # fmt: skip
    """A run of knowledge incorporation: rounds, then the arms base and edit_before.

    Args:
      edit_text: (context, edit) -> a self-edit, instead of invented lines.
      batches: how many of a round's planned batches are there; the run then ends with them.
      changes: keys of results.json to add or replace.
    """
    data = Data(
        train_path=squad_file(folder.parent / f"{folder.name}-train.json", "train",
                              contexts * rounds, questions, title=title),
        eval_path=squad_file(folder.parent / f"{folder.name}-eval.json", "held out", 2, questions),
    )  # fmt: skip
    settings = Settings(data=data, reward=Reward(kind="accuracy", replicates=replicates))
    task = make_task(settings)
    rng = np.random.default_rng(0)

    def edit(c, m):
        if edit_text:
            return edit_text(c, m)
        return "\n".join(f"{i}. {_words(rng, 12)}" for i in range(1, 9))

    def answers(context, gain=0.0):
        return [
            {
                "question": question.id,
                "text": _words(rng, 5),
                "correct": bool(rng.random() < 0.3 + gain),
                "empty": False,
                "gold_log_likelihood": float(rng.normal() - 5 + gain),
                "ungraded": None,
            }
            for question in context.questions
        ]

    def trial(context, m, r, gain):
        return {
            "context": context.id, "index": m, "replicate": r, "answers": answers(context, gain),
            "reason": None, "first_loss": 2.5, "last_loss": 0.5, "steps": 9, "sequences": 9,
            "dropped_sequences": 0, "dropped_tokens": 0,
        }  # fmt: skip

    train, held_out = task.contexts("train"), task.contexts("eval")
    with run_dir.open_run(folder, dataclasses.asdict(settings)) as directory:
        with ledger.Ledger(directory.ledger_path) as records:
            for n in range(1, rounds + 1):
                own = train[(n - 1) * contexts : n * contexts]
                records.append("edits", f"round {n}/0", {"edits": [
                    {"context": context.id, "index": m, "text": edit(c, m), "tokens": [1, 2],
                     "stopped": m > 0}
                    for c, context in enumerate(own) for m in range(edits)
                ]})  # fmt: skip
                plain = {context.id: answers(context) for context in own}
                records.append("unadapted", f"round {n}/0", plain)
                records.append("plan", f"round {n}", {"groups": [[c] for c in range(contexts)]})
                rewards = []
                for c, context in enumerate(own[: contexts if batches is None else batches]):
                    trials = [
                        trial(context, m, r, 0.1 * m)
                        for m in range(edits) for r in range(replicates)
                    ]  # fmt: skip
                    batch = {"trials": trials, "real_tokens": 900, "computed_tokens": 1200}
                    records.append("batch", f"round {n}/{c}", batch)
                    right = [[a["correct"] for a in t["answers"]] for t in trials]
                    rewards.append(np.reshape(right, (edits, -1)).mean(axis=1).tolist())
                if batches is not None:
                    return folder
                kept = [[float(m == int(np.argmax(of))) for m in range(edits)] for of in rewards]
                records.append("selection", f"round {n}", {
                    "contexts": [context.id for context in own], "rewards": rewards,
                    "weights": kept,
                })  # fmt: skip
                steps = [{"loss": 1.0 / (k + 1), "grad_norm": 1.0} for k in range(6)]
                records.append(
                    "policy", f"round {n}", {"version": n, "kept": contexts, "steps": steps}
                )
            found = {"base": [], "edit_before": []}
            plain = {context.id: answers(context) for context in held_out}
            records.append("unadapted", "eval base/0", plain)
            written = [
                {"context": c.id, "index": 0, "text": "Held out facts.", "stopped": True}
                for c in held_out
            ]
            records.append("edits", "eval edits base/0", {"edits": written})
            trials = [trial(context, 0, 0, 0.5) for context in held_out]
            batch = {"trials": trials, "real_tokens": 90, "computed_tokens": 120}
            records.append("batch", "eval edit_before/0", batch)
            found["base"] = [[plain[context.id]] for context in held_out]
            found["edit_before"] = [[trial["answers"]] for trial in trials]
        if not finished:
            return folder
        results = _results(found, held_out, settings) | (changes or {})
        seconds = {"round 1: adapt": 75.0, "round 1: sample": 5.5, "total": 90.0}
        run_dir.write_json(directory.timing_path, {"seconds": seconds, "resumed": False})
        run_dir.write_json(directory.results_path, results)
    return folder


def _results(found, held_out, settings):
    def summary(answers):
        every = [answer for of in answers for edit in of for answer in edit]
        return {
            "accuracy": float(np.mean([answer["correct"] for answer in every])),
            "gold_log_likelihood": float(np.mean([a["gold_log_likelihood"] for a in every])),
            "n_questions": len(every), "empty_answers": 0,
        }  # fmt: skip

    pair = {"names": ["edit_before", "base"]}
    return {
        "arms": {name: summary(answers) for name, answers in found.items()},
        "pairs": [
            pair | {"metric": "accuracy", "difference": 0.125, "interval": [-0.05, 0.3125]},
            pair | {"metric": "gold_log_likelihood", "difference": 0.5, "interval": [0.25, 0.75]},
        ],
        "matched_minus_mismatched": {
            "edit_before": {"difference": 1.25, "interval": [0.5, 2.0], "n_contexts": 2}
        },
        "contexts": per_context.per_context(held_out, found),
        "rounds": [{"mean_unadapted": 0.25}],
        "left_out": {"train": {"too long": 7}, "eval": {}},
        "grader": "local-2", "model": "invented model", "versions": {"jax": "0.10.2"},
        "config": dataclasses.asdict(settings),
    }  # fmt: skip


def few_shot(folder, *, curated=False):
    """A run of two ARC tasks: one round of two recipes, of which one solves its task; or curate."""
    tasks = folder.parent / f"{folder.name}-tasks"
    tasks.mkdir()
    pair = {"input": [[0, 1], [2, 3]], "output": [[3, 2], [1, 0]]}
    for id in ("aa", "bb"):
        test = {"input": [[4, 5]], "output": [[5, 4]]}
        (tasks / f"{id}.json").write_text(json.dumps({"train": [pair, pair], "test": [test]}))
    settings = Settings(task="few_shot", few_shot=FewShot(train=str(tasks), eval=str(tasks)))
    families = ("basic", "size", "chain", "repeat")
    recipe = json.dumps(
        {
            "data_generation": {f"use_{name}_augmentations": name == "size" for name in families},
            "training": {"strategy": "train_using_all_tokens", "learning_rate": 0.001},
        }
    )

    def attempts(id, grid, **named):
        solved = grid == [[5, 4]]
        return {
            "context": id, "attempts": [[grid] if grid else []], "solved_tests": [solved],
            "solved": solved, "graded": float(solved), "gold_log_likelihoods": [-3.0 + solved],
            "reason": None, "recipe": recipe, "examples": 4, "steps": 6, "first_loss": 3.0,
            "last_loss": 1.0, **named,
        }  # fmt: skip

    given = {"split": "train", "on": "leave_one_out"} if curated else {}
    with run_dir.open_run(folder, dataclasses.asdict(settings) | given) as directory:
        with ledger.Ledger(directory.ledger_path) as records:
            if curated:
                records.append("plan", "curate", {"groups": [[0], [1]]})
                trials = [attempts("aa/0", [[3, 2], [1, 0]], index=0, replicate=0)]
                batch = {"trials": trials, "real_tokens": 9, "computed_tokens": 9}
                records.append("batch", "curate/0", batch)
                return folder
            written = [
                {"context": id, "index": m, "text": recipe, "stopped": True}
                for id in ("aa", "bb") for m in range(2)
            ]  # fmt: skip
            records.append("edits", "round 1/0", {"edits": written})
            trials = [
                attempts(id, [[5, 4]] if (id, m) == ("bb", 1) else [[4, 4]], index=m, replicate=0)
                for id in ("aa", "bb") for m in range(2)
            ]  # fmt: skip
            batch = {"trials": trials, "real_tokens": 9, "computed_tokens": 9}
            records.append("batch", "round 1/0", batch)
            plain = {id: attempts(id, None) for id in ("aa", "bb")}
            records.append("unadapted", "round 1/0", plain)
        metrics = {"solved": [0.0], "graded": [0.5], "gold_log_likelihood": [-3.0]}
        results = {
            "arms": {"in_context": {name: values[0] for name, values in metrics.items()}},
            "tasks": {id: {"in_context": metrics} for id in ("aa", "bb")},
            "left_out": {"train": {"cc": "it takes 900 tokens"}, "eval": {}},
        }
        run_dir.write_json(directory.results_path, results)
    return folder
