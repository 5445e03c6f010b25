"""What an installation holds."""

import configparser
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_every_folder_of_modules_is_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "seal_jax").rglob("*.py")}
    found = {".".join(folder.parts) for folder in folders}
    assert listed == found | {"seal_jax.configs"}
