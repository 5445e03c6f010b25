"""What an installation holds."""

import configparser
import pathlib
import re

import seal_jax

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_every_folder_of_modules_is_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "seal_jax").rglob("*.py")}
    found = {".".join(folder.parts) for folder in folders}
    assert listed == found | {"seal_jax.configs"}


def test_there_is_one_version():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited and cited[1] == seal_jax.__version__
    assert "version = attr: seal_jax.__version__" in (ROOT / "setup.cfg").read_text()
