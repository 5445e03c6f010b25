"""Log-likelihoods in blocks against those of plain logits, and their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core.model import decoder, soft_cap, token_loss

D, V, P = 6, 11, 50


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def tied(request):
    return request.param


@pytest.fixture
def arguments(tied):
    rng = np.random.default_rng(3)
    head = jnp.asarray(rng.normal(size=(V, D) if tied else (D, V)), jnp.float32)
    hidden = jnp.asarray(3 * rng.normal(size=(P, D)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, V, P), jnp.int32)
    wanted = jnp.asarray(rng.random(P) < 0.6)
    return head, hidden, targets, wanted


def _plain(tied, head, hidden, targets, wanted, cap=None):
    logits = soft_cap.capped(hidden @ (head.T if tied else head), cap)
    return jnp.where(wanted, decoder.target_log_probs(logits, targets), 0.0)


@pytest.mark.parametrize("cap", [None, 4.0])
@pytest.mark.parametrize("block", [16, 48, 512])
def test_equals_plain_logits(monkeypatch, tied, arguments, block, cap):
    """In 4 blocks, the last of them with 2 real tokens; in 2; and in one."""
    monkeypatch.setattr(token_loss, "BLOCK", block)
    found = token_loss.log_likelihoods(tied, *arguments, cap=cap)
    np.testing.assert_allclose(found, _plain(tied, *arguments, cap=cap), rtol=1e-5, atol=1e-6)
    assert (found[~arguments[-1]] == 0).all() and (found[arguments[-1]] < 0).all()


@pytest.mark.parametrize("cap", [None, 4.0])
@pytest.mark.parametrize("block", [16, 512])
def test_gradient_equals_that_of_plain_logits(monkeypatch, tied, arguments, block, cap):
    monkeypatch.setattr(token_loss, "BLOCK", block)
    head, hidden, targets, wanted = arguments
    weights = jnp.linspace(-1, 2, P)

    def gradient(function):
        def weighed(h):
            return jnp.vdot(weights, function(tied, head, h, targets, wanted, cap=cap))

        return jax.grad(weighed)(hidden)

    found, expected = gradient(token_loss.log_likelihoods), gradient(_plain)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0.1 and (found[~wanted] == 0).all()


def test_nothing_wanted(tied, arguments):
    head, hidden, targets, wanted = arguments
    found = token_loss.log_likelihoods(tied, head, hidden, targets, jnp.zeros_like(wanted))
    np.testing.assert_array_equal(found, np.zeros(P))


def test_a_token_that_is_not_finite_stays_alone(tied, arguments):
    head, hidden, targets, wanted = arguments
    wanted = wanted.at[7].set(True)
    found = token_loss.log_likelihoods(tied, head, hidden.at[7].set(jnp.nan), targets, wanted)
    np.testing.assert_array_equal(jnp.isfinite(found), np.arange(P) != 7)


def test_bfloat16_differs_by_its_rounding(tied, arguments):
    head, hidden, targets, wanted = arguments
    low = token_loss.log_likelihoods(
        tied, head.astype(jnp.bfloat16), hidden.astype(jnp.bfloat16), targets, wanted
    )
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, _plain(tied, *arguments), atol=0.3)


@pytest.mark.parametrize(
    ("teacher", "kl", "gradient"),
    [
        # 1/4 log(1/2) + 1/2 log 2 + 1/4 log 1: as sure as the model of the rest.
        ({0: 0.25, 1: 0.5}, 0.25 * np.log(2), (-0.25, 0.25, 0, 0)),
        # 3/4 log(3/2) + 1/4 log(1/2): half as sure of each of the rest.
        ({0: 0.75}, 0.75 * np.log(1.5) - 0.25 * np.log(2), (0.25, -0.125, -0.0625, -0.0625)),
        ({1: 1.0}, np.log(4), (-0.5, 0.75, -0.125, -0.125)),  # cross-entropy on token 1
        ({0: 0.5, 1: 0.25, 2: 0.125, 3: 0.125}, 0.0, (0, 0, 0, 0)),
    ],
)
def test_divergence_from_a_teacher_by_hand(teacher, kl, gradient):
    """The model expects 1/2, 1/4, 1/8 and 1/8: the head is the identity, hidden states the logs."""
    hidden = jnp.log(jnp.array([[0.5, 0.25, 0.125, 0.125]], jnp.float32))
    ids = jnp.array([[*teacher, *[-1] * (5 - len(teacher))]], jnp.int32)
    logs = jnp.array([[*np.log(list(teacher.values())), *[0.0] * (5 - len(teacher))]], jnp.float32)
    soft = token_loss.SoftTargets(ids, logs)

    def loss(of):
        one = jnp.ones(1, bool)
        return -token_loss.log_likelihoods(
            True, jnp.eye(4), of, jnp.zeros(1, int), one, None, soft
        )[0]

    found, slope = jax.value_and_grad(loss)(hidden)
    np.testing.assert_allclose(found, kl, atol=1e-6)
    np.testing.assert_allclose(-slope[0], gradient, atol=1e-6)


@pytest.mark.parametrize("cap", [None, 4.0])
@pytest.mark.parametrize("block", [16, 512])
def test_divergence_from_teachers_equals_that_of_plain_logits(
    monkeypatch, tied, arguments, block, cap
):
    monkeypatch.setattr(token_loss, "BLOCK", block)
    head, hidden, targets, wanted = arguments
    expected = jax.nn.log_softmax(np.random.default_rng(5).normal(size=(P, V)))
    logs, ids = jax.lax.top_k(expected, 3)

    def plain(h):
        own = jax.nn.log_softmax(soft_cap.capped(h @ (head.T if tied else head), cap))
        others = own.at[jnp.arange(P)[:, None], ids].set(-jnp.inf)
        own = jnp.take_along_axis(own, ids, axis=1)
        rest, own_rest = 1 - jnp.exp(logs).sum(1), jax.nn.logsumexp(others, axis=1)
        kl = (jnp.exp(logs) * (logs - own)).sum(1) + rest * (jnp.log(rest) - own_rest)
        return jnp.where(wanted, -kl, 0.0)

    def found(h):
        soft = token_loss.SoftTargets(ids, logs)
        return token_loss.log_likelihoods(tied, head, h, targets, wanted, None, soft, cap)

    np.testing.assert_allclose(found(hidden), plain(hidden), rtol=1e-4, atol=1e-5)
    weights = jnp.linspace(-1, 2, P)
    slopes = [jax.grad(lambda h, of=of: jnp.vdot(weights, of(h)))(hidden) for of in (found, plain)]
    np.testing.assert_allclose(*slopes, rtol=1e-3, atol=1e-5)
    assert np.abs(slopes[1]).max() > 0.1 and (slopes[0][~wanted] == 0).all()


@pytest.mark.parametrize("cap", [None, 4.0])
def test_where_every_token_is_allowed_nothing_changes(tied, arguments, cap):
    head, hidden, targets, wanted = arguments
    allowed = jnp.broadcast_to(jnp.arange(V), (P, V))

    def total(h, allowed):
        return jnp.vdot(
            jnp.linspace(-1, 2, P),
            token_loss.log_likelihoods(tied, head, h, targets, wanted, allowed, cap=cap),
        )

    found, expected = (jax.value_and_grad(total)(hidden, of) for of in (allowed, None))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)
