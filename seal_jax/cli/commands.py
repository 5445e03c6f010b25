"""The commands: what each is for, its flags, and the program that it starts.

Programs are imported when their command runs, so that --help and the commands that only read files
start at once.
"""

from collections.abc import Mapping

from seal_jax.cli import exports, planning, reports, runs
from seal_jax.cli.base import Command, UsageError

__all__ = ["COMMANDS", "Command", "UsageError"]

COMMANDS: Mapping[str, Command] = {
    **runs.COMMANDS,
    **planning.COMMANDS,
    **exports.COMMANDS,
    **reports.COMMANDS,
}
