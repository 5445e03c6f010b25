"""What is trained on and asked: published self-edits, or synthetic ones where they are absent."""

import json
import os
import pathlib
from collections.abc import Sequence

from seal_jax.doctor.problems import MAX_SEQUENCES, Problems, synthetic
from seal_jax.tasks.knowledge import parse, squad
from seal_jax.tasks.knowledge.task import KnowledgeTask
from seal_jax.tasks.protocol import Context, Question
from seal_jax.weights import demo_model, encoding, tokenizer

BUCKETS = (16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 320, 384)
TINY_BUCKETS = (12, 24)
_EDITS, _QUESTIONS = "reference/ranked_round1.json", "squad/squad-v1.1-validation.json"


def data_root() -> pathlib.Path:
    """`$SEAL_JAX_DATA`, or shared/data beside the repository."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    return pathlib.Path(os.environ.get("SEAL_JAX_DATA", beside))


def load(*, tiny: bool) -> Problems:
    """The published self-edits with SmolLM2's tokenizer, or synthetic problems.

    Raises:
      demo_model.DemoModelError: the tokenizer cannot be had.
    """
    if tiny:
        return synthetic(
            vocab_size=384,
            counts=(2, 3, 3, 4, 2, 4, 3, 3, 5, 4, 2, 3),
            longest=24,
            buckets=TINY_BUCKETS,
            question_sets=4,
            prompt=12,
        )
    root = data_root()
    if not (root / _EDITS).exists():
        return synthetic(
            vocab_size=49152,
            counts=tuple(6 + i % 6 for i in range(32)),
            longest=160,
            buckets=BUCKETS,
            question_sets=8,
            prompt=48,
        )
    words = tokenizer.from_gguf(demo_model.fetch())
    task = KnowledgeTask(edit_style="chat", question_style="chat")
    passages = json.loads((root / _EDITS).read_text("utf-8"))
    edits = []
    for passage in passages:
        for completion in passage["completions"]:
            texts = parse.training_sequences(
                passage["title"], passage["context"], completion["text"], rule="lines"
            )
            encoded = [tuple(words(text)["input_ids"]) for text in texts]
            usable = [tokens[: BUCKETS[-1]] for tokens in encoded if len(tokens) >= 2]
            fits = len(usable) <= MAX_SEQUENCES  # of too many the first and the passage stay
            edits.append(tuple(usable if fits else usable[: MAX_SEQUENCES - 1] + usable[-1:]))
    matched, contexts = _asked(passages, root)
    return Problems(
        source=f"{len(edits)} published self-edits of {len(passages)} SQuAD passages; questions of "
        + ("the same passages" if matched else "other passages (timing only)"),
        buckets=BUCKETS,
        edits=tuple(edits),
        questions=tuple(
            tuple(_question(words, task, context, question) for question in context.questions[:5])
            for context in contexts
        ),
        edit_prompts=tuple(
            tuple(encoding.encode_prompt(words, task.edit_prompt(context))) for context in contexts
        ),
        stop_ids=tokenizer.stop_token_ids(words),
        padded_length=2048,
    )


def _asked(passages: Sequence[dict], root: pathlib.Path) -> tuple[bool, list[Context]]:
    """(whether they are those of the self-edits, contexts with at least five questions)."""
    contexts, _ = squad.load(root / _QUESTIONS)
    full = [context for context in contexts if len(context.questions) >= 5]
    texts = {passage["context"].strip() for passage in passages}
    own = [context for context in full if context.text in texts]
    return (True, own) if len(own) >= 8 else (False, full[:8])


def _question(
    words, task, context: Context, question: Question
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    prompt = encoding.encode_prompt(words, task.query(context, question))
    return tuple(prompt), tuple(words(question.answer, add_special_tokens=False)["input_ids"])
