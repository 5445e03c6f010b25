"""Which configs there are, and where each value of one is from."""

import pytest

from seal_jax import cli
from seal_jax.settings import SettingsError, config_files

CONFIG = '''"""Mine.

More words.
"""

from seal_jax.settings import config_dict


def small(config):
    """Small and quick.

    In more detail.
    """
    config.inner.epochs = 1
    config.inner.lora.rank = 4


VARIANTS = {"small": small}
SWEEPS = {"seeds": {"seed": (0, 1)}}


def get_config(variant="small"):
    return config_dict.of_variant(VARIANTS, variant)
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(CONFIG)
    (tmp_path / "other.py").write_text('"""Not a config."""\n')
    return tmp_path


def test_the_listing_has_first_lines(folder):
    assert config_files.listing(folder).splitlines() == [
        "mine: Mine.",
        f"  {folder}/mine.py:small  Small and quick.",
        "  sweeps (--sweep=NAME): seeds",
    ]
    assert config_files.listing(folder, "mine.py:small") == "Small and quick.\n\nIn more detail."


@pytest.mark.parametrize("only", ["your.py", "mine.py:large", "other.py"])
def test_what_is_not_there_is_an_error(folder, only):
    with pytest.raises(SettingsError, match=r"no (config file|variant)"):
        config_files.listing(folder, only)


def test_every_variant_of_the_project_is_documented(capsys):
    assert cli.main(["configs"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    offered = {line.split()[0] for line in lines}
    assert {"knowledge:demo", "knowledge:cpt-200-v1", "few_shot:llama3.2-1b"} <= offered
    assert all(len(line.split()) > 2 for line in lines)
    assert cli.main(["configs", "few_shot:demo"]) == 0
    assert "seal train few_shot:demo --workdir=runs/arc-demo" in capsys.readouterr().out


def test_values_say_where_they_are_from(folder, capsys):
    arguments = [f"--config={folder}/mine.py", "--config.seed=3", "--config.inner.lora.rank=4"]
    assert cli.main(["train", *arguments, "--print_config"]) == 0
    shown = dict(line.split(" = ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["seed"].split() == ["3", "#", "override"]
    assert shown["inner.lora.rank"].split() == ["4", "#", "override"]
    assert shown["inner.epochs"].split() == ["1", "#", "mine.py"]
    assert shown["inner.lora.alpha"].split() == ["64.0"]


def test_an_impossible_config_is_not_printed(folder, capsys):
    arguments = [f"--config={folder}/mine.py:small", "--config.inner.lora.rank=0"]
    assert cli.main(["train", *arguments, "--print_config"]) == 2
    assert "rank must be at least 1" in capsys.readouterr().err


def test_sweeps_are_started_by_name(folder, capsys, monkeypatch):
    from seal_jax.settings import sweeps

    started = []
    monkeypatch.setattr(sweeps, "run", lambda grid, *rest, **named: started.append((grid, rest[1])))
    config = f"--config={folder}/mine.py:small"
    assert cli.main(["train", config, "--workdir=w", "--sweep=seeds"]) == 0
    assert started == [({"seed": (0, 1)}, "w")]
    assert cli.main(["train", config, "--workdir=w", "--sweep=ranks"]) == 2
    assert "declares seeds" in capsys.readouterr().err
