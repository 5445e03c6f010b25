"""What is trained on and asked: published self-edits, or synthetic ones where they are absent."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from seal_jax.core import batching
from seal_jax.tasks.knowledge import parse, squad
from seal_jax.tasks.knowledge.task import KnowledgeTask
from seal_jax.tasks.protocol import Context, Question
from seal_jax.weights import demo_model, encoding, tokenizer

MAX_SEQUENCES = 64
BUCKETS = (16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 320, 384)
TINY_BUCKETS = (12, 24)
_EDITS, _QUESTIONS = "reference/ranked_round1.json", "squad/squad-v1.1-validation.json"

Tokens = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problems:
    """What the contestants work on, as token ids.

    Attributes:
      source: one line on where it is from.
      buckets: row lengths for our programs.
      edits: the training sequences of each self-edit.
      questions: sets of (prompt, gold answer).
      edit_prompts: prompts that ask for a self-edit.
      stop_ids: tokens that end an answer.
      padded_length: length to which the padded contestant pads.
    """

    source: str
    buckets: tuple[int, ...]
    edits: tuple[tuple[Tokens, ...], ...]
    questions: tuple[tuple[tuple[Tokens, Tokens], ...], ...]
    edit_prompts: tuple[Tokens, ...]
    stop_ids: tuple[int, ...]
    padded_length: int

    def lengths(self) -> list[list[int]]:
        return [[len(sequence) for sequence in edit] for edit in self.edits]

    def costs(self) -> list[tuple[int, int]]:
        """What `batching.groups_of_like_cost` groups by."""
        return [(len(lengths), sum(lengths)) for lengths in self.lengths()]

    def group(self, size: int, offset: int = 0) -> list[tuple[Tokens, ...]]:
        """The self-edits of one group: the middle one of the plan, or one `offset` from it."""
        groups = batching.groups_of_like_cost(self.costs(), size=size)
        return [self.edits[index] for index in groups[(len(groups) // 2 + offset) % len(groups)]]

    def questions_of(self, count: int) -> list[tuple[tuple[Tokens, Tokens], ...]]:
        """A set of questions for each of `count` candidates."""
        return [self.questions[k % len(self.questions)] for k in range(count)]


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
        return _synthetic(
            vocab_size=384,
            counts=(2, 3, 3, 4, 2, 4, 3, 3, 5, 4, 2, 3),
            longest=24,
            buckets=TINY_BUCKETS,
            question_sets=4,
            prompt=12,
        )
    root = data_root()
    if not (root / _EDITS).exists():
        return _synthetic(
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
            edits.append(
                batching.trim(
                    encoded, max_sequences=MAX_SEQUENCES, max_tokens=BUCKETS[-1]
                ).sequences
            )
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


def _question(words, task, context: Context, question: Question) -> tuple[Tokens, Tokens]:
    prompt = encoding.encode_prompt(words, task.query(context, question))
    return tuple(prompt), tuple(words(question.answer, add_special_tokens=False)["input_ids"])


def _synthetic(*, vocab_size, counts, longest, buckets, question_sets, prompt) -> Problems:
    """Random tokens in the proportions of the published self-edits: short lines, one long text."""
    rng = np.random.default_rng(0)

    def tokens(length) -> Tokens:
        return tuple(int(token) for token in rng.integers(3, vocab_size, length))

    short = max(4, longest // 6)
    return Problems(
        source=f"{len(counts)} synthetic self-edits of random tokens",
        buckets=buckets,
        edits=tuple(
            (
                *(tokens(rng.integers(short // 2, 2 * short)) for _ in range(count - 1)),
                tokens(rng.integers(longest // 2, longest + 1)),
            )
            for count in counts
        ),
        questions=tuple(
            tuple((tokens(prompt - i), tokens(2 + i % 3)) for i in range(5))
            for _ in range(question_sets)
        ),
        edit_prompts=tuple(tokens(2 * prompt + i) for i in range(4)),
        stop_ids=(2,),
        padded_length=64 if longest < 64 else 2048,
    )
