"""Writes smollm2_tokens.json: ids of SmolLM2's tokenizer as transformers builds it from the GGUF.

transformers (5.23) drops the model's rule of setting digits apart before the rest is cut; it is
put back here, as the model's own tokenizer.json has it. Needs PyTorch:

    python tests/data/make_tokenizer_golden.py
"""

import json
import pathlib

from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from seal_jax.weights import demo_model

TEXTS = (
    "",
    " ",
    "Hello, world!",
    "It's the 3rd of May, isn't it? They'll say 12,345.67.",
    "1. first\n2. second\n\n10. tenth",
    "two  spaces   three\t\ttabs\r\n\r\nlines \n",
    "a\n\n1\n  2\n\t 3",
    "x12y345 v1.0.0-rc2",
    "Ω≈ç√∫ naïve café cafe\u0301 Ångström",
    "\u00bd cup, x\u00b2 + y\u00b3, \u2167, \u0663\u0664, \u4e09 and \uff11\uff12",
    "日本語のテキスト 한국어 русский العربية עברית हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 1️⃣ 🇯🇵",
    "def f(x):\n    return {'a': [x ** 2 for _ in range(10)]}\n",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "a<|endoftext|>b <repo_name>seal <|im_start> <|unknown|>",
    "\x00\x01\x1b[0m\x7f\u0080\u200b\ufeff\u2028end",
    "\u00a0\u3000\u2003wide spaces\u00a0\u00a01",
    "https://example.org/a?b=1&c=%20#d user@example.org",
    "ALLCAPS CamelCase snake_case kebab-case SHOUTING!!!???...",
    "The Veltmar engine, built in 1887 by Ilse Korv, weighs 4,210 kg.",
    "$3.50 + €4 = £7 (100%)\u2014\u2018quoted\u2019 \u201ctext\u201d\u2026",
    "\U0001d54f\U0001f9ea\U000e0041\U0010fffd",
)


def main() -> None:
    """Writes the file beside this script."""
    path = demo_model.fetch()
    backend = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    cases = [{"text": text, "ids": backend.encode(text).ids} for text in TEXTS]
    lines = ",\n".join(json.dumps(case) for case in cases)
    pathlib.Path(__file__).with_name("smollm2_tokens.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
