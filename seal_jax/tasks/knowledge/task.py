"""Knowledge incorporation: self-edits about passages, tested by questions without the passage."""

import dataclasses
import importlib.resources
import os
from collections.abc import Sequence
from importlib.resources.abc import Traversable

from seal_jax.tasks.knowledge import parse, prompt, splits, squad
from seal_jax.tasks.knowledge.squad import DataError, Skipped
from seal_jax.tasks.protocol import Context, Question, Split

_READING_PLACEHOLDERS = frozenset({"title", "passage", "question"})


class KnowledgeTask:
    """The `Task` of SEAL's knowledge incorporation (arXiv 2506.10943), on SQuAD v1.1 files.

    What the policy and the inner loop see is made of titles, passages and self-edits only;
    questions enter `query` and `reading_query`, and gold answers nothing at all.
    """

    def __init__(
        self,
        *,
        train_path: str | os.PathLike | None = None,
        eval_path: str | os.PathLike | None = None,
        data_dir: str | os.PathLike | None = None,
        train_part: splits.Part = "all",
        eval_part: splits.Part = "all",
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
        topic_prefix: bool = True,
    ):
        """Reads both splits and the templates.

        Args:
          train_path, eval_path: SQuAD v1.1 files, or names of TFDS datasets that begin with "tfds:"
            (see `tfds.reader`); None for the invented passages of the package.
          data_dir: where TFDS datasets are kept; None for TFDS's own choice.
          train_part, eval_part: which contexts of a file are used; see `splits.part_of`.
          max_train, max_eval: keep at most so many contexts of a split, the first in file order
            after the length limits; None for all.
          min_words, max_words: keep passages of so many words, both included; None for no limit.
          edit_format: the name of a template; see `prompt.edit_formats`.
          prompts_dir: directory of templates that go before the package's; None for none.
          edit_style, question_style: "chat" or "plain"; see `prompt.load_prompts`.
          append_passage: whether the passage is the last sequence of every self-edit.
          title_prefix: whether every sequence begins with the article's title.
          topic_prefix: whether every question comes under the article's title.

        Raises:
          DataError: a file cannot be used, or is not the one that a part is of; the two splits
            share an article or a passage; or the limits leave nothing.
          PromptError: unknown edit format, or a template that cannot be used.
          ValueError: an unknown part, or a limit that cannot be met.
        """
        _check_limits(
            max_train=max_train, max_eval=max_eval, min_words=min_words, max_words=max_words
        )
        if min_words is not None and max_words is not None and min_words > max_words:
            raise ValueError(
                f"min_words ({min_words}) is above max_words ({max_words}); no passage can pass."
            )
        self._prompts = prompt.load_prompts(
            edit_format,
            prompts_dir,
            edit_style=edit_style,
            question_style=question_style,
            topic_prefix=topic_prefix,
        )
        self._reading = prompt.load_template(
            "reading", _READING_PLACEHOLDERS, prompts_dir, style=question_style
        )
        self._append_passage = append_passage
        self._title_prefix = title_prefix
        train, evaluation = (
            _load(_or_packaged(path, packaged), part, data_dir)
            for path, packaged, part in (
                (train_path, "demo_train.json", train_part),
                (eval_path, "demo_eval.json", eval_part),
            )
        )
        squad.check_disjoint(train.contexts, evaluation.contexts)
        self._train = _limit(train, "training", min_words, max_words, max_train)
        self._eval = _limit(evaluation, "evaluation", min_words, max_words, max_eval)

    def contexts(self, split: Split) -> list[Context]:
        """All contexts of a split, in file order, within the limits."""
        return list(self._of(split).contexts)

    def skipped(self, split: Split) -> list[Skipped]:
        """What was left out of a split, with reasons.

        First the parts of the file that cannot be used, then repeated passages, then those that are
        too short or too long; not what another part or `max_train` and `max_eval` leave out.
        """
        return list(self._of(split).skipped)

    def difference(self, split: Split) -> str:
        """How a "like_paper" split differs from the paper's; "" for equal or other parts."""
        return self._of(split).difference

    @property
    def writes(self) -> bool:
        """False for a format without a self-edit ("none"): there is nothing to sample."""
        return self._prompts.writes

    def edit_prompt(self, context: Context) -> str:
        """The user's turn that asks for a self-edit: the template with title and passage.

        Raises:
          PromptError: the format has no self-edit (see `writes`).
        """
        if not self.writes:
            raise prompt.PromptError(
                "this edit format has no self-edit to ask for: only the passage is trained on. Set "
                "prompts.edit_format to another one, such as 'implications'."
            )
        values = {"title": context.title, "passage": context.text}
        return prompt.render(self._prompts.edit, values)

    def sequences(self, context: Context, self_edit: str) -> list[str]:
        """The training sequences of a self-edit, the passage last.

        Empty, without the passage, where nothing visible is in the self-edit: such a candidate
        gets no reward, and the caller records why. A format without a self-edit gives the passage.
        """
        if not self.writes:
            return self.passage_sequences(context)
        return parse.training_sequences(
            context.title,
            context.text,
            self_edit,
            rule=self._prompts.split,
            after=self._prompts.after,
            append_passage=self._append_passage,
            title_prefix=self._title_prefix,
        )

    def passage_sequences(self, context: Context) -> list[str]:
        """The one training sequence of the passage-only arm."""
        return [parse.sequence(context.title, context.text, title_prefix=self._title_prefix)]

    def corpus_sequences(
        self,
        context: Context,
        completions: Sequence[str],
        *,
        passage: parse.CorpusPassage = "once",
    ) -> list[str]:
        """The sequences of one passage in continued pretraining over many passages.

        Whole completions, not lines (see `parse.corpus_sequences`, which says how often the passage
        is there). Without completions, or in a format without a self-edit, it is the passage-only
        arm's part of the corpus.
        """
        return parse.corpus_sequences(
            context.title,
            context.text,
            completions if self.writes else (),
            passage=passage,
            after=self._prompts.after,
            title_prefix=self._title_prefix,
        )

    def query(self, context: Context, question: Question) -> str:
        """The user's turn that asks a question, under its topic or alone; never the passage."""
        values = {"title": context.title, "question": question.text}
        return prompt.render(self._prompts.question, values)

    def reading_query(self, context: Context, question: Question) -> str:
        """The user's turn that asks a question with its passage: what reading alone is worth."""
        values = {"title": context.title, "passage": context.text, "question": question.text}
        return prompt.render(self._reading, values)

    def _of(self, split: str) -> "_Loaded":
        """What was loaded for a split."""
        if split not in ("train", "eval"):
            raise ValueError(f"unknown split {split!r}; expected 'train' or 'eval'.")
        return self._train if split == "train" else self._eval


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """The contexts of a split, and what to say about them."""

    contexts: tuple[Context, ...]
    skipped: tuple[Skipped, ...]
    difference: str


def _load(
    source: str | os.PathLike | Traversable, part: splits.Part, data_dir: str | os.PathLike | None
) -> _Loaded:
    """A part of a file or of a TFDS dataset, without repeated passages."""
    if isinstance(source, str) and source.startswith("tfds:"):
        from seal_jax.tasks.knowledge.tfds import reader  # TFDS takes its time to import

        contexts, skipped = reader.load(source, data_dir=data_dir)
    else:
        contexts, skipped = squad.load(source)
    try:
        chosen = splits.part_of(contexts, part)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    contexts, repeated = squad.distinct(chosen.contexts)
    return _Loaded(tuple(contexts), (*skipped, *repeated), chosen.difference)


def _or_packaged(path: str | os.PathLike | None, name: str) -> str | os.PathLike | Traversable:
    """The given path, or a data file of this package."""
    if path is not None:
        return path
    return importlib.resources.files("seal_jax.tasks.knowledge") / "data" / name


def _check_limits(**limits: int | None) -> None:
    """Refuses limits that are not positive integers."""
    for name, limit in limits.items():
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int) or limit < 1
        ):
            raise ValueError(f"{name} must be a positive integer or None, not {limit!r}.")


def _limit(
    loaded: _Loaded, name: str, min_words: int | None, max_words: int | None, limit: int | None
) -> _Loaded:
    """The first `limit` contexts whose passages have the right number of words."""
    low, high = min_words or 0, max_words or float("inf")
    kept, skipped, lengths = [], [], []
    for context in loaded.contexts:
        words = len(context.text.split())
        lengths.append(words)
        if low <= words <= high:
            kept.append(context)
            continue
        reason = f"fewer words than min_words ({min_words})"
        if words > high:
            reason = f"more words than max_words ({max_words})"
        skipped.append(Skipped(f"{context.id} ({words} words)", f"the passage has {reason}"))
    if not kept:
        raise DataError(
            f"no {name} passage has between min_words={min_words} and max_words={max_words} words; "
            f"the {len(lengths)} passages have {min(lengths)} to {max(lengths)}. Widen the limits."
        )
    return _Loaded(tuple(kept[:limit]), (*loaded.skipped, *skipped), loaded.difference)
