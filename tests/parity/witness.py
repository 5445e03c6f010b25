"""The other side of every comparison: transformers, PEFT and a plain PyTorch training loop.

Imported only where PyTorch is installed.
"""

import copy
import pathlib

import numpy as np
import peft
import torch
import transformers

from . import checkpoints, inner_cases

torch.set_num_threads(1)  # the models are tiny


def model(name: str) -> transformers.PreTrainedModel:
    """The checkpoint as transformers' own model, in float32."""
    settings = copy.deepcopy(checkpoints.CONFIGS[name])  # transformers adds to nested dicts
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    built = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    weights = {key: torch.tensor(array) for key, array in checkpoints.tensors(name).items()}
    loaded = built.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys
    assert loaded.missing_keys == (["lm_head.weight"] if config.tie_word_embeddings else [])
    return built.float().eval()


def gguf_model(path: pathlib.Path) -> transformers.PreTrainedModel:
    """A GGUF file as read and dequantised by transformers itself, in float32."""
    built = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    return built.eval()


def logits(built, tokens: list[int]) -> np.ndarray:
    """[T, V] logits of one sequence."""
    with torch.no_grad():
        return built(input_ids=torch.tensor([tokens])).logits[0].numpy()


def padded_log_likelihoods(built, tokens: list[int], real: int) -> np.ndarray:
    """[T-1] log p of each next token, the first `real` being all that is attended to."""
    row, mask = torch.tensor([tokens]), torch.zeros((1, len(tokens)), dtype=torch.long)
    mask[:, :real] = 1
    with torch.no_grad():
        found = built(input_ids=row, attention_mask=mask).logits.log_softmax(-1)
    return found[0, :-1].gather(-1, row[0, 1:, None])[:, 0].numpy()


def greedy(built, prompt: list[int], max_new_tokens: int, stop_ids: tuple[int, ...]) -> list[int]:
    """The new tokens of `generate` for one prompt, the stop token included."""
    settings = transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stop_ids) or None,
        pad_token_id=0,
    )
    tokens = torch.tensor([prompt])
    with torch.no_grad():
        written = built.generate(
            tokens, attention_mask=torch.ones_like(tokens), generation_config=settings
        )
    return written[0, len(prompt) :].tolist()


def adapted(built, **settings) -> peft.PeftModel:
    """The model with LoRA layers as PEFT makes them from these settings."""
    return peft.get_peft_model(built, peft.LoraConfig(task_type="CAUSAL_LM", **settings))


def with_lora(built, spec, factors) -> peft.PeftModel:
    """The model with LoRA layers that hold the given factors."""
    student = adapted(
        built,
        r=spec.rank,
        lora_alpha=spec.alpha,
        target_modules=list(spec.targets),
        lora_dropout=0.0,
        bias="none",
    )
    for key, parameter in _factors(student).items():
        parameter.data.copy_(torch.tensor(factors[key]))
    return student


def read_adapter(built, path: pathlib.Path) -> peft.PeftModel:
    """The model with an adapter directory, read by PEFT."""
    return peft.PeftModel.from_pretrained(built, path).eval()


def read_model(path: pathlib.Path) -> transformers.PreTrainedModel:
    """A checkpoint directory as transformers reads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def read_adapter_and_base(path: pathlib.Path) -> peft.PeftModel:
    """An adapter directory on the base model that its config names."""
    return peft.AutoPeftModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def train(case_name: str, k: int) -> tuple[np.ndarray, dict]:
    """Candidate k of an inner case: (loss of each step, LoRA factors after the last)."""
    case = inner_cases.CASES[case_name]
    candidate = case.candidates[k]
    initial = inner_cases.initial_factors(case_name, k)
    student = with_lora(model(case.checkpoint), case.spec, initial)
    steps = inner_cases.steps_of(case_name, k)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=candidate.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
    )
    scheduler = transformers.get_scheduler(
        candidate.decay,
        optimizer,
        num_warmup_steps=candidate.warmup,
        num_training_steps=len(steps),
    )
    student.train()
    losses = []
    for ranks in steps:
        loss = student(**_batch(case, k, ranks)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    factors = {key: p.detach().numpy().copy() for key, p in _factors(student).items()}
    return np.array(losses, np.float32), factors


def _batch(case, k: int, ranks: list[int]) -> dict[str, torch.Tensor]:
    """Sequences padded to the longest; label -100 where no loss is taken."""
    chosen = [inner_cases.sequences(case.name, k)[rank] for rank in ranks]
    longest = max(map(len, chosen))
    batch = {
        "input_ids": torch.zeros((len(chosen), longest), dtype=torch.long),
        "attention_mask": torch.zeros((len(chosen), longest), dtype=torch.long),
        "labels": torch.full((len(chosen), longest), -100),
    }
    for row, (rank, sequence) in enumerate(zip(ranks, chosen, strict=True)):
        start, tokens = case.candidates[k].untrained[rank], torch.tensor(sequence)
        batch["input_ids"][row, : len(sequence)] = tokens
        batch["attention_mask"][row, : len(sequence)] = 1
        batch["labels"][row, start : len(sequence)] = tokens[start:]
    return batch


def _factors(student) -> dict[tuple[int, str, str], torch.nn.Parameter]:
    """LoRA parameters by (layer, module, "A" or "B")."""
    found = {}
    for name, parameter in student.named_parameters():
        parts = name.split(".")
        if "lora_A" in parts or "lora_B" in parts:
            layer = int(parts[parts.index("layers") + 1])
            found[layer, parts[-4], parts[-3].removeprefix("lora_")] = parameter
    return found
