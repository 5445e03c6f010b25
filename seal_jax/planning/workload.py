"""How long texts are expected to be, and how often a round runs each program.

The lengths that are not set are those of the authors' published self-edits and of SQuAD, counted
with a byte-level tokenizer of 49,152 tokens: 250 self-edits of 228 tokens and 7.7 lines on average
(the longest of 50 has 1,468), for 50 prompts of up to 405 tokens; passages of 175 tokens and lines
of 33 (title included), and questions of 19 tokens, 4.9 to a passage.
"""

import dataclasses
import math

from seal_jax.settings import Settings
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Bounds

_UNBOUNDED = Bounds()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
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

    longest_prompt: int = 405
    edit_tokens: int = 228
    longest_edit: int = 1468
    lines: int = 8
    line_tokens: int = 33
    passage_tokens: int = 175
    question_tokens: int = 19
    questions: int = 5
    golds: int = 0
    contexts: int = 0
    epochs: int = 0
    bounds: Bounds = _UNBOUNDED

    def __post_init__(self):
        least = {
            f.name: int(f.default > 0)
            for f in dataclasses.fields(self)
            if isinstance(f.default, int)
        }
        wrong = [name for name, number in least.items() if getattr(self, name) < number]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must be at least 1.")

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """How often a round runs each program.

    Attributes:
      samplings: batches of contexts; new_tokens: steps of each one's loop.
      updates: groups of K candidates; inner_steps: optimizer steps of each.
      asked: times that K models are asked, once for each group and once without a delta;
        believed: that they are asked for the likelihood of known answers.
      answer_tokens: steps of the loop that answers.
      m_steps: optimizer steps of the M-step.
    """

    samplings: int
    new_tokens: int
    updates: int
    inner_steps: int
    asked: int
    believed: int
    answer_tokens: int
    m_steps: int


def counts(settings: Settings, work: Workload) -> Counts:
    """How often a round runs each program, if texts are as long as `work` says.

    >>> found = counts(Settings(), Workload())
    >>> (found.samplings, found.updates, found.inner_steps, found.m_steps)
    (5, 96, 90, 10)
    """
    edits, inner, restem = settings.edits, settings.inner, settings.restem
    contexts = work.contexts or restem.contexts_per_round
    tried = settings.reward.needs_inner_loop
    updates = settings.reward.replicates * math.ceil(contexts * edits.samples / inner.candidates)
    plain = math.ceil(contexts / inner.candidates)
    parts, known = (
        math.ceil(number / settings.answers.questions_at_once)
        for number in (work.questions, work.golds or work.questions)
    )
    steps = (work.epochs or inner.epochs) * math.ceil(work.sequences / inner.batch_size)
    kept = {"all": edits.samples, "weighted": edits.samples, "top_k": restem.top_k}
    rows = contexts * kept.get(restem.rule, 1)
    return Counts(
        samplings=math.ceil(contexts / edits.contexts_per_batch),
        new_tokens=work.longest_edit,
        updates=updates * tried,
        inner_steps=min(steps, work.bounds.steps or steps),
        asked=(updates + plain) * parts * tried,
        believed=(updates + plain) * known * tried,
        answer_tokens=settings.answers.max_new_tokens,
        m_steps=restem.sft.epochs * math.ceil(rows / restem.sft.batch_size),
    )
