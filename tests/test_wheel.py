"""A wheel in an environment of its own, away from the checkout: what its users start with."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import venv

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ("library_faq.md", "biography.txt", "pump_manual.md")


@pytest.fixture(scope="module")
def seal(tmp_path_factory):
    """(arguments) -> what `seal` prints, in a directory with texts and nothing else of ours."""
    folder = tmp_path_factory.mktemp("user")
    wheels, environment = folder / "wheels", folder / "environment"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True)
    venv.create(environment, with_pip=True)
    [wheel] = wheels.glob("seal_jax-*.whl")
    # With the checkout on PYTHONPATH, pip would take its metadata for an installed package; and the
    # tests' fake devices are not for users.
    ours = ("PYTHON", "JAX_", "XLA_")
    clean = {name: of for name, of in os.environ.items() if not name.startswith(ours)}
    pip[0] = str(environment / "bin" / "python")
    subprocess.run([*pip, "install", wheel], check=True, env=clean)
    shutil.copytree(ROOT / "docs" / "own_texts", folder / "texts")

    def run(*arguments):
        return subprocess.run(
            [environment / "bin" / "seal", *map(str, arguments)],
            cwd=folder,
            env=clean,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    run.folder = folder
    return run


def test_the_commands_of_pages_are_found_and_installing_is_left_to_the_wheel(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\npip install .\nseal configs\n```\n```python\nimport seal_jax\n```\n"
        "```bash\ngit clone x\n```\n```bash\nseal train \\\n    --workdir=a\n```\n"
    )
    script = ["bash", ROOT / "launch" / "stranger.sh", "--list", f"--pages={page}"]
    said = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == [
        f"{page}: seal configs", f"{page}: seal train \\;     --workdir=a",
    ]  # fmt: skip
    script[-1] = "--pages=docs/start.md"
    said = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert "seal train knowledge:demo" in said and "pip install" not in said


@pytest.mark.long
def test_what_a_stranger_types(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)
    [wheel] = tmp_path.glob("seal_jax-*.whl")
    log = tmp_path / "log"
    script = ["bash", ROOT / "launch" / "stranger.sh", wheel, f"--log={log}"]
    assert subprocess.run([*script, "--pages=docs/start.md"]).returncode == 0, log.read_text()


@pytest.mark.long
@pytest.mark.parametrize("name", TEXTS)
def test_own_texts_are_learned(seal, name):
    pairs = json.loads((ROOT / "docs" / "own_questions.json").read_text())[name]
    (seal.folder / "questions.json").write_text(json.dumps(pairs))
    said = seal("adapt", f"texts/{name}", "--questions=questions.json", "--json=adapted.json")
    found = json.loads((seal.folder / "adapted.json").read_text())
    assert [one["question"] for one in found["questions"]] == [question for question, _ in pairs]
    assert all(one["after"] != one["before"] for one in found["questions"])
    assert f"facts learned: {found['learned']} of {len(pairs)}" in said
    assert found["learned"] > found["correct"]["before"]


@pytest.mark.long
def test_the_demo_its_report_and_its_exports(seal):
    said = seal("train", "knowledge:demo", "--workdir=demo")
    assert "What came of it" in said and "report: " in said
    seal("report", "--workdir=demo", "--out=again.html")
    assert (seal.folder / "again.html").stat().st_size > 10_000
    seal("export", "--workdir=demo", "--out=policy")
    seal("export", "--workdir=demo", "--out=adapter", "--what=adapter", "--with-base")
    base = json.loads((seal.folder / "adapter" / "adapter_config.json").read_text())
    assert (pathlib.Path(seal.folder, base["base_model_name_or_path"]) / "config.json").exists()


@pytest.mark.long
def test_a_directory_of_texts_is_trained_on(seal):
    flags = ["--config.data.train_path=texts", "--config.data.max_words=60"]
    said = seal("train", "knowledge:smoke", "--workdir=own", *flags, "--config.reward.kind=length")
    assert "before RL" in said
    results = json.loads((seal.folder / "own" / "results.json").read_text())
    assert results["planted_reward"]
