"""Records a command as a picture of a terminal, for the README.

python launch/record_terminal.py docs/figures/adapt.svg "seal adapt tower.txt --question='Who …'"

The command runs in a shell, here and now; what it prints, but for its progress, is drawn as it is.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import rich.console
import rich.terminal_theme

WIDTH = 116


def main(out: str, command: str) -> None:
    console = rich.console.Console(record=True, width=WIDTH, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(f"$ {command}", style="bold", highlight=False, markup=False)
    environment = os.environ | {"COLUMNS": str(WIDTH)}
    done = subprocess.run(
        command, shell=True, check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    console.print(done.stdout.rstrip(), highlight=False, markup=False)
    title = shlex.split(command)[0]
    picture = console.export_svg(title=title, theme=rich.terminal_theme.MONOKAI)
    # Fonts from the network are not shown in an image, and not needed.
    pathlib.Path(out).write_text(re.sub(r"@font-face\s*\{[^}]*\}\s*", "", picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
