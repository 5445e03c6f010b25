"""Another byte-level BPE, written from its definition, and strings to compare with it."""

import functools
import itertools
import random

import gguf as gguf_package
import regex

GPT2_PIECES = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# Where setting digits apart first may change the pieces: a number after a run of spaces, and
# numbers of several bytes, which could merge with their neighbours.
DIGIT_RULE_MATTERS = regex.compile(r"\s\s+\p{N}|[^\P{N}0-9]")

# Bytes of UTF-8 text that SmolLM2 cannot spell.
LOST_BYTES = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}


def varied_strings(count: int, specials: list[str]) -> list[str]:
    """Seeded, different strings: scripts, digits, spaces, emoji, code, special tokens, controls."""
    rng = random.Random(20250611)
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF)]
    ranges += [(0x900, 0x97F), (0x2000, 0x206F), (0x2150, 0x218F), (0x3040, 0x30FF)]
    ranges += [(0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF00, 0xFFEF), (0x1F300, 0x1F6FF)]
    words = [
        "The",
        "machine",
        "isn't",
        "Ilse's;",
        "they'll've",
        "HERE",
        "café",
        "naïve",
        "fooBar",
        "http://a.b",
    ]
    code = ["def f(a, b=1):\n    return a[1:] + 2**b\n", "if (x != NULL) { i++; }", "\t</p>\r\n"]
    code += ['{"k": [1, 2.50, null]}', "SELECT * FROM t WHERE id = 42;", "#!/bin/sh\n\n\n# 7"]
    emoji = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "1️⃣", "🇯🇵", "❤️", "🧪"]
    makers = (
        lambda: "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 12))),
        lambda: " ".join(rng.choice(words) for _ in range(rng.randint(1, 8))),
        lambda: str(rng.randrange(10 ** rng.randint(1, 9))),
        lambda: f"{rng.uniform(-1e4, 1e4):,.{rng.randint(0, 3)}f}",
        lambda: "".join(
            rng.choice(" \t\n\r\u00a0\u3000\u2028\v\f") for _ in range(rng.randint(1, 6))
        ),
        lambda: " " * rng.randint(1, 9),
        lambda: "\n" * rng.randint(1, 3),
        lambda: rng.choice(code),
        lambda: rng.choice(emoji) * rng.randint(1, 3),
        lambda: rng.choice(specials),
        lambda: rng.choice(specials)[: rng.randint(1, 6)],
        lambda: "".join(chr(rng.choice([*range(32), *range(0x7F, 0xA0)])) for _ in range(3)),
        lambda: "".join(
            rng.choice(".,;:!?'\"()-_/\\|<>@#$%^&*~`") for _ in range(rng.randint(1, 5))
        ),
    )
    made = {}
    while len(made) < count:
        made["".join(rng.choice(makers)() for _ in range(rng.randint(1, 8)))] = None
    return list(made)


class ReferenceBPE:
    """Byte-level BPE from its definition: specials, digits, GPT-2's pieces, merges by rank."""

    def __init__(self, path):
        reader = gguf_package.GGUFReader(path)
        tokens, types, merges = (
            reader.fields[f"tokenizer.ggml.{key}"].contents()
            for key in ("tokens", "token_type", "merges")
        )
        self.ids = {token: index for index, token in enumerate(tokens)}
        self.specials = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
        self.ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(merges)}
        longest_first = sorted(self.specials, key=len, reverse=True)
        self.split = regex.compile("(" + "|".join(map(regex.escape, longest_first)) + ")")
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printable]
        self.letters = {byte: chr(byte) for byte in printable}
        self.letters |= {byte: chr(256 + n) for n, byte in enumerate(others)}
        self.merged = functools.cache(self._merged)

    def encode(self, text: str) -> list[int]:
        ids = []
        for part in self.split.split(text):
            if part in self.specials:
                ids.append(self.ids[part])
                continue
            for run in regex.findall(r"\p{N}|\P{N}+", part):
                for piece in GPT2_PIECES.findall(run):
                    ids.extend(self.merged(piece))
        return ids

    def _merged(self, piece: str) -> list[int]:
        letters = [self.letters[byte] for byte in piece.encode()]
        symbols = [letter for letter in letters if letter in self.ids]
        while True:
            ranked = [
                (self.ranks[pair], i)
                for i, pair in enumerate(itertools.pairwise(symbols))
                if pair in self.ranks
            ]
            if not ranked:
                return [self.ids[symbol] for symbol in symbols]
            _, i = min(ranked)
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
