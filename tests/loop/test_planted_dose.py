"""ReST-EM learns a planted dose: the learning rate that suits how long a passage is.

Short, middling and long passages want one of three learning rates each, and there are as many of
every length: whatever one rate a policy always writes, it is right once in three. What is above
that depends on the passage.
"""

import json

import numpy as np
import pytest

from seal_jax.loop import rewards, train
from seal_jax.settings import Reward
from seal_jax.tasks import directives

SENTENCES = (1, 3, 8)  # of a passage, and so its dose: 1e-3, 2e-3, 3e-3
CONSTANT = 1 / 3  # what the best constant earns
_NOUNS = ("mill", "bridge", "harbour", "market", "tower", "orchard", "ferry", "school")


def _file(path, articles):
    """Passages of each length in turn, in SQuAD's format; nothing but length tells them apart."""
    random = np.random.default_rng(articles)
    data = []
    for i in range(articles):
        said = [
            f"The {random.choice(_NOUNS)} has {random.integers(2, 99)} {random.choice(_NOUNS)}s."
            for _ in range(SENTENCES[i % 3])
        ]
        asked = {"id": f"{path.stem}-{i}", "question": "What?", "answers": [{"text": "The"}]}
        paragraph = {"context": " ".join(said), "qas": [asked]}
        data.append({"title": f"{path.stem} {i}", "paragraphs": [paragraph]})
    path.write_text(json.dumps({"version": "1.1", "data": data}))
    return str(path)


def _right(context, text):
    """1 where a self-edit's learning rate is the one that the passage's length wants."""
    own, _ = directives.split(text, ("learning_rate",), directives.Limits())
    return float(round(own.learning_rate / 1e-3) - 1 == SENTENCES.index(context.text.count(".")))


def _planted(run, contexts, texts, stage):
    return [
        [_right(context, text) for text in of] for context, of in zip(contexts, texts, strict=True)
    ]


@pytest.fixture(scope="module")
def learn(tiny_settings, change, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dose")
    (folder / "dose.chat.txt").write_text("# split: whole\n\n{title}: {passage}")
    settings = change(
        tiny_settings,
        {
            "reward": Reward(kind="pattern", pattern="x", replicates=1),
            "data.train_path": _file(folder / "train.json", 72),
            "data.eval_path": _file(folder / "eval.json", 24),
            "prompts.dir": str(folder),
            "prompts.edit_format": "dose",
            "edits.directives": ("learning_rate",),
            "edits.samples": 16,
            "edits.top_p": 1.0,
            "edits.max_new_tokens": 32,
            "edits.contexts_per_batch": 12,
            "edits.prompt_buckets": (448,),
            "directives.min_learning_rate": 1e-3,
            "directives.max_learning_rate": 3e-3,
            "restem.rounds": 6,
            "restem.contexts_per_round": 12,
            "restem.sft.learning_rate": 1e-2,
            "restem.sft.epochs": 10,
            "restem.sft.batch_size": 4,
            "restem.sft.buckets": (480,),
            "evaluation.contexts": 24,
            "evaluation.edits": 16,
            "evaluation.bootstrap_draws": 2000,
        },
    )

    def run(how):
        workdir = tmp_path_factory.mktemp("run") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rewards, "of_texts", _planted)
            return train.train(change(settings, how), str(workdir), quiet=True)

    return run


@pytest.mark.parametrize(
    ("update", "epochs"),
    [
        pytest.param("restem", 10, marks=pytest.mark.slow),
        pytest.param("rloo", 2, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("rule", ["best_of_m", pytest.param("random", marks=pytest.mark.long)])
def test_a_dose_by_length_is_learned_and_a_shuffled_reward_is_not(learn, rule, update, epochs):
    how = {"restem.rule": rule, "restem.update": update, "restem.sft.epochs": epochs}
    found = learn(how)["planted_reward"]
    print(update, rule, found)  # what docs/results.md has; -rP shows it
    if rule == "random":
        assert found["after"] < CONSTANT + 0.12
    else:
        assert found["after"] > CONSTANT + 0.2 and found["interval"][0] > 0
