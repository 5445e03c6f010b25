"""SIGTERM and SIGUSR1: granted at a safe place, and in the end without one."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from seal_jax.runtime import interruption


@pytest.fixture
def ended(monkeypatch):
    """Stands in for the end of the process."""

    class End(threading.Event):
        code = None

        def __call__(self, code):
            self.code = code
            self.set()

    monkeypatch.setenv("SEAL_JAX_GRACE_SECONDS", "60")
    return End()


def _send(number):
    os.kill(os.getpid(), number)


def _wait_until_asked():
    for _ in range(1000):
        if interruption.is_asked():
            return
        threading.Event().wait(0.01)
    pytest.fail("the signal was not heard")


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_signal_is_granted_by_the_next_check(number, ended):
    before = signal.getsignal(number)
    with interruption.heard(ended):
        interruption.check()
        _send(number)
        _wait_until_asked()
        with pytest.raises(interruption.Interrupted, match=signal.Signals(number).name):
            interruption.check()
    assert not ended.is_set()
    assert signal.getsignal(number) == before
    interruption.check()  # what was asked for is over


@pytest.fixture
def pythons_ctrl_c():
    """Python's own handler, though shells have what they start in the background ignore Ctrl-C."""
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, found)


def test_ctrl_c_is_not_ours(ended, pythons_ctrl_c):
    with interruption.heard(ended):
        with pytest.raises(KeyboardInterrupt):
            _send(signal.SIGINT)
            threading.Event().wait(5)
        interruption.check()


def test_a_second_signal_ends_at_once_unless_it_is_an_echo(ended, monkeypatch, capsys):
    with interruption.heard(ended):
        _send(signal.SIGUSR1)
        _wait_until_asked()
        monkeypatch.setattr(interruption, "_ONE_SIGNAL_SECONDS", 1000.0)
        _send(signal.SIGTERM)
        assert not ended.wait(0.3)
        monkeypatch.setattr(interruption, "_ONE_SIGNAL_SECONDS", 0.0)
        _send(signal.SIGTERM)
        assert ended.wait(30)
    assert ended.code == 75
    error = capsys.readouterr().err
    assert "interrupted by SIGUSR1; the same command continues the run (asked a second" in error


_STUCK = """
    import hashlib, sys
    from seal_jax.runtime import interruption
    with interruption.heard():
        print("heard", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)  # no Python until it returns
"""


def test_the_grace_period_ends_a_process_that_is_inside_a_long_call():
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_STUCK)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SEAL_JAX_GRACE_SECONDS": "0.2"},
    )
    try:
        assert process.stdout.readline() == "heard\n"
        process.terminate()
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75
    assert error.strip() == (
        "interrupted by SIGTERM; the same command continues the run "
        "(0.2 s are over: the unit in hand is dropped)"
    )


def test_a_grace_period_that_is_no_number_is_refused_before_anything_changes(ended, monkeypatch):
    monkeypatch.setenv("SEAL_JAX_GRACE_SECONDS", "soon")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match=r"SEAL_JAX_GRACE_SECONDS='soon'"), interruption.heard():
        pass
    assert signal.getsignal(signal.SIGTERM) == before
