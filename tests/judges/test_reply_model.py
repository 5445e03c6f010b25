"""A model in JAX as the judge: its verdicts are those of its own likelihoods, one by one."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core import evaluate, parallel
from seal_jax.core.model import decoder
from seal_jax.judges import graders, rubric
from seal_jax.judges.graders import ModelGrader
from seal_jax.tasks.protocol import Answered, Context, Verdict
from seal_jax.weights import load

pytestmark = pytest.mark.usefixtures("few_devices")

TEMPLATE = "{query}\n{gold}\n{prediction}\nYes or No?"
BUCKETS = (44, 72)
WIDTH = 80  # of the rows that verdicts are compared with
RIGHT, WRONG = Verdict(correct=True, empty=False), Verdict(correct=False, empty=False)


@pytest.fixture(scope="module")
def loaded(checkpoint, random_params):
    """The tiny checkpoint with weights that are less sure of one reply."""
    model = load.load_model(checkpoint, jnp.float32)
    return dataclasses.replace(model, params=random_params(model.config, 3))


@pytest.fixture(scope="module")
def make(loaded):
    """(**changes) -> a judge of the tiny checkpoint."""
    devices = parallel.all_devices()
    place = functools.partial(devices.place, loaded.config)

    def grader(params=loaded.params, **changes):
        given = dict(
            label="tiny",
            config=loaded.config,
            devices=devices,
            params=place(params),
            tokenizer=loaded.tokenizer,
        )
        small = dict(batch_size=4, buckets=BUCKETS, template=TEMPLATE)
        return ModelGrader(**{**given, **small, **changes})

    return grader


def answered(prediction):
    query = "Topic: Mills\nHow many?"
    return Answered(query=query, question="How many?", gold="21", prediction=prediction)


ANSWERS = [
    answered(f"{word} {i}" * (1 + 3 * (i % 2)))
    for i, word in enumerate("a red river has tower mills of stone and 9".split())
]


def _prompt(text, style):
    return f"<|user|>{text}<|end|><|model|>" if style == "chat" else f"{text}\n\nReply:"


@pytest.fixture(scope="module")
def direct(loaded):
    """(style) -> [answers, 2]: log p of both replies, from all logits of rows of one width."""

    @jax.jit
    def log_probs(rows_BxT):
        hidden = decoder.hidden_states(loaded.config, loaded.params, rows_BxT)
        return jax.nn.log_softmax(decoder.logits(loaded.config, loaded.params, hidden))

    def encode(text):
        return loaded.tokenizer(text, add_special_tokens=False)["input_ids"]

    def compute(style):
        found = []
        for reply in ("Yes", "No"):
            after = encode(reply if style == "chat" else f" {reply}")
            rows = np.zeros((len(ANSWERS), WIDTH), np.int32)
            starts = []
            for row, answer in zip(rows, ANSWERS, strict=True):
                ids = encode(_prompt(graders.judge_prompt(TEMPLATE, answer), style))
                row[: len(ids) + len(after)] = [*ids, *after]
                starts.append(len(ids))
            assert min(starts) <= BUCKETS[0] < max(starts) <= BUCKETS[1]  # both buckets are used
            lps = np.asarray(log_probs(rows))
            found.append([
                sum(row[start - 1 + i, token] for i, token in enumerate(after))
                for row, start in zip(lps, starts, strict=True)
            ])  # fmt: skip
        return np.transpose(found)

    return compute


@pytest.mark.parametrize(("style", "batch_size"), [("chat", 4), ("plain", 8)])
def test_verdicts_are_the_likelier_reply_of_each_prompt_alone(make, direct, style, batch_size):
    yes, no = direct(style).T
    assert np.abs(yes - no).min() > 1e-3
    expected = [RIGHT if higher else WRONG for higher in yes > no]
    assert RIGHT in expected and WRONG in expected
    assert make(style=style, batch_size=batch_size).grade(ANSWERS) == expected


def test_the_first_program_of_a_bucket_is_the_last(make, count_compiles):
    grader = make()
    grader.grade(ANSWERS)
    few, _ = count_compiles(grader.grade, ANSWERS[:1])
    others, _ = count_compiles(grader.grade, [answered(f"{i} mills") for i in range(7)])
    assert few == others == 0


def test_other_parameters_are_another_judge(make, random_params, loaded):
    grader = make()
    other = make(params=random_params(loaded.config, 4))
    assert other.grade(ANSWERS) != grader.grade(ANSWERS)


def test_what_is_not_finite_is_ungraded(make, loaded):
    params = jax.tree.map(lambda leaf: leaf, loaded.params)
    params["final_norm"] = {"scale": params["final_norm"]["scale"].at[0].set(jnp.nan)}
    for verdict in make(params=params).grade(ANSWERS[:5]):
        assert verdict.correct is None and "not finite" in verdict.reason


@pytest.fixture
def scored(monkeypatch):
    """The prompts that were scored; all replies get the log-likelihoods that it is given."""

    class Scored:
        lls = (-1.0, -2.0)
        prompts = 0

        def __call__(self, config, params, deltas, queries):
            self.prompts += int((np.asarray(queries.prompt_lengths_Q)[:, 0] > 0).sum())
            return np.tile(np.float32(self.lls), (queries.tokens_QxT.shape[0], 1))

    scored = Scored()
    monkeypatch.setattr(evaluate, "gold_log_likelihoods_of_candidates", scored)
    return scored


@pytest.mark.parametrize(
    ("lls", "correct", "reason"),
    [
        ((-1.0, -2.0), True, None),
        ((-2.0, -1.0), False, None),
        ((-2.0, -2.0), None, "equally likely (-2 nats)"),
        ((np.nan, -1.0), None, "not finite"),
        ((-1.0, -np.inf), None, "not finite"),
    ],
)
def test_what_the_likelihoods_say(make, scored, lls, correct, reason):
    scored.lls = lls
    (verdict,) = make().grade(ANSWERS[:1])
    assert verdict.correct is correct and not verdict.empty
    assert verdict.reason is None if reason is None else reason in verdict.reason


def test_only_what_needs_a_judge_is_scored(make, scored):
    long = answered("mills " * 99)
    found = make().grade([ANSWERS[0], answered(" \n"), long, ANSWERS[1], ANSWERS[0]])
    assert scored.prompts == 2
    assert found[0] == found[3] == found[4] == RIGHT
    assert found[1] == Verdict(correct=False, empty=True)
    assert (
        found[2].correct is None and "more than the largest of its buckets (72)" in found[2].reason
    )


def test_the_name_says_who_was_asked_what(make):
    version = graders.version(TEMPLATE)
    assert make().name == f"model tiny, chat, prompt {version}"
    assert make(style="plain", label="b").name == f"model b, plain, prompt {version}"
    assert make(template=f"{TEMPLATE} ").name != make().name


def test_a_tokenizer_without_a_chat_template_gets_a_text(make, loaded):
    plain = copy.deepcopy(loaded.tokenizer)
    plain.chat_template = None
    assert make(tokenizer=plain).name == make(style="plain").name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buckets": (72, 511)}, "has 512 positions"),
        ({"template": "{query}"}, "placeholder"),
    ],
)
def test_impossible_judges(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_a_rubrics_score_is_the_mean_of_one_to_five_over_the_criteria():
    """By hand: 0.1 + 2 * 0.2 + 3 * 0.4 + 4 * 0.2 + 5 * 0.1 = 3; certainly 1; certainly 5."""
    spread = np.log([0.1, 0.2, 0.4, 0.2, 0.1]) - 7.0  # of all replies these five are few
    one, five = np.array([0.0, -99, -99, -99, -99]), np.array([-99.0, -99, -99, -99, 0])
    assert rubric._expected([spread, one, five]).score == pytest.approx((3 + 1 + 5) / 3)
    assert rubric._expected([spread, "too long", five]) == rubric.Scored(None, "too long")
    unknown = rubric._expected([spread, one * np.nan, five])
    assert unknown.score is None and "not finite" in unknown.reason


def test_a_rubric_is_read_with_each_criterion_begun(loaded):
    devices = parallel.all_devices()
    scorer = rubric.ModelRubric(
        label="tiny",
        config=loaded.config,
        devices=devices,
        params=devices.place(loaded.config, loaded.params),
        tokenizer=loaded.tokenizer,
        batch_size=4,
        buckets=BUCKETS,
        template="{title} {passage} {self_edit}",
    )
    mills = Context("c", "Mills", "Two mills.", ())
    texts = ["Two mills stand.", "One mill.", "word " * 80]
    *scored, long = scorer.score([(mills, text) for text in texts])
    prompts = [f"Mills Two mills. {text}" for text in texts[:2]]
    for found, prompt in zip(scored, prompts, strict=True):
        means = []
        for criterion in rubric.CRITERIA:
            [lls] = scorer.log_likelihoods([prompt], f"{criterion}:")
            shares = np.exp(lls) / np.exp(lls).sum()
            means.append((shares * [1, 2, 3, 4, 5]).sum())
        assert found.score == pytest.approx(np.mean(means), abs=1e-4)
        assert len({round(mean, 3) for mean in means}) > 1, "how the reply begins matters"
    assert long.score is None and "larger one" in long.reason
