"""What is shown of progress: literal lines in a log, a bar on a terminal, nothing when quiet."""

import io

import pytest

from seal_jax.runtime import progress
from seal_jax.runtime.progress import Progress, Whole


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_log_gets_a_line_every_few_seconds_and_a_last_one():
    log, clock = io.StringIO(), Clock()
    with Progress(54, "round 1", unit="candidate", stream=log, clock=clock) as shown:
        for _ in range(18):
            clock.now += 2  # 0.5 batches of 1 a second; lines at 6, 12, 18, 24, 30, 36 seconds
            shown.update(1, reward=0.4123)
        assert log.getvalue().count("\n") == 6
        shown.update(36)
        clock.now += 18  # 54 candidates in 54 seconds
    lines = log.getvalue().splitlines()
    assert len(lines) == 7
    assert lines[0] == "round 1: 3/54 candidates, 2 s each, 1 min 42 s left, reward 0.412"
    assert lines[5] == "round 1: 18/54 candidates, 2 s each, 1 min 12 s left, reward 0.412"
    # The first took 2 s, and the other 53 took 52 s.
    assert lines[6] == "round 1: 54/54 candidates, 0.981 s each, took 54 s, reward 0.412"


def test_replayed_units_are_said_and_do_not_enter_the_rate():
    log, clock = io.StringIO(), Clock()
    with Progress(10, "adapt", stream=log, clock=clock) as shown:
        shown.update(4, replayed=True)
        clock.now += 10
        shown.update(1)
    assert log.getvalue() == "adapt: 5/10 steps, 4 of them from the ledger, 10 s each, 50 s left\n"
    again = io.StringIO()
    with Progress(4, "adapt", stream=again, clock=clock) as shown:
        shown.update(4, replayed=True)
        clock.now += 0.001
    assert again.getvalue() == "adapt: 4/4 steps, all of them from the ledger\n"


def test_the_whole_run_has_a_time_left():
    log, clock = io.StringIO(), Clock()
    planned = {"1: sample": ("prompt", 6), "1: adapt": ("edit", 12), "2: adapt": ("edit", 20)}
    whole = Whole(planned)

    def line(label, total, unit, seconds, done):
        with Progress(total, label, unit=unit, whole=whole, stream=log, clock=clock) as shown:
            clock.now += seconds
            shown.update(done)
        return log.getvalue().splitlines()[-1].partition("; ")[2]

    # 2 prompts in 10 s leave 4 of 5 s; how long an edit takes is not known yet.
    assert line("1: sample", 6, "prompt", 10, 2) == ("whole run: stage 1 of 3, at least 20 s left")
    assert line("1: sample", 6, "prompt", 30, 6) == "whole run: stage 1 of 3"
    # 12 edits in 36 s; 20 more take 3 s each.
    assert line("1: adapt", 12, "edit", 36, 12) == "whole run: stage 2 of 3, about 1 min 0 s left"
    # One that was not planned has the same before it: 1 + 20 edits, of 8 s now.
    assert line("fixed: adapt", 2, "edit", 8, 1) == "whole run: stage 2 of 3, about 2 min 48 s left"
    # Where stages are skipped, being recorded, the plan goes on from the last that has begun.
    assert line("2: adapt", 20, "edit", 20, 10) == "whole run: stage 3 of 3, about 20 s left"


def test_the_time_of_compiling_does_not_enter_the_rate():
    log, clock = io.StringIO(), Clock()
    with Progress(10, "adapt", stream=log, clock=clock) as shown:
        clock.now += 100
        shown.update(2)
        clock.now += 6
        shown.update(3)
    first, last = log.getvalue().splitlines()
    assert first == "adapt: 2/10 steps, 50 s each, 6 min 40 s left"
    assert last == "adapt: 5/10 steps, 2 s each, 10 s left"


def test_nothing_done_is_said_without_a_rate():
    log = io.StringIO()
    with Progress(3, "adapt", stream=log, clock=Clock()):
        pass
    assert log.getvalue() == "adapt: 0/3 steps\n"


def test_an_error_inside_shows_how_far_it_came_and_passes_on():
    log = io.StringIO()
    with (
        pytest.raises(KeyboardInterrupt),
        Progress(3, "adapt", stream=log, clock=Clock()) as shown,
    ):
        shown.update(1, text="x")
        raise KeyboardInterrupt
    assert log.getvalue() == "adapt: 1/3 steps, text x\n"


def test_a_terminal_gets_one_bar():
    terminal = Terminal()
    with Progress(4, "round 1", unit="candidate", stream=terminal) as shown:
        shown.update(1, replayed=True)
        shown.update(1, reward=0.4123, kept=2)
        shown.update(2, reward=0.5)
    text = terminal.getvalue()
    assert (
        "4/4" in text
        and "reward 0.5, kept 2; 1 of them from the ledger" in text
        and "round 1: 100%" in text
    )
    assert text.count("\n") == 1 and text.endswith("\n")


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_quiet_shows_nothing_but_counts(stream):
    shown_on, clock = stream(), Clock()
    with Progress(4, "round 1", quiet=True, stream=shown_on, clock=clock) as shown:
        clock.now += 60
        shown.update(3)
    assert shown.done == 3
    assert shown_on.getvalue() == ""


def test_standard_error_is_the_default(capsys):
    with Progress(1, "adapt") as shown:
        shown.update(1)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("adapt: 1/1 steps")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (108, "1 min 48 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, text):
    assert progress._duration(seconds) == text
