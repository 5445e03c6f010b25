"""The inner update with a teacher: what its loss is, packed and over K candidates."""

import jax
import numpy as np
import pytest

from seal_jax.core import batching, distillation
from seal_jax.core.model.token_loss import SoftTargets

from . import cases


@pytest.fixture(scope="module")
def taught(group):
    """The group with a random teacher: the 3 likeliest of 61 tokens, at each token its own."""
    rng = np.random.default_rng(8)
    shape = (*group.problems.tokens_NxT.shape, 61)
    logs, ids = jax.lax.top_k(jax.nn.log_softmax(2 * rng.normal(size=shape)), 3)
    soft = SoftTargets(np.asarray(ids), np.asarray(logs))
    return cases.Group(
        group.deltas, group.problems.replace(soft_NxT=soft), group.hparams, group.schedule
    )


@pytest.fixture(scope="module")
def learned(taught, run):
    return run(taught)


def test_a_teacher_that_is_sure_of_every_token_is_cross_entropy(group, trained, run):
    tokens = np.asarray(group.problems.tokens_NxT)[..., None]
    ids = np.concatenate([tokens, np.full_like(tokens, -1)], axis=-1)
    soft = SoftTargets(ids, np.zeros(ids.shape, np.float32))
    problems = group.problems.replace(soft_NxT=soft)
    deltas, results = run(cases.Group(group.deltas, problems, group.hparams, group.schedule))
    np.testing.assert_allclose(results.losses_S, trained[1].losses_S, rtol=1e-5, atol=1e-6)
    for k in range(cases.K):
        start = cases.take(group.deltas.tree, k)
        trees = (cases.take(of.tree, k) for of in (deltas, trained[0]))
        assert cases.distance(*trees, start) < 1e-3


def test_the_loss_is_the_mean_divergence_of_trained_tokens(taught, learned, tiny_llama):
    """The first step of each candidate, by the base model's logits: no delta changes any yet."""
    for k in range(cases.K):
        problem = jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]), taught.problems)
        first = int(np.flatnonzero(learned[1].taken_S[k])[0])
        [rank] = taught.schedule.ranks_KxSxB[k, first]
        count = problem.lengths_N[rank]
        own = jax.nn.log_softmax(tiny_llama.logits(problem.tokens_NxT[rank][None]))[0]
        found = []
        for t in range(1, count):
            if problem.mask_NxT[rank, t]:
                ids, logs = (of[rank, t] for of in problem.soft_NxT)
                p, q = np.exp(logs, dtype=np.float64), np.exp(np.float64(own[t - 1][ids]))
                rest = (1 - p.sum()) * np.log((1 - p.sum()) / (1 - q.sum()))
                found.append((p * np.log(p / q)).sum() + rest)
        assert learned[1].losses_S[k, first] == pytest.approx(np.mean(found), rel=1e-3)


def test_candidates_with_teachers_together_equal_one_alone(taught, learned, tiny_llama):
    static = (tiny_llama.config, cases.SETTINGS)
    delta, result = cases.update_one(
        static, tiny_llama.params, *taught.candidate(1), taught.schedule_of(1)
    )
    start, *_ = taught.candidate(1)
    assert cases.distance(cases.take(learned[0].tree, 1), delta.tree, start.tree) < 1e-4
    np.testing.assert_allclose(learned[1].losses_S[1], result.losses_S, rtol=1e-5, atol=1e-6)
    losses = result.losses_S.reshape(cases.EPOCHS, cases.ROWS).mean(axis=1)
    assert losses[0] > losses[-1]


def test_a_teacher_s_tokens_stand_at_the_end_of_their_sequence():
    """Two of three tokens of the second, longer sequence, which comes first; all else is sure."""
    ids = np.arange(2 * distillation.LIKELIEST).reshape(2, -1)
    soft = {1: SoftTargets(ids, -ids / 10.0)}
    problem = batching.inner_problem([[5, 6], [7, 8, 9]], rows=3, length=4, soft=soft)
    found = problem.soft_NxT
    np.testing.assert_array_equal(found.ids[0, 1:3], ids)
    np.testing.assert_allclose(found.log_probs[0, 1:3], -ids / 10.0)
    sure = np.ones((3, 4), bool)
    sure[0, 1:3] = False
    np.testing.assert_array_equal(found.ids[sure][:, 0], problem.tokens_NxT[sure])
    assert (found.ids[sure][:, 1:] == -1).all() and (found.log_probs[sure] == 0).all()
    assert batching.inner_problem([[5, 6]], rows=1, length=2).soft_NxT is None


def test_a_teacher_s_likeliest_tokens_are_those_of_its_logits(tiny_llama):
    prompts, answers = [[3, 1, 4], [1, 5]], [[9, 2], [6]]
    queries = batching.queries(prompts, answers, rows=3, length=4, answer_length=2)
    found = distillation.expected(tiny_llama.config, tiny_llama.params, queries)
    for q, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        logits = tiny_llama.logits(np.array([[*prompt, *answer]]))[0]
        logs = np.asarray(jax.nn.log_softmax(logits))
        for a in range(len(answer)):
            of = logs[len(prompt) - 1 + a]
            best = np.argsort(-of)[: distillation.LIKELIEST]
            np.testing.assert_array_equal(found.ids[q, a], best)
            np.testing.assert_allclose(found.log_probs[q, a], of[best], rtol=1e-4, atol=1e-5)
