"""Hub ids: only whole commits are loaded, and each failure says what to do. Nothing is fetched."""

import fnmatch
import json

import httpx2
import numpy as np
import pytest
from huggingface_hub import errors

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import hub, peft, tokenizer
from seal_jax.weights import safetensors as checkpoint
from seal_jax.weights.load import load_model
from seal_jax.weights.names import WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PINNED = f"Owner/tiny-model@{COMMIT}"


@pytest.fixture
def download(monkeypatch):
    """Stands in for snapshot_download: gives a folder or raises, and keeps what it was asked."""
    asked = {}

    def set_answer(answer):
        def stand_in(repository, **options):
            asked.update(options, repository=repository)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", stand_in)
        return asked

    return set_answer


def test_a_pinned_id_is_loaded_and_named_with_its_commit(
    tmp_path, monkeypatch, download, hf_settings, random_params, write_gguf
):
    settings = hf_settings("llama")
    config = ModelConfig.from_hf(settings)
    params = random_params(config)
    checkpoint.save(tmp_path / COMMIT, params, settings)
    tokenizer.from_gguf(write_gguf(config, params)).save_pretrained(tmp_path / COMMIT)
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    asked = download(tmp_path / COMMIT)
    model = load_model(PINNED, np.float32)
    np.testing.assert_equal(model.params, params)
    assert model.source == f"{PINNED}, float32 safetensors"
    assert (asked["repository"], asked["revision"]) == ("Owner/tiny-model", COMMIT)
    assert asked["token"] == "a-secret"
    patterns = asked["allow_patterns"]
    assert {"config.json", "model*.safetensors", "tokenizer*"} <= set(patterns)
    assert not [p for p in patterns if p.endswith((".bin", ".pth", ".gguf")) or p.startswith("*")]


@pytest.mark.fault("6")
def test_what_a_local_directory_is_read_for_is_fetched(tmp_path, monkeypatch, hf_settings):
    """Its ends of turns and named templates; and shards, whatever the index calls them."""
    whole = tmp_path / "whole"
    whole.mkdir()
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    for name, text in {
        "config.json": "{}",
        "generation_config.json": "{}",
        "model.safetensors.index.json": json.dumps(index),
        "part-1.safetensors": "1",
        "part-2.safetensors": "2",
        "additional_chat_templates/rag.jinja": "x",
        "chat_template.jinja": "x",
        "added_tokens.json": "{}",
        "pytorch_model.bin": "no",
        "original/consolidated.safetensors": "no",
    }.items():
        (whole / name).parent.mkdir(exist_ok=True)
        (whole / name).write_text(text)

    def download(repository, *, allow_patterns, **_):
        for file in whole.rglob("*"):
            name = file.relative_to(whole).as_posix()
            if file.is_file() and any(fnmatch.fnmatch(name, p) for p in allow_patterns):
                (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "cache" / name).write_text(file.read_text())
        return str(tmp_path / "cache")

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", download)
    folder = hub.fetch(PINNED)
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert found == {
        file.relative_to(whole).as_posix() for file in whole.rglob("*") if file.is_file()
    } - {"pytorch_model.bin", "original/consolidated.safetensors"}


def _refusal(kind, status=404):
    request = httpx2.Request("GET", "https://huggingface.co/api")
    return kind("the hub's own words", response=httpx2.Response(status, request=request))


def _caused_by(error):
    outer = errors.LocalEntryNotFoundError("no snapshot folder")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (_refusal(errors.GatedRepoError, 403), r"is gated: accept its terms.*HF_TOKEN"),
        (_caused_by(_refusal(errors.GatedRepoError, 403)), r"is gated: accept its terms"),
        (_refusal(errors.RepositoryNotFoundError), r"no model Owner/tiny-model, or it is private"),
        (_refusal(errors.RevisionNotFoundError), rf"Owner/tiny-model has no commit {COMMIT}"),
        (
            _caused_by(errors.OfflineModeIsEnabled("off")),
            rf"not in the local cache.*{COMMIT} --loc",
        ),
        (httpx2.ConnectError("no route"), r"could not be fetched \(ConnectError: no route\)"),
    ],
)
def test_what_goes_wrong_is_explained(download, error, message):
    download(error)
    with pytest.raises(WeightsError, match=message):
        load_model(PINNED, np.float32)


@pytest.mark.parametrize(
    ("path", "revision", "said"),
    [
        ("Owner/tiny-model", "", "no revision is given"),
        ("Owner/tiny-model@main", "main", "'main' can move"),
        (f"Owner/tiny-model@{COMMIT[:8]}", COMMIT[:8], "can move"),
    ],
)
def test_an_id_that_can_change_is_refused_with_todays_commit(monkeypatch, path, revision, said):
    asked = []
    monkeypatch.setattr(hub, "_commit", lambda *given: asked.append(given) or COMMIT)
    with pytest.raises(FileNotFoundError) as caught:
        load_model(path, np.float32)
    assert asked == [("Owner/tiny-model", revision)]
    assert said in str(caught.value)
    assert str(caught.value).endswith(f"model.path={PINNED}")


def test_an_adapter_names_the_commit_where_peft_looks_for_it(tmp_path):
    spec = peft.DeltaSpec(kind="low_rank", rank=1, alpha=1.0, targets=("q_proj",))
    factors = {"a": np.ones((1, 4, 1), np.float32), "b": np.ones((1, 1, 4), np.float32)}
    delta = peft.Delta({"layers": {"attn": {"q_proj": factors}}}, spec)
    peft.save(tmp_path, delta, PINNED)
    settings = json.loads((tmp_path / peft.CONFIG).read_text())
    assert settings["base_model_name_or_path"] == "Owner/tiny-model"
    assert settings["revision"] == COMMIT
