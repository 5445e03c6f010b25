"""How much the texts about one context differ from each other, by their pairs of words.

distinct    the share of all pairs of neighbouring words that are different ones (distinct-2; Li et
            al., "A Diversity-Promoting Objective Function", 2016)
overlap     the share of a text's pairs that stand in another text of the context as well, each as
            often as it does in the one that has it most: the precision of BLEU against the others,
            without its penalty of length (as in self-BLEU; Zhu et al., "Texygen", 2018), of pairs
            alone

Both depend on how many texts there are and how long they are, so compare stages that are alike in
that. Words are runs of letters and digits, whatever their case.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Diversity(NamedTuple):
    """Of the texts about one context; see above. `words` is the mean length of a text."""

    distinct: float
    overlap: float
    words: float


def diversity(texts: Sequence[str]) -> Diversity | None:
    """Of the texts about one context; None below two that have a pair of words.

    Texts without a pair of words are left out.

    >>> diversity(["the red tower", "The red mill."])  # 3 of 4 pairs; 1 of 2 in the other
    Diversity(distinct=0.75, overlap=0.5, words=3.0)
    """
    pairs = [Counter(pairwise(re.findall(r"\w+", text.lower()))) for text in texts]
    pairs = [of for of in pairs if of]
    if len(pairs) < 2:
        return None
    sizes = [of.total() for of in pairs]
    shares = []
    for i, (own, size) in enumerate(zip(pairs, sizes, strict=True)):
        others = [of for j, of in enumerate(pairs) if j != i]
        shared = sum(min(count, max(of[pair] for of in others)) for pair, count in own.items())
        shares.append(shared / size)
    return Diversity(
        distinct=len(set().union(*pairs)) / sum(sizes),
        overlap=sum(shares) / len(shares),
        words=sum(sizes) / len(sizes) + 1,
    )
