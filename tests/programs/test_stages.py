"""What a run shares between its stages."""

from seal_jax.programs.run import Run


def test_a_run_keeps_the_last_thing_asked_for_by_identity(tmp_path):
    run = Run(None, None, tmp_path / "checkpoints", quiet=True)
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    first, second = [1], [2]
    assert [run.keep_one((first,), make) for _ in range(2)] == [0, 0]
    assert run.keep_one((first, second), make) == 1
    assert run.keep_one((first,), make) == 2, "one thing is kept, not two"
    assert run.keep_one(([1],), make) == 3, "an equal object is another one"
    assert made == [0, 1, 2, 3]
