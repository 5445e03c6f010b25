"""Questions that the policy or a teacher writes: recorded, labelled, and asked for once."""

import html
import json
import shutil

import pytest

from seal_jax.loop import sources, train
from seal_jax.loop.sample import Edit
from seal_jax.reports import compare, compare_table
from seal_jax.reports.html import report
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Reward, SettingsError
from seal_jax.tasks import registry

pytestmark = pytest.mark.usefixtures("few_devices")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight texts without questions."""
    path = tmp_path_factory.mktemp("own")
    for i in range(8):
        (path / f"place_{i}.md").write_text(f"Place {i} has {i + 30} mills and a red tower.\n")
    return path


@pytest.fixture(scope="module")
def settings(tiny_settings, change, folder):
    data = {"train_path": str(folder), "eval_path": "", "held_out": 0.4, "max_questions": 2}
    changes = {f"data.{name}": value for name, value in data.items()}
    return change(tiny_settings, changes | {"restem.rounds": 1, "evaluation.contexts": 0})


def _pairs(name):
    """What a model could write about a place; nothing of use about the last one."""
    i = int(name.split("-")[1])
    if i == 7:
        return "I do not know."
    return f"Question 1: How many mills?\nAnswer: {i + 30}\nQuestion 2: Who?\nAnswer: nobody"


@pytest.fixture
def writer(monkeypatch):
    """The policy writes questions that can be read; the prompts that it was given."""
    asked, sample = [], sources.sample

    def write(run, policy, prompts, *, stage, **how):
        if stage.kind != "written":
            return sample(run, policy, prompts, stage=stage, **how)
        asked.extend(prompt.id for prompt in prompts)
        return [[Edit(context=p.id, index=0, tokens=[], text=_pairs(p.id), stopped=True)]
                for p in prompts]  # fmt: skip

    monkeypatch.setattr(sources, "sample", write)
    return asked


def _labelled(found, by):
    labels = [metric["label"] for metric in found["metrics"]]
    assert labels == [f"{of} on the {by}'s questions" for of in ("accuracy", "gold log-likelihood")]
    assert found["grader"].endswith(f"; questions and answers written by the {by}")


def test_the_policy_writes_questions_once(settings, change, writer, tmp_path, capsys):
    settings = change(settings, {"data.questions": "policy"})
    workdir = str(tmp_path / "run")
    found = train.train(settings, workdir)
    _labelled(found, "policy")
    table = capsys.readouterr().out
    assert "accuracy on the policy's questions" in table
    with Ledger(f"{workdir}/ledger", read_only=True) as ledger:
        records = {s.key: s.record["of"] for s in ledger.segments("questions")}
    held = records["eval"]
    # The one that can be read of two is kept, with its gold answer.
    assert {(of[0][1], of[0][2]) for id, of in held.items() if "-7-" not in id} == {
        ("How many mills?", str(int(id.split("-")[1]) + 30)) for id in held if "-7-" not in id
    }
    assert set(found["contexts"]) == {id for id in held if "-7-" not in id}
    every = {*records["train"], *held}
    assert sorted(writer) == sorted(every)  # each once
    left = found["left_out"]["train"] | found["left_out"]["eval"]
    mute = sum("-7-" in id for id in every)
    assert sum("no question could be read" in reason for reason in left) == mute

    # A run that is continued asks no more.
    writer.clear()
    (tmp_path / "run" / "results.json").unlink()
    again = train.train(settings, workdir, quiet=True)
    assert not writer and again["arms"] == found["arms"]

    # Every table says whose questions they are, and reports show their text.
    page = html.unescape(report.write(workdir, str(tmp_path / "report.html")).read_text())
    assert "accuracy on the policy's questions" in page and "How many mills?" in page
    copy = str(shutil.copytree(workdir, tmp_path / "copy"))
    compared = compare_table.table(compare.compare([workdir, copy]))
    assert "accuracy on the policy's questions" in compared and "written by the policy" in compared


def test_a_teacher_writes_questions(settings, change, tmp_path):
    file = tmp_path / "teacher.jsonl"
    settings = change(settings, {"data.questions": "teacher", "teacher.file": str(file)})
    task = registry.open_task(settings)
    contexts = [*task.contexts("train"), *task.contexts("eval")]
    rows = [{"context": c.id, "completion": _pairs(c.id)} for c in contexts]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    with pytest.raises(ValueError, match=r"teacher\.jsonl: \d of \d contexts have a completion"):
        train.train(settings, str(tmp_path / "refused"), quiet=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = train.train(settings, str(tmp_path / "run"), quiet=True)
    _labelled(found, "teacher")
    assert all(
        len(arm["questions"]) == 1
        for of in found["contexts"].values()
        for arm in of["arms"].values()
    )


def test_questions_that_cannot_be_read_are_refused(settings, change, writer, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "_pairs", lambda name: "I do not know.")
    settings = change(settings, {"data.questions": "policy"})
    with pytest.raises(SettingsError, match=r"the policy wrote no question.*'teacher'"):
        train.train(settings, str(tmp_path / "run"), quiet=True)


def test_a_reward_without_questions_asks_for_none(settings, change, writer, tmp_path, capsys):
    reward = Reward(kind="length", replicates=1)
    found = train.train(change(settings, {"reward": reward}), str(tmp_path / "run"))
    assert not writer and "arms" not in found
    gain = found["planted_reward"]
    assert gain["difference"] == pytest.approx(gain["after"] - gain["before"])
    assert "reward 'length' of self-edits about held-out contexts" in capsys.readouterr().out
