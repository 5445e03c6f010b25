"""Self-edits that no model wrote, for the arm "teacher": what perfect editing would be worth.

    python -m benchmarks.perfect_edits --eval_path=dev-v1.1.json --form=sentences --out=texts.jsonl
    seal evaluate ... --config.evaluation.arms=base,passage,teacher \
        --config.teacher.file=texts.jsonl

Forms: "sentences", the passage's own sentences, one a line: nothing false, and as many optimizer
steps as a self-edit of as many lines; "answers", every question with its gold answer: an oracle
that knows the test, and so the ceiling of all editing at that recipe.
"""

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Sequence

from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Context

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(])")


def sentences(context: Context) -> str:
    """The sentences of a passage, one a line.

    >>> sentences(Context("1", "Rome", "Rome fell in 476. Was it the end? It burnt.", ()))
    'Rome fell in 476.\\nWas it the end?\\nIt burnt.'
    """
    return "\n".join(_SENTENCE_END.split(context.text))


def answers(context: Context) -> str:
    """Every question of a passage with its gold answer, one a line."""
    return "\n".join(f"{question.text} {question.answer}" for question in context.questions)


FORMS = {"sentences": sentences, "answers": answers}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a line of JSON for each context of the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perfect_edits", description="Texts of a perfect editor."
    )
    parser.add_argument("--eval_path", required=True, help="a SQuAD v1.1 file")
    parser.add_argument("--form", choices=FORMS, required=True)
    parser.add_argument("--out", required=True, help="the file of JSON lines")
    flags = parser.parse_args(argv)
    contexts, _ = squad.load(flags.eval_path)
    lines = [
        json.dumps({"context": context.id, "completion": FORMS[flags.form](context)})
        for context in contexts
    ]
    pathlib.Path(flags.out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} texts in {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
