"""Tiny tokenizers of the kinds that checkpoints bring, made here without a file."""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token }}[INST] "
    "{{ message['content'] }} [/INST]{% else %} {{ message['content'] }} {{ eos_token }}"
    "{% endif %}{% endfor %}"
)


def byte_level(template=CHATML, *, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), **more):
    """A byte-level BPE with a few merges; `cut=r"\\s*\\S+"` lets merges cross line ends."""
    merges = [("Ċ", "Ċ"), ("Ċ", "["), ("Ġ", "1"), (":", "Ċ"), ("Ġ", "Y")]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*special, *letters, *("".join(merge) for merge in merges)]
    backend = tokenizers.Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
    cut = more.pop("cut", None)
    steps = [pre_tokenizers.Split(tokenizers.Regex(cut), behavior="isolated")] if cut else []
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not cut))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=template,
        **{"eos_token": "<|im_end|>"} | more,
    )


def sentencepiece_like(template=LLAMA_2, *, appends_end=False, metaspace=False):
    """As Llama 2's tokenizer.json: blanks are ▁, and a text gets one in front of it."""
    letters = [chr(code) for code in range(0x21, 0x7F)]
    merges = [("▁", "A"), ("▁", "Y"), ("▁", "▁"), ("▁", "t"), ("▁", "N"), ("▁", "["), ("n", "s")]
    words = ["<unk>", "<s>", "</s>", "\n", "▁", *letters, *map("".join, merges)]
    backend = tokenizers.Tokenizer(
        models.BPE({w: i for i, w in enumerate(words)}, merges, unk_token="<unk>", fuse_unk=True)
    )
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if appends_end else "<s> $A",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=template,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
