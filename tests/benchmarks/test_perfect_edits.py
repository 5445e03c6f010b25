"""Texts of a perfect editor, as the arm "teacher" reads them."""

import importlib.resources

from benchmarks import perfect_edits
from seal_jax.judges import teacher
from seal_jax.tasks.knowledge import squad

DEMO = importlib.resources.files("seal_jax.tasks.knowledge") / "data" / "demo_eval.json"


def _texts(tmp_path, form):
    out = tmp_path / f"{form}.jsonl"
    assert perfect_edits.main([f"--eval_path={DEMO}", f"--form={form}", f"--out={out}"]) == 0
    contexts, _ = squad.load(DEMO)
    found = teacher.read_completions(out, {context.id: "" for context in contexts})
    return [(context, found.texts[context.id][0]) for context in contexts]


def test_sentences_are_the_passage_on_several_lines(tmp_path):
    texts = _texts(tmp_path, "sentences")
    for context, text in texts:
        assert text.split() == context.text.split()
    assert all(len(text.splitlines()) > 2 for _, text in texts)
    assert perfect_edits.sentences(texts[0][0]).splitlines()[0].endswith(".")


def test_answers_are_the_questions_with_their_gold(tmp_path):
    for context, text in _texts(tmp_path, "answers"):
        lines = text.splitlines()
        assert len(lines) == len(context.questions)
        for line, question in zip(lines, context.questions, strict=True):
            assert line == f"{question.text} {question.answer}"
