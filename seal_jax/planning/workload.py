"""How long texts are expected to be, and how often a round runs each program.

The lengths that are not set are those of the authors' published self-edits and of SQuAD, counted
with a byte-level tokenizer of 49,152 tokens: 250 self-edits of 228 tokens and 7.7 lines on average
(the longest of 50 has 1,468), for 50 prompts of up to 405 tokens; passages of 175 tokens and lines
of 33 (title included), and questions of 19 tokens, 4.9 to a passage.
"""

import dataclasses
import math
from typing import NamedTuple

from seal_jax.settings import Settings
from seal_jax.settings.checks import Checked, Count, Limit
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Bounds

_UNBOUNDED = Bounds()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload(Checked):
    """Lengths in tokens, and numbers, of the texts of a run.

    Attributes:
      longest_prompt: of the longest of those prompts for self-edits that are sampled together.
      edit_tokens: of a self-edit, on average; longest_edit: of the longest of those that are
        sampled together (the sampling loop waits for it) or trained on (rows are as wide as it).
      lines: training sequences of a self-edit beside the passage; line_tokens: of each.
      passage_tokens: of a passage.
      question_tokens: of a question; questions: of a passage
        (prompts, where several ask one).
      golds: known answers of a passage, whose likelihood is asked for; 0 is one a question.
      contexts: of a round; epochs: of an inner loop. 0 is as the settings say.
      bounds: of an inner loop.
    """

    longest_prompt: Count = 405
    edit_tokens: Count = 228
    longest_edit: Count = 1468
    lines: Count = 8
    line_tokens: Count = 33
    passage_tokens: Count = 175
    question_tokens: Count = 19
    questions: Count = 5
    golds: Limit = 0
    contexts: Limit = 0
    epochs: Limit = 0
    bounds: Bounds = _UNBOUNDED

    def within(self, task: Task) -> "Workload":
        """The same in a run of the task: cut to what it lets through, with its rounds and bounds.

        >>> from seal_jax.settings import Edits
        >>> Workload().within(Task(Settings(edits=Edits(max_new_tokens=64)))).longest_edit
        64
        """
        settings, bounds = task.settings, task.bounds()
        limit, longest = settings.edits.max_new_tokens, settings.inner.buckets[-1]
        # Where golds are known, questions are prompts, of which several may ask one question.
        asked = self.questions if self.golds else settings.data.max_questions or self.questions
        return dataclasses.replace(
            self,
            longest_prompt=min(self.longest_prompt, settings.edits.prompt_buckets[-1]),
            edit_tokens=min(self.edit_tokens, limit),
            longest_edit=min(max(self.longest_edit, self.edit_tokens), limit),
            lines=min(self.lines, (bounds.sequences or settings.inner.max_sequences) - 1),
            line_tokens=min(self.line_tokens, longest),
            passage_tokens=min(self.passage_tokens, longest),
            question_tokens=min(self.question_tokens, settings.answers.prompt_buckets[-1]),
            questions=min(self.questions, asked),
            contexts=len(task.contexts("train")) if task.takes_all else self.contexts,
            bounds=bounds,
        )

    @property
    def sequences(self) -> int:
        """Training sequences of a candidate, the passage included."""
        return self.lines + 1


class Runs(NamedTuple):
    """How often a round calls a program, and how many steps the loop of one call takes."""

    calls: int
    steps: int = 1


def counts(settings: Settings, work: Workload) -> dict[str, Runs]:
    """How often a round runs each program, if texts are as long as `work` says, by its name.

    >>> found = counts(Settings(), Workload())
    >>> found["sampling"], found["inner update"], found["M-step"].calls
    (Runs(calls=5, steps=1468), Runs(calls=96, steps=90), 10)
    """
    edits, inner, restem, answers = (
        settings.edits,
        settings.inner,
        settings.restem,
        settings.answers,
    )
    contexts = work.contexts or restem.contexts_per_round
    found = {"sampling": Runs(math.ceil(contexts / edits.contexts_per_batch), work.longest_edit)}
    if settings.reward.needs_inner_loop:
        kept = restem.most_kept(edits.samples) if restem.lines != "all" else 0
        tried = contexts * (edits.samples + kept * work.lines)
        groups = math.ceil(tried / inner.candidates)
        updates = settings.reward.replicates * groups
        # Models are asked once for each group of K candidates, and once without a delta.
        askings = updates + math.ceil(contexts / inner.candidates)
        asked, known = (
            askings * math.ceil(number / answers.questions_at_once)
            for number in (work.questions, work.golds or work.questions)
        )
        steps = (work.epochs or inner.epochs) * math.ceil(work.sequences / inner.batch_size)
        found["inner update"] = Runs(updates, min(steps, work.bounds.steps or steps))
        found["answers"] = Runs(asked, answers.max_new_tokens)
        found["log-likelihoods"] = Runs(known)
    batches = math.ceil(contexts * restem.most_kept(edits.samples) / restem.sft.batch_size)
    passes = restem.sft.epochs + (restem.update != "restem")  # the log-likelihoods at the start
    found["M-step"] = Runs(passes * batches)
    return found
