"""Prepares datasets ahead of a run: python -m seal_jax.tasks.knowledge.tfds NAME …"""

import argparse
import sys

from seal_jax.runtime import terminal
from seal_jax.tasks import splits
from seal_jax.tasks.knowledge.tfds import reader


def main(arguments: list[str] | None = None) -> int:
    """Prepares and reads each dataset; prints its size, and what was left out and why."""
    parser = argparse.ArgumentParser(
        prog="python -m seal_jax.tasks.knowledge.tfds", description=reader.__doc__
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="e.g. tfds:squad_passages/train")
    parser.add_argument("--data_dir", help="default: $TFDS_DATA_DIR or ~/tensorflow_datasets")
    options = parser.parse_args(arguments)
    for name in options.names:
        try:
            contexts, skipped = reader.load(name, data_dir=options.data_dir)
        except splits.DataError as error:
            terminal.say(f"error: {error}", error=True)
            return 1
        articles = len({context.title for context in contexts})
        questions = sum(len(context.questions) for context in contexts)
        terminal.say(
            f"{name}: {len(contexts)} passages of {articles} articles, {questions} questions"
        )
        for reason, count in splits.count_reasons(skipped).items():
            terminal.say(f"  left out {count}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
