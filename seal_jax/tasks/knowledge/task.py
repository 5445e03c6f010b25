"""Knowledge incorporation: self-edits about passages, tested by questions without the passage."""

import importlib.resources
import os
from importlib.resources.abc import Traversable

from seal_jax.tasks.base import Context, Question, Split, Verdict
from seal_jax.tasks.knowledge import parse, prompt, squad
from seal_jax.tasks.knowledge.grade import grade
from seal_jax.tasks.knowledge.squad import DataError, Skipped


class KnowledgeTask:
    """The `Task` of SEAL's knowledge incorporation (arXiv 2506.10943), on SQuAD v1.1 files.

    What the policy and the inner loop see is made of titles, passages and self-edits only;
    questions enter `query`, and gold answers enter `grade`, and nothing else.
    """

    def __init__(
        self,
        *,
        train_path: str | os.PathLike | None = None,
        eval_path: str | os.PathLike | None = None,
        max_train: int | None = None,
        max_eval: int | None = None,
        min_words: int | None = None,
        max_words: int | None = None,
        edit_format: str = "implications",
        prompts_dir: str | os.PathLike | None = None,
        edit_style: str = "chat",
        question_style: str = "chat",
        append_passage: bool = True,
        title_prefix: bool = True,
    ):
        """Reads both splits and the templates.

        Args:
          train_path, eval_path: SQuAD v1.1 files; None for the invented passages of the package.
          max_train, max_eval: keep at most so many contexts of a split, the first in file order
            after the length limits; None for all.
          min_words, max_words: keep passages of so many words, both included; None for no limit.
          edit_format: a key of `prompt.EDIT_FORMATS`.
          prompts_dir: directory of other templates; None for those of the package.
          edit_style, question_style: "chat" or "plain"; see `prompt.load_prompts`.
          append_passage: whether the passage is the last sequence of every self-edit.
          title_prefix: whether every sequence begins with the article's title.

        Raises:
          DataError: a file cannot be used, the two files share an article or a passage, or the
            limits leave nothing.
          PromptError: unknown edit format, or a template that cannot be used.
          ValueError: a limit that cannot be met.
        """
        _check_limits(
            max_train=max_train, max_eval=max_eval, min_words=min_words, max_words=max_words
        )
        if min_words is not None and max_words is not None and min_words > max_words:
            raise ValueError(
                f"min_words ({min_words}) is above max_words ({max_words}); no passage can pass."
            )
        self._prompts = prompt.load_prompts(
            edit_format, prompts_dir, edit_style=edit_style, question_style=question_style
        )
        self._append_passage = append_passage
        self._title_prefix = title_prefix
        train, self._skipped_train = squad.load(_or_packaged(train_path, "demo_train.json"))
        evaluation, self._skipped_eval = squad.load(_or_packaged(eval_path, "demo_eval.json"))
        squad.check_disjoint(train, evaluation)
        self._train = _limit(train, "training", min_words, max_words, max_train)
        self._eval = _limit(evaluation, "evaluation", min_words, max_words, max_eval)

    def contexts(self, split: Split) -> list[Context]:
        """All contexts of a split, in file order, within the limits."""
        return list(self._train if _is_train(split) else self._eval)

    def skipped(self, split: Split) -> list[Skipped]:
        """What the loader left out of a split's file, with reasons; not what the limits removed."""
        return list(self._skipped_train if _is_train(split) else self._skipped_eval)

    def edit_prompt(self, context: Context) -> str:
        """The user's turn that asks for a self-edit: the template with title and passage."""
        values = {"title": context.title, "passage": context.text}
        return prompt.render(self._prompts.edit, values)

    def sequences(self, context: Context, self_edit: str) -> list[str]:
        """The training sequences of a self-edit, the passage last.

        Empty, without the passage, where nothing visible is in the self-edit: such a candidate
        gets no reward, and the caller records why.
        """
        return parse.training_sequences(
            context.title,
            context.text,
            self_edit,
            rule=self._prompts.split,
            append_passage=self._append_passage,
            title_prefix=self._title_prefix,
        )

    def passage_sequences(self, context: Context) -> list[str]:
        """The one training sequence of the passage-only arm."""
        return [parse.sequence(context.title, context.text, title_prefix=self._title_prefix)]

    def query(self, context: Context, question: Question) -> str:
        """The user's turn that asks a question under its topic, without the passage."""
        values = {"title": context.title, "question": question.text}
        return prompt.render(self._prompts.question, values)

    def grade(self, question: Question, prediction: str) -> Verdict:
        """The local grader's verdict on a prediction (see `grade`)."""
        return grade(question.answer, prediction, question.text)


def _or_packaged(path: str | os.PathLike | None, name: str) -> str | os.PathLike | Traversable:
    """The given path, or a data file of this package."""
    if path is not None:
        return path
    return importlib.resources.files("seal_jax.tasks.knowledge") / "data" / name


def _is_train(split: str) -> bool:
    """Whether a split's name is that of the training split."""
    if split not in ("train", "eval"):
        raise ValueError(f"unknown split {split!r}; expected 'train' or 'eval'.")
    return split == "train"


def _check_limits(**limits: int | None) -> None:
    """Refuses limits that are not positive integers."""
    for name, limit in limits.items():
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int) or limit < 1
        ):
            raise ValueError(f"{name} must be a positive integer or None, not {limit!r}.")


def _limit(
    contexts: list[Context],
    name: str,
    min_words: int | None,
    max_words: int | None,
    limit: int | None,
) -> tuple[Context, ...]:
    """The first `limit` contexts whose passages have the right number of words."""
    low, high = min_words or 0, max_words or float("inf")
    kept = [context for context in contexts if low <= len(context.text.split()) <= high]
    if not kept:
        lengths = [len(context.text.split()) for context in contexts]
        raise DataError(
            f"no {name} passage has between min_words={min_words} and max_words={max_words} words; "
            f"the {len(contexts)} passages have {min(lengths)} to {max(lengths)}. Widen the limits."
        )
    return tuple(kept[:limit])
