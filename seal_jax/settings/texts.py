"""What is read, written and asked: contexts, prompts, self-edits, answers."""

import dataclasses
from typing import Literal

from seal_jax.core.specs import SampleSettings
from seal_jax.settings.checks import Buckets, Checked, Count, Limit, Place, require
from seal_jax.tasks import directives as directives_lib
from seal_jax.tasks import splits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Checked):
    """Contexts and their questions: texts, Markdown, and JSON of several forms (docs/data.md).

    Attributes:
      train_path, eval_path: files, directories of files, or TFDS names that begin with "tfds:"; ""
        is the demo's own passages. Where train_path is a directory and eval_path is "", some of its
        documents are held out for the evaluation. eval_path may also be "demo:confirm" or
        "demo:reserve": passages that are held back from all design (docs/data.md).
      held_out: the share of the documents that are, at least one.
      questions: "file", those of the data; or they are written, with their answers, by the "policy"
        that the run starts from or by the `teacher`, and labelled so in every table.
      dir: where TFDS datasets are kept; "" is TFDS's own choice.
      edits: a file of passages with texts about them by named sources (docs/bench.md), in the place
        of eval_path: each source is an arm. `seal bench` sets it.
      train_part, eval_part: which contexts of a file are used: "all"; the "development" or "test"
        half of its articles; "paper", the 200 passages of the paper's evaluation, from SQuAD's
        official development file; "like_paper", the same choice on any file.
      development: the share of the passages that the "development" part has; the rest is "test".
      max_train_contexts, max_eval_contexts: how many contexts of a file are used, in file order
        after the length limits; 0 is all of them.
      min_words, max_words: passages of other lengths are left out; 0 is no limit. Texts and
        Markdown are split into passages of at most max_words (0: 150).
      max_questions: questions of a context that are asked (the first ones); 0 is all of them, or 5
        where they are written.
    """

    train_path: Place = ""
    eval_path: Place = ""
    held_out: float = 0.2
    questions: Literal["file", "policy", "teacher"] = "file"
    dir: Place = ""
    edits: Place = ""
    train_part: splits.Part = "all"
    eval_part: splits.Part = "all"
    development: float = 0.5
    max_train_contexts: Limit = 0
    max_eval_contexts: Limit = 0
    min_words: Limit = 0
    max_words: Limit = 0
    max_questions: Limit = 0

    def validate(self):
        require(
            not self.max_words or self.min_words <= self.max_words,
            f"min_words ({self.min_words}) must not exceed max_words ({self.max_words}).",
        )
        for name in ("held_out", "development"):
            share = getattr(self, name)
            require(0 < share < 1, f"{name} must be between 0 and 1, not {share}.")
        require(
            not self.edits or (not self.eval_path and self.questions == "file"),
            "edits has passages and questions of its own: leave eval_path and questions alone.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts(Checked):
    """Prompt templates.

    Attributes:
      dir: a directory with templates that go before the package's own; "" is none.
      edit_format: which self-edit the policy is asked for: the name of a template in dir or in the
        package ("implications", "implications_long", "implications_very_long", "rewrite",
        "self_qa", "chain_of_thought", "study", or "none": the passage only). See docs/formats.md.
    """

    dir: Place = ""
    edit_format: str = "implications"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edits(Checked):
    """Sampling self-edits, and how their text becomes training sequences.

    Attributes:
      prompt_style: "chat" asks in the words of a user and the tokenizer's chat template; "plain"
        gives the model a text to continue (base models).
      samples: M, self-edits a context.
      temperature: of the sampling, above 0; self-edits differ more where it is higher.
      top_p: tokens are drawn from the likeliest ones that hold this share of the probability; 1 is
        all of them.
      top_k: tokens are drawn from so many of the likeliest ones; 0 is all of them.
      max_new_tokens: length limit of a self-edit.
      contexts_per_batch: contexts sampled together.
      prompt_buckets: lengths that prompts may be padded to, in tokens.
      append_passage: the passage itself is the last training sequence.
      gaps: at most so many questions with answers are made of each passage and learned: its
        sentences with a gap, "The tower was built by what in 1902."
      title_prefix: every sequence begins with the article's title.
      directives: what a self-edit says of its own inner update, in a line of JSON before its text:
        "learning_rate", "epochs" or both; () is nothing. The group `directives` has the limits.
      from_run: the directory of a run whose self-edits are used again where a stage of the same
        name would sample; "" samples. For inner-loop ablations that change nothing else.
    """

    prompt_style: Literal["chat", "plain"] = "plain"
    samples: Count = 5
    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 0
    max_new_tokens: int = 8192
    contexts_per_batch: Count = 10
    prompt_buckets: Buckets = (128, 192, 256, 384, 512, 1024, 2048)
    append_passage: bool = True
    gaps: Limit = 0
    title_prefix: bool = True
    directives: tuple[str, ...] = ()
    from_run: Place = ""

    def validate(self):
        require(self.temperature > 0, "temperature must be above 0: greedy samples are all equal.")
        names = directives_lib.NAMES
        require(
            set(self.directives) <= set(names) and len({*self.directives}) == len(self.directives),
            f"directives must be of {', '.join(names)}, each once.",
        )
        self.sample_settings(())

    def sample_settings(self, stop_ids: tuple[int, ...]) -> SampleSettings:
        return SampleSettings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop_ids=stop_ids,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers(Checked):
    """What the adapted model is asked, and how it answers.

    Attributes:
      prompt_style: how the questions are put: "chat" in the tokenizer's chat template; "plain" as
        a text to continue (base models).
      max_new_tokens: length limit of an answer.
      temperature: of the answers' sampling; 0 decodes greedily.
      max_gold_tokens: gold answers are cut there for their log-likelihood.
      prompt_buckets: lengths that questions may be padded to, in tokens.
      topic_prefix: every question comes under the article's title.
      questions_at_once: questions of one candidate that one program answers.
    """

    prompt_style: Literal["chat", "plain"] = "plain"
    max_new_tokens: int = 64
    temperature: float = 0.0
    max_gold_tokens: Count = 32
    prompt_buckets: Buckets = (32, 48, 64, 96, 128, 256, 384, 512, 1024)
    topic_prefix: bool = True
    questions_at_once: Count = 8

    def validate(self):
        self.sample_settings(())

    def sample_settings(self, stop_ids: tuple[int, ...]) -> SampleSettings:
        return SampleSettings(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, stop_ids=stop_ids
        )
