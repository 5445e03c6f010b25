"""A local grader: does a free-text prediction contain the gold answer?

Both texts are reduced to tokens without regard to case, punctuation, articles, accents and the
way numbers are written, and the prediction is correct when it holds at least the share
`THRESHOLD` of the gold answer's tokens (token recall).

The threshold was chosen on 3,538 answers to 613 questions that GPT-4.1 judged (from the results
that SEAL's authors published, arXiv 2506.10943). Measured by

    python -m seal_jax.tasks.knowledge.grade ROWS.jsonl

with the threshold chosen on nine tenths of the questions and applied to the tenth left out, in
ten folds by question: agreement 0.876, Cohen's kappa 0.723, precision 0.891, recall 0.752. Every
fold chose 0.71, so the figures on all rows with `THRESHOLD` are the same. The held-out part is
the threshold: the rules of normalisation were written with these rows in view.
"""

import argparse
import collections
import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from seal_jax.tasks.base import Verdict
from seal_jax.tasks.knowledge.numerals import to_digits
from seal_jax.tasks.knowledge.parse import is_blank

THRESHOLD = 0.71

_ARTICLES = frozenset(("a", "an", "the"))
_CANDIDATES = tuple(i / 100 for i in range(1, 101))
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d)")
_POSSESSIVE = re.compile("['\u2019]s\\b")
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.){2,}")  # "U.S." is one token, as "US" is
_POINT = re.compile(r"(?<=\d)\.(?=\d)")
# Scripts without spaces between words (Thai, Lao, Burmese, Khmer, kana, Han): a token a character.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
)


def tokens(text: str, *, articles: bool = False) -> list[str]:
    """The words and numbers that count when answers are compared.

    Args:
      text: any text.
      articles: whether "a", "an" and "the" are kept.

    >>> tokens("The Café's twenty-first guest paid $1,250.50")
    ['cafe', '21', 'guest', 'paid', '1250.5']
    """
    text = unicodedata.normalize("NFKC", text.replace("\0", " ")).casefold()
    # Accents of Latin, Greek and Cyrillic go; the vowel signs of other scripts stay.
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not "\u0300" <= c <= "\u036f")
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _INITIALS.sub(lambda match: match[0].replace(".", ""), text)
    text = _POSSESSIVE.sub("", text).replace("'", "").replace("\u2019", "")
    text = text.replace("%", " percent ").replace("per cent", "percent")
    text = _UNSPACED.sub(lambda match: f" {match[0]} ", _POINT.sub("\0", text))
    # Letters, marks and digits make up words; "\0" is the decimal point.
    words = "".join(c if c == "\0" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    found = to_digits(words.replace("\0", ".").split())
    return found if articles else [token for token in found if token not in _ARTICLES]


def token_recall(gold: str, prediction: str) -> float:
    """The share, from 0 to 1, of the gold answer's tokens that the prediction holds.

    Repeated tokens must be repeated. Gold answers of articles only are compared with articles,
    and those without any letter or digit as literal text.

    >>> token_recall("12 October 1492", "It was on October the twelfth.")
    0.6666666666666666
    >>> token_recall("+", "the sign +")
    1.0
    """
    for articles in (False, True):
        if wanted := tokens(gold, articles=articles):
            held = collections.Counter(tokens(prediction, articles=articles))
            return (collections.Counter(wanted) & held).total() / len(wanted)
    return float(gold.strip() in prediction)


def grade(gold: str, prediction: str, threshold: float = THRESHOLD) -> Verdict:
    """The verdict on one prediction; one with nothing visible in it is empty and wrong.

    >>> grade("twenty-one", "There are 21.")
    Verdict(correct=True, empty=False)
    >>> grade("twenty-one", " \\n")
    Verdict(correct=False, empty=True)
    """
    if is_blank(prediction):
        return Verdict(correct=False, empty=True)
    return Verdict(correct=token_recall(gold, prediction) >= threshold, empty=False)


def agreement(predicted: Sequence[bool], judged: Sequence[bool]) -> dict[str, float]:
    """How far two series of verdicts agree.

    Args:
      predicted: the grader's verdicts.
      judged: the judge's verdicts, of the same length.

    Returns:
      agreement (share of equal verdicts), kappa (Cohen's; 0 where chance explains all), and the
      precision and recall of the grader's "correct" (0 where undefined).

    >>> agreement([True, True, False, False], [True, False, False, False])
    {'agreement': 0.75, 'kappa': 0.5, 'precision': 0.5, 'recall': 1.0}
    """
    n = len(judged)
    pairs = collections.Counter(zip(predicted, judged, strict=True))
    both = pairs[True, True]
    yes_predicted, yes_judged = both + pairs[True, False], both + pairs[False, True]
    equal = (both + pairs[False, False]) / n
    chance = (yes_predicted * yes_judged + (n - yes_predicted) * (n - yes_judged)) / n**2
    return {
        "agreement": equal,
        "kappa": (equal - chance) / (1 - chance) if chance < 1 else 0.0,
        "precision": both / yes_predicted if yes_predicted else 0.0,
        "recall": both / yes_judged if yes_judged else 0.0,
    }


def choose_threshold(recalls: Sequence[float], judged: Sequence[bool]) -> float:
    """The threshold, in hundredths, with the most equal verdicts; the highest of several.

    >>> choose_threshold([0.5, 0.75, 1.0, 0.25], [False, True, True, False])
    0.75
    """

    def equal(threshold: float) -> int:
        return sum(
            (recall >= threshold) == verdict
            for recall, verdict in zip(recalls, judged, strict=True)
        )

    return max(_CANDIDATES, key=lambda threshold: (equal(threshold), threshold))


def question_fold(question: str, folds: int) -> int:
    """The fold of a question, 0 to folds - 1: a hash of its text, the same on every machine.

    >>> question_fold("What is the capitol of Kenya?", 10)
    1
    """
    return int(hashlib.sha256(question.encode()).hexdigest(), 16) % folds


def cross_validate(
    questions: Sequence[str], recalls: Sequence[float], judged: Sequence[bool], folds: int = 10
) -> dict[str, Any]:
    """Agreement on questions that the threshold was not chosen on.

    Args:
      questions: the question of each row; all rows of a question are in one fold
        (`question_fold`).
      recalls: token recall of each row (0 for an empty prediction).
      judged: the judge's verdict of each row.
      folds: number of folds.

    Returns:
      `agreement` of the held-out verdicts of all folds together, and the threshold of each fold.
    """
    fold_of = [question_fold(question, folds) for question in questions]
    verdicts, thresholds = [False] * len(judged), []
    for fold in range(folds):
        seen = [i for i, f in enumerate(fold_of) if f != fold]
        threshold = choose_threshold([recalls[i] for i in seen], [judged[i] for i in seen])
        thresholds.append(threshold)
        for i, f in enumerate(fold_of):
            if f == fold:
                verdicts[i] = recalls[i] >= threshold
    return {**agreement(verdicts, judged), "folds": folds, "thresholds": thresholds}


def report(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Agreement of this grader with judged rows {question, gold, prediction, correct}."""
    judged = [row["correct"] for row in rows]
    recalls = [
        0.0 if is_blank(row["prediction"]) else token_recall(row["gold"], row["prediction"])
        for row in rows
    ]
    questions = [row["question"] for row in rows]
    return {
        "n": len(rows),
        "questions": len(set(questions)),
        "threshold": THRESHOLD,
        **agreement([recall >= THRESHOLD for recall in recalls], judged),
        "cross_validated": cross_validate(questions, recalls, judged),
    }


def read_rows(path: str) -> list[dict[str, Any]]:
    """The judged rows of a JSON-lines file; blank lines are passed over.

    Raises:
      ValueError: a line is not a row; the message gives its number and what is expected.
      OSError: the file cannot be read.
    """
    kinds = {"question": str, "gold": str, "prediction": str, "correct": bool}
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}).") from None
            if not isinstance(row, dict) or not all(
                isinstance(row.get(name), kind) for name, kind in kinds.items()
            ):
                raise ValueError(
                    f"{path}, line {number}: expected an object with the strings question, gold "
                    "and prediction and the boolean correct."
                )
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no rows; expected one JSON object a line.")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line with the agreement on a file of judged rows."""
    parser = argparse.ArgumentParser(
        prog="python -m seal_jax.tasks.knowledge.grade",
        description="Agreement of the local grader with judged answers.",
    )
    parser.add_argument("rows", help="JSON lines {question, gold, prediction, correct}")
    try:
        rows = read_rows(parser.parse_args(argv).rows)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
