"""transformers and PEFT: adapters are trained and asked one after another."""

import time
from typing import Any

import numpy as np
import peft
import torch
import transformers

from seal_jax.doctor import models


def open_worker(spec: models.Spec) -> "Peft":
    return Peft(spec)


class Peft:
    """A model with PEFT adapters. Every method returns a dict."""

    def __init__(self, spec: models.Spec):
        self.spec = spec
        self.model: Any = peft.get_peft_model(
            models.load_torch(spec),
            peft.LoraConfig(
                task_type="CAUSAL_LM",
                r=spec.rank,
                lora_alpha=int(spec.alpha),
                target_modules=list(models.TARGETS),
                lora_dropout=0.0,
                bias="none",
            ),
        )
        self.device = next(self.model.parameters()).device
        self._parameters = {}
        for name, parameter in self.model.named_parameters():
            if ".lora_" in name:
                parts = name.split(".")
                layer = int(parts[parts.index("layers") + 1])
                self._parameters[layer, parts[-4], parts[-3].removeprefix("lora_")] = parameter
        self._shapes = {
            target: (
                1 + max(layer for layer, _, _ in self._parameters),
                self._parameters[0, target, "A"].shape[1],
                self._parameters[0, target, "B"].shape[0],
            )
            for target in models.TARGETS
        }

    def facts(self) -> dict:
        """Versions and the device."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return {
            "device": name,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        }

    def _set_adapter(self, seed: int, *, trained: bool) -> None:
        """Gives the one adapter the factors that every side has."""
        found = models.factors(self._shapes, self.spec, seed, trained=trained)
        for (layer, target, which), parameter in self._parameters.items():
            value = found[target][0 if which == "A" else 1][layer].T
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(value)))

    def _seconds(self, start: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def _train(self, sequences, *, padded_length: int = 0, stop_id: int = 0, limit: int = 0):
        """Trains the adapter on one sequence a step: (loss of each step, seconds)."""
        self.model.train()
        trained = list(self._parameters.values())
        optimizer = torch.optim.AdamW(
            trained, lr=self.spec.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
        )
        scheduler = transformers.get_scheduler(
            "linear", optimizer, num_warmup_steps=0, num_training_steps=len(sequences)
        )
        losses = []
        start = time.perf_counter()
        for sequence in sequences[: limit or None]:
            real = len(sequence)
            padding = [stop_id] * max(0, padded_length - real)
            tokens = torch.tensor([[*sequence, *padding]], device=self.device)
            mask = (torch.arange(tokens.shape[1], device=self.device) < real)[None].long()
            loss = self.model(input_ids=tokens, attention_mask=mask, labels=tokens).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.detach())
        return [loss.item() for loss in losses], self._seconds(start)

    def update(self, steps, *, candidates: int | None = None) -> dict:
        """Trains the candidates one after another, each sequence at its own length.

        Args:
          steps: at each step the sequence of each candidate, empty for none.
          candidates: how many of them; None for all.
        """
        seconds, last = 0.0, []
        for k in range(candidates or len(steps[0])):
            self._set_adapter(k, trained=False)
            losses, elapsed = self._train([step[k] for step in steps if step[k]])
            seconds += elapsed
            last.append(losses[-1])
        return {"seconds": seconds, "losses": last}

    def padded(self, steps, *, length: int, stop_id: int, limit: int) -> dict:
        """A few steps padded with the end token, which is trained on too; seconds a step."""
        self._set_adapter(0, trained=False)
        sequences = [step[0] for step in steps if step[0]]
        losses, seconds = self._train(sequences, padded_length=length, stop_id=stop_id, limit=limit)
        return {"seconds": seconds / len(losses), "steps": len(losses)}

    def _generate(self, prompts, **settings):
        """Continuations of left-padded prompts in one batch, without the prompts."""
        longest = max(map(len, prompts))
        tokens = torch.zeros((len(prompts), longest), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        config = transformers.GenerationConfig(pad_token_id=0, **settings)
        with torch.no_grad():
            written = self.model.generate(
                input_ids=tokens.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=config,
            )
        return written[:, longest:]

    def _generate_fixed(self, prompts, new_tokens: int, **settings):
        """As above, of a fixed length."""
        self.model.base_model.model.generation_config.eos_token_id = None
        written = self._generate(
            prompts, max_new_tokens=new_tokens, min_new_tokens=new_tokens, **settings
        )
        if written.shape[1] != new_tokens:
            raise RuntimeError(f"generate wrote {written.shape[1]} tokens, not {new_tokens}.")
        return written

    def decode(self, prompts, *, new_tokens: int, adapters: int = 0) -> dict:
        """Greedy continuations of fixed length; one adapter after another with its rows."""
        self.model.eval()
        per_adapter = len(prompts) // (adapters or 1)
        tokens, seconds = [], 0.0
        for k in range(adapters or 1):
            rows = prompts[k * per_adapter : (k + 1) * per_adapter]
            if adapters:
                self._set_adapter(k, trained=True)
                start = time.perf_counter()
                written = self._generate_fixed(rows, new_tokens, do_sample=False)
            else:
                with self.model.disable_adapter():
                    start = time.perf_counter()
                    written = self._generate_fixed(rows, new_tokens, do_sample=False)
            seconds += self._seconds(start)
            tokens += written.tolist()
        return {"seconds": seconds, "tokens": tokens, "new_tokens": sum(map(len, tokens))}

    def sample(self, prompts, *, samples: int, new_tokens: int) -> dict:
        """M samples of each prompt at temperature 1 and top-p 0.95, of fixed length."""
        self.model.eval()
        torch.manual_seed(0)
        with self.model.disable_adapter():
            start = time.perf_counter()
            written = self._generate_fixed(
                prompts,
                new_tokens,
                do_sample=True,
                temperature=1.0,
                top_p=0.95,
                top_k=0,
                num_return_sequences=samples,
            )
            seconds = self._seconds(start)
        return {"seconds": seconds, "new_tokens": written.numel()}

    def evaluate(self, steps, questions, *, new_tokens: int, stop_ids) -> dict:
        """Whole evaluations, one after another: update, answers, log-likelihoods."""
        seconds = {"update_seconds": 0.0, "answer_seconds": 0.0, "belief_seconds": 0.0}
        answers, beliefs = [], []
        for k, asked in enumerate(questions):
            self._set_adapter(k, trained=False)
            _, elapsed = self._train([step[k] for step in steps if step[k]])
            seconds["update_seconds"] += elapsed
            self.model.eval()
            start = time.perf_counter()
            written = self._generate(
                [prompt for prompt, _ in asked],
                do_sample=False,
                max_new_tokens=new_tokens,
                eos_token_id=list(stop_ids),
            ).tolist()
            seconds["answer_seconds"] += self._seconds(start)
            answers += [_until_stop(row, stop_ids) for row in written]
            start = time.perf_counter()
            beliefs += self._beliefs(asked)
            seconds["belief_seconds"] += self._seconds(start)
        return {
            "seconds": sum(seconds.values()),
            **seconds,
            "answers": answers,
            "log_likelihoods": beliefs,
        }

    def _beliefs(self, asked) -> list[float]:
        """log p(gold answer | question) of each question, in one right-padded batch."""
        longest = max(len(prompt) + len(gold) for prompt, gold in asked)
        tokens = torch.zeros((len(asked), longest), dtype=torch.long)
        gold_mask = torch.zeros_like(tokens, dtype=torch.bool)
        for row, (prompt, gold) in enumerate(asked):
            tokens[row, : len(prompt) + len(gold)] = torch.tensor([*prompt, *gold])
            gold_mask[row, len(prompt) : len(prompt) + len(gold)] = True
        tokens, gold_mask = tokens.to(self.device), gold_mask.to(self.device)
        with torch.no_grad():  # causal attention: padding on the right needs no mask
            logits = self.model(input_ids=tokens).logits
            rows, positions = gold_mask.nonzero(as_tuple=True)
            log_probs = logits[rows, positions - 1].float().log_softmax(-1)
            chosen = log_probs.gather(1, tokens[rows, positions][:, None])[:, 0]
            sums = torch.zeros(len(asked), device=self.device).index_add_(0, rows, chosen)
        return sums.tolist()


def _until_stop(row: list[int], stop_ids) -> list[int]:
    """A row up to its stop token, which is included."""
    for index, token in enumerate(row):
        if token in stop_ids:
            return row[: index + 1]
    return row
