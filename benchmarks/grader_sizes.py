"""The local grader's size against its agreement with a judge: its parts go one after another.

    git show be6fa97:seal_jax/tasks/knowledge/lexicon.py > lexicon-2.py
    python -m benchmarks.grader_sizes --rows=$SEAL_JAX_DATA/grading/verdicts.jsonl \\
        --synonyms=lexicon-2.py

A line for each form, from the whole to the smallest; each lacks its own part and those of all lines
above. With `--synonyms`, the first is the whole with local-2's list of them. Lines of code are
without comments and docstrings; Cohen's kappa is cross-validated by question, "folds" being the
mean and the standard deviation of the ten folds' own kappas. The table in docs/grading.md is this.
"""

import argparse
import ast
import inspect
import runpy
import statistics
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from seal_jax.judges.local import calibration, denial, grade, variants
from seal_jax.reports import grade as command
from seal_jax.tasks.knowledge import lexicon, numerals, words

Code = ModuleType | Callable
WHOLE = (words, numerals, lexicon, variants, denial, grade, calibration, command)


def lines(code: Code) -> int:
    """Lines of code of a module or function, without blanks, comments and docstrings."""
    source = textwrap.dedent(inspect.getsource(code))
    rows = enumerate(source.split("\n"), start=1)
    found = {i for i, line in rows if line.strip() and not line.strip().startswith("#")}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            found -= {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    return len(found)


def _without_variants() -> None:
    variants.insert = lambda gold, prediction: prediction


def _without_denials() -> None:
    grade.denied = lambda words, wanted, asked: [False] * len(words)


def _with_rules(*names: str) -> Callable[[], None]:
    def leave() -> None:
        grade.RULES = {name: grade.RULES[name] for name in names}

    return leave


def _with_features(*names: str) -> Callable[[], None]:
    def leave() -> None:
        calibration.NAMES = ("bias", *names)

    return leave


def _without_numerals() -> None:
    words.to_digits = list


def _without_lexicon() -> None:
    lexicon.FORMS.clear()
    words.keys.cache_clear()


PARTS: Sequence[tuple[str, Callable[[], None], Sequence[Code]]] = (
    ("the whole", lambda: None, ()),
    ("no acronyms, decades, rounding", _without_variants, (variants,)),
    ("no denials", _without_denials, (denial,)),
    (
        "no rule but for numbers",
        _with_rules("same words", "other number or month"),
        (
            grade._yes_or_no,
            grade._other_unit_or_letter,
            grade._labels,
            grade._mere_list,
            grade._part_missing,
            grade._items,
        ),
    ),
    ("no number words", _without_numerals, (numerals,)),
    ("no places and peoples", _without_lexicon, (lexicon,)),
    ("recall and precision alone", _with_features("recall", "precision"), (grade._pieces,)),
    ("recall alone", _with_features("recall"), ()),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each form."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grader_sizes", description="Size of the grader against kappa."
    )
    parser.add_argument("--rows", required=True, help="a file of judged rows, as for `grade`")
    parser.add_argument("--synonyms", help="the lexicon of local-2, a file of Python")
    flags = parser.parse_args(argv)
    rows = calibration.read_rows(flags.rows)
    if flags.synonyms:
        added = runpy.run_path(flags.synonyms)
        kept = {word: set(groups) for word, groups in lexicon.FORMS.items()}
        for word, groups in added["SYNONYMS"].items():
            lexicon.FORMS.setdefault(word, set()).update(-1 - group for group in groups)
        _print(rows, sum(map(lines, WHOLE)) + added["_SYNONYMS"].count("\n"), "with synonyms")
        lexicon.FORMS.clear()
        lexicon.FORMS.update(kept)
        words.keys.cache_clear()
    size = sum(map(lines, WHOLE))
    for name, take_out, code in PARTS:
        take_out()
        size -= sum(map(lines, code))
        _print(rows, size, name)
    return 0


def _print(rows: Sequence[Mapping[str, Any]], size: int, name: str) -> None:
    decisions = [grade.decide(r["gold"], r["prediction"], r["question"]) for r in rows]
    table = calibration.tabulate(rows, decisions)
    found_N, judged_N = calibration.cross_validate(table), table.judged_N

    def kappa(chosen_N: np.ndarray) -> float:
        found, judged = found_N[chosen_N].tolist(), judged_N[chosen_N].tolist()
        return calibration.agreement(found, judged)["kappa"]

    of_folds = [kappa(table.fold_N == fold) for fold in range(calibration.FOLDS)]
    spread = f"{statistics.mean(of_folds):.3f} ± {statistics.stdev(of_folds):.3f}"
    whole = kappa(np.ones(len(judged_N), bool))
    print(f"{size:4} lines  kappa {whole:.3f}  folds {spread}  {name}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
