"""What is wanted and measured: rewards, the outer loop, the evaluation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from seal_jax.core import specs
from seal_jax.settings import object_reference
from seal_jax.settings.checks import (
    Buckets,
    Checked,
    Count,
    Limit,
    Place,
    Positive,
    Weight,
    regular_expression,
    require,
)
from seal_jax.settings.endpoint import EndpointSettings
from seal_jax.settings.learning import Sft


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reward(Checked):
    """The reward of a self-edit.

    Attributes:
      kind: a score of the task ("accuracy"; of few-shot learning "solved", 0 or 1, or "graded",
        cell accuracy as a gain over answers that need no rule) or "gold_log_likelihood" (mean nats
        an answer) of the adapted model on the context's questions, or the "mix" of both;
        "agreement", the mean log-likelihood of what the base model answers to `questions` about the
        training contexts when it reads them, in nats an answer: no gold answer is used, and it
        measures no knowledge; without an inner loop: "rubric", a score by the judge of `grading`
        that sees passage and self-edit only; "length", the self-edit's characters (a control);
        "pattern", the share of its characters that `pattern` matches (planted, to check that the
        outer loop learns). Or "module:function", another package's function of an adapted model's
        answers (docs/extending.md).
      mix: what a nat counts in the mix: main score + mix * gold log-likelihood.
      retention: what is taken off for each nat by which the self-edit makes a gold answer about
        another context of the round less likely (mean over its questions); 0 does not ask.
      token_price: what is taken off for every 1,000 tokens that the inner loop trains on (those of
        the lesson, times its epochs), in units of the reward, so that directives which merely train
        more are not better for it; 0 is free.
      replicates: inner loops with different seeds that a reward is the mean of.
      pattern: a regular expression, for the kind "pattern".
      questions: for the kind "agreement": those that the "policy" which the run starts from writes
        itself, or those of a passage's sentences with a gap, made by "rule".
    """

    kind: str = "accuracy"
    mix: Weight = 0.1
    retention: Weight = 0.0
    token_price: Weight = 0.0
    replicates: Count = 3
    pattern: str = ""
    questions: Literal["policy", "rule"] = "policy"

    def validate(self):
        require(
            self.kind == "agreement" or self.questions == "policy",
            "questions is for the reward 'agreement': set kind to it too.",
        )
        require(
            (self.kind == "pattern") == bool(self.pattern),
            "pattern must be given for the reward 'pattern', and for no other.",
        )
        require(
            self.needs_inner_loop or not self.retention,
            f"retention is measured on adapted models, and the reward {self.kind!r} has none.",
        )
        require(
            self.needs_inner_loop or not self.token_price,
            f"token_price is of tokens that are trained on, and the reward {self.kind!r} trains on "
            "none.",
        )
        require(
            self.needs_inner_loop or self.replicates == 1,
            f"replicates must be 1 for the reward {self.kind!r}, which needs no inner loop.",
        )
        regular_expression(self.pattern, "pattern")

    @property
    def needs_inner_loop(self) -> bool:
        """Whether the reward is measured on an adapted model, not read off the text."""
        return self.kind not in ("rubric", "length", "pattern")

    def function(self) -> Callable[[Sequence[dict[str, Any]]], float | None] | None:
        """The function that `kind` names; None for the kinds that have a name of their own.

        Raises:
          SettingsError: it cannot be had.
        """
        if not object_reference.is_one(self.kind):
            return None
        return object_reference.load(self.kind, "reward.kind", "answers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grading(Checked):
    """Who says whether an answer is right.

    Attributes:
      kind: "local", rules without a model (docs/grading.md); or a judge that is asked yes or no:
        "policy", the run's base model; "model", another one in JAX; "endpoint", any
        OpenAI-compatible one (docs/judges.md).
      model: the judge of the kind "model", as model.path names models.
      batch_size: of a judge in JAX: prompts that it is asked at once.
      buckets: of a judge in JAX: lengths that prompts may be padded to, in tokens.
      endpoint: for "endpoint".
    """

    kind: Literal["local", "policy", "model", "endpoint"] = "local"
    model: Place = ""
    batch_size: Count = 8
    buckets: Buckets = (192, 256, 384, 512)
    endpoint: EndpointSettings = EndpointSettings()

    def validate(self):
        require(
            (self.kind == "model") == bool(self.model),
            "model must be given for the kind 'model', and for no other.",
        )
        require(
            self.kind != "endpoint" or bool(self.endpoint.base_url and self.endpoint.model),
            "the kind 'endpoint' needs endpoint.base_url and endpoint.model.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher(Checked):
    """Where the arm "teacher" has its texts from.

    Attributes:
      file: JSON lines {"context" or "prompt", "completion"}; see docs/judges.md. "" asks the
        endpoint.
      endpoint: is asked with the prompts for self-edits.
    """

    file: Place = ""
    endpoint: EndpointSettings = EndpointSettings(temperature=1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restem(Checked):
    """The outer loop.

    Attributes:
      rounds: E-steps, each followed by an M-step.
      contexts_per_round: fresh contexts of a round; rounds share none.
      rule: which self-edits the M-step is trained on: "best_of_m", the best of each context;
        "top_k", its best few; "threshold", those whose reward exceeds the context's without a
        self-edit by more than `threshold`, "positive_only", by anything; "weighted", all, each with
        its share of the softmax of the context's rewards; "random", one of each context, and
        "longest", the longest (controls); "all" that have a reward. Or "module:function", another
        package's `restem.Selector`.
      update: what an M-step does: "restem" raises the likelihood of the self-edits that `rule`
        keeps. The others learn from worse ones too, by what each earned beyond the other self-edits
        of its context, all of which are used: "rloo", beyond their mean, and "grpo", beyond the
        mean of all in standard deviations, by clipped ratios; "dpo", the best against the worst of
        each context. `rule` then stays "best_of_m", or makes a control: "random" deals out a
        context's rewards anew among its self-edits, "longest" takes lengths for rewards. Of "dpo",
        sft.batch_size and sft.microbatch count pairs. They are exact policy gradients where
        edits.temperature and edits.top_p are 1 and edits.top_k is 0.
      clip_low: for "rloo" and "grpo": a token is made less likely down to 1 - clip_low times its
        probability at the M-step's start.
      clip_high: likewise, and more likely up to 1 + clip_high times.
      kl: for "rloo" and "grpo": what a nat a token of KL divergence from the M-step's start costs,
        in mean sizes of an advantage.
      beta: for "dpo": how soon a pair counts as learned; the higher, the nearer to the start.
      top_k: for the rule "top_k": how many of each context.
      threshold: for the rule "threshold", in units of the reward.
      temperature: for the rule "weighted", in units of the reward: a self-edit that is better by
        this weighs e times as much.
      lines: of a kept self-edit, what an M-step is trained on: "all" its lines; the "helpful" ones,
        without which it earns less, as another trial for each line says, from the same initial
        deltas (the best one always stays; a list is numbered anew); or as many at "random", the
        credits being dealt out anew among a self-edit's lines (a control).
      start_from: what an M-step trains: the "previous" policy, or the "base" model anew.
      keep_data: an M-step's data: this "round"'s kept self-edits, or those of "all" rounds so far.
      sft: the M-step.
    """

    rounds: Limit = 2
    contexts_per_round: Count = 50
    rule: specs.Rule | str = "best_of_m"
    update: specs.Update = "restem"
    clip_low: Positive = 0.2
    clip_high: Positive = 0.2
    kl: Weight = 0.0
    beta: Positive = 0.1
    top_k: int = 1
    threshold: float = 0.0
    temperature: float = 0.1
    lines: Literal["all", "helpful", "random"] = "all"
    start_from: Literal["previous", "base"] = "previous"
    keep_data: Literal["round", "all"] = "round"
    sft: Sft = Sft()

    def validate(self):
        if not object_reference.is_one(self.rule):
            self.selection_rule()
        for name in ("top_k", "threshold", "temperature"):
            rule = "weighted" if name == "temperature" else name
            usual = self.rule == rule or getattr(self, name) == getattr(type(self), name)
            require(usual, f"{name} is for the rule {rule!r}: set that too.")
        by_ratio = self.update in ("rloo", "grpo")
        for name in ("clip_low", "clip_high", "kl", "beta"):
            meant = self.update == "dpo" if name == "beta" else by_ratio
            usual = meant or getattr(self, name) == getattr(type(self), name)
            of = "'dpo'" if name == "beta" else "'rloo' or 'grpo'"
            require(usual, f"{name} is for the update {of}: set that too.")
        require(
            self.update == "restem" or self.rule in ("best_of_m", "random", "longest"),
            f"the update {self.update!r} learns from all rewarded self-edits, so that rule chooses "
            "none: leave it at 'best_of_m', or set 'random' or 'longest' for a control.",
        )
        require(
            not by_ratio or (self.start_from, self.keep_data) == ("previous", "round"),
            f"the update {self.update!r} starts from the policy that wrote the self-edits: set "
            "start_from to 'previous' and keep_data to 'round' (or update to 'dpo').",
        )
        require(
            self.lines == "all" or self.update == "restem",
            f"the update {self.update!r} learns self-edits as they were sampled: leave lines at "
            "'all', or set update to 'restem'.",
        )

    def gradient(self) -> specs.PolicyGradient | None:
        """What the M-step minimises; None for ReST-EM."""
        if self.update == "restem":
            return None
        of = self.clip_low, self.clip_high, self.kl, self.beta
        return specs.PolicyGradient(self.update, *of)

    def most_kept(self, samples: int) -> int:
        """How many self-edits of a context, or pairs of them, an M-step learns at most.

        Args:
          samples: M.
        """
        if self.update != "restem":
            return 1 if self.update == "dpo" else samples
        return {"all": samples, "weighted": samples, "top_k": self.top_k}.get(self.rule, 1)

    def selection_rule(self) -> specs.SelectionRule | specs.Selector:
        """What the E-step selects by.

        Raises:
          SettingsError: `rule` names a function that cannot be had.
        """
        if object_reference.is_one(self.rule):
            of = ("rewards_CxM", "baselines_C", "lengths_CxM")
            return object_reference.load(self.rule, "restem.rule", *of)
        name = cast(specs.Rule, self.rule)
        return specs.SelectionRule(name, self.top_k, self.threshold, self.temperature)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(Checked):
    """The final evaluation on contexts of other articles.

    Attributes:
      form: "single" trains a delta for each passage and self-edit; "corpus" one delta for all
        passages (continued pretraining, see `corpus`).
      contexts: how many contexts of the evaluation split are used; 0 is all.
      seed: chooses the contexts; not the run's seed, so that runs of several seeds are asked the
        same.
      skip: the contexts that a run with so many `contexts` was asked are left out, such as those
        that something was chosen on.
      questions: how many questions are asked in all (chosen by `seed`), in the form "corpus"; 0 is
        all.
      edits: self-edits of a context in the self-edit arms, and updates of it in the others. From 2
        on, the variance of a difference is divided into contexts, self-edits and questions.
      arms: what is compared; see loop/arms.py. "base" is the untouched model, "prompt" has the
        context in the question's prompt (what people do instead, without any training);
        "edit_before" learns its own self-edits, "edit_after" is SEAL; "edit_after_base" and
        "edit_before_policy" swap editor and learner; "edit_random" and "edit_longest" are SEAL with
        an M-step on one random self-edit of a context, or on the longest; "edit_random_base" and
        "edit_longest_base" have the base learner. And the task's own: "passage" trains on the
        passage alone, "passage_steps" with as many optimizer steps as "edit_before", "sentences" on
        the passage's own, "teacher"; what the base model writes otherwise: "entity_graph",
        "several_prompts", "study_strategies", "own_prompts", and "self_distillation", the answers
        that it gives as it reads (docs/formats.md); of few-shot learning, and where self-edits have
        directives, "random" ones, the best "fixed" one of some, and the "oracle"; and, all with the
        base learner, the base's or RL's self-edits under those that earned the most in the rounds
        ("edit_before_constant", "edit_after_constant"), the base's under RL's
        ("edit_before_directed"), and RL's under RL's for another context ("edit_after_permuted").
      equal: what every arm that learns spends on a context as much of: "tokens" trained on, or
        optimizer "steps". The largest lesson about it takes the epochs that are set, smaller ones
        so many more that they come nearest; "none" gives all the same epochs.
      unrelated: texts of the training split, continual.unrelated_tokens of each, whose loss is
        measured before and after each update: what it harms. 0 does not ask.
      bootstrap_draws: resamples of the intervals.
      entity_pairs: texts that the arm "entity_graph" writes about pairs of a passage's entities.
      entity_triples: texts that the arm "entity_graph" writes about three entities each.
    """

    form: Literal["single", "corpus"] = "single"
    contexts: Limit = 200
    seed: Limit = 0
    skip: Limit = 0
    questions: Limit = 0
    edits: Count = 2
    arms: tuple[str, ...] = (
        "base",
        "prompt",
        "passage",
        "edit_before",
        "edit_after_base",
        "edit_after",
    )
    equal: Literal["none", "tokens", "steps"] = "none"
    unrelated: Limit = 0
    bootstrap_draws: int = 10000
    entity_pairs: Limit = 5
    entity_triples: Limit = 0

    def validate(self):
        require(bool(self.arms), "arms are empty: name some, such as 'base' and 'edit_before'.")
        require(
            self.questions == 0 or self.form == "corpus",
            "questions limits the form 'corpus' only: lower contexts instead.",
        )
        for name in ("equal", "unrelated"):
            require(
                self.form == "single" or getattr(self, name) == getattr(type(self), name),
                f"{name} is for the form 'single'.",
            )
        require(self.bootstrap_draws >= 100, "bootstrap_draws must be at least 100.")
        require(
            self.entity_pairs + self.entity_triples > 0,
            "entity_pairs or entity_triples must be above 0.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning(Checked):
    """The same tuning budget for every adapted arm, spent on development articles.

    Before the evaluation each arm tries every pair of a learning rate and a number of epochs on
    `contexts` contexts and keeps the pair with the best mean `metric`. Nothing is tuned where both
    lists are empty. Under evaluation.equal all arms have the number of epochs that is best for them
    on average, and each its own learning rate.

    Attributes:
      learning_rates: those that are tried in the inner loop (in `corpus` in that form).
      epochs: numbers of epochs that are tried with each of them.
      contexts: how many contexts of the development half are used; 0 is all.
      metric: "gold_log_likelihood", or a score of the task such as "accuracy".
    """

    learning_rates: tuple[float, ...] = ()
    epochs: tuple[int, ...] = ()
    contexts: Limit = 12
    metric: str = "gold_log_likelihood"

    def validate(self):
        require(
            bool(self.learning_rates) == bool(self.epochs),
            "give both learning_rates and epochs, or neither.",
        )
        require(all(rate > 0 for rate in self.learning_rates), "learning_rates must be above 0.")
        require(all(count >= 1 for count in self.epochs), "epochs must be at least 1.")
