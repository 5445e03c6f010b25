"""Models of the Hugging Face hub, by id and commit: `Qwen/Qwen2.5-7B@<40 hexadecimal digits>`.

A repository can change under its name, a branch or a tag; a commit cannot. So an id without a
commit is refused with the commit that it stands for today, and what a run says of its model names
the bytes it used.
"""

import os
import pathlib
import re
from collections.abc import Sequence

import huggingface_hub
from etils import epath
from huggingface_hub import errors
from huggingface_hub.utils import logging

from seal_jax.weights import safetensors
from seal_jax.weights.names import WeightsError

_NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^@\s]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SITE = "https://huggingface.co"
# Weights that safetensors holds, and whatever a tokenizer of these families may be stored in.
_FILES = (
    "config.json",
    "generation_config.json",
    "seal_jax_export.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "additional_chat_templates/*",
)
_SECONDS = 10


def split(path: str) -> tuple[str, str] | None:
    """Repository and revision ("" where none is given) of a hub id; None for another text.

    >>> split("Qwen/Qwen2.5-7B@main")
    ('Qwen/Qwen2.5-7B', 'main')
    >>> split("/models/Qwen2.5-7B") is None
    True
    """
    match = _NAME.fullmatch(path)
    return (match["repository"], match["revision"] or "") if match else None


def is_pinned(path: str) -> bool:
    """Whether `path` is a hub id with a whole commit."""
    parts = split(path)
    return parts is not None and _COMMIT.fullmatch(parts[1]) is not None


def fetch(path: str) -> pathlib.Path:
    """The local directory of an id for which `is_pinned`, downloaded unless in the hub's cache.

    Only what a local directory is read for is fetched: configs, tokenizer, safetensors; with the
    token in HF_TOKEN (or of `hf auth login`) if there is one.

    Raises:
      WeightsError: it cannot be fetched; says what to do.
    """
    repository, revision = split(path) or (path, "")
    folder = _download(repository, revision, _FILES)
    index = folder / safetensors.INDEX
    if index.exists() and not (folder / safetensors.SINGLE).exists():
        shards = set(safetensors.read_index(epath.Path(folder)).values())
        if not all((folder / shard).exists() for shard in shards):  # of other names
            _download(repository, revision, sorted(shards))
    return folder


def _download(repository: str, revision: str, patterns: Sequence[str]) -> pathlib.Path:
    """The directory with the files that match; fetches those that the cache lacks."""
    logging.set_verbosity_error()  # each of its tries warns, and the last one is told below
    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            token=os.environ.get("HF_TOKEN") or None,
        )
    except Exception as error:  # beside its own errors, the client raises its HTTP library's
        raise WeightsError(_not_fetched(repository, revision, error)) from error
    return pathlib.Path(folder)


def how_to_pin(path: str) -> str:
    """What to say of a hub id without a commit: the one it stands for now, where that is known."""
    repository, revision = split(path) or (path, "")
    given = f"the revision {revision!r} can move" if revision else "no revision is given"
    refusal = (
        f"There is no directory {path!r}. As a model of the Hugging Face hub it needs a commit "
        f"({given}), so that the run can be repeated"
    )
    try:
        commit = _commit(repository, revision)
    except Exception as error:  # as above
        return (
            f"{refusal}: {repository}@COMMIT, with the 40 digits of one from "
            f"{_SITE}/{repository}/commits/main. (What it stands for now could not be looked up: "
            f"{_in_one_line(error)})"
        )
    return f"{refusal}. For what the hub has now, set\n  model.path={repository}@{commit}"


def _commit(repository: str, revision: str) -> str:
    """The commit that a branch, tag or nothing stands for; asks the hub."""
    token = os.environ.get("HF_TOKEN") or None
    found = huggingface_hub.HfApi(token=token).model_info(
        repository, revision=revision or None, timeout=_SECONDS
    )
    return str(found.sha)


def _not_fetched(repository: str, revision: str, error: BaseException) -> str:
    name, page = f"{repository}@{revision}", f"{_SITE}/{repository}"
    reasons = {
        errors.GatedRepoError: f"{name} is gated: accept its terms at {page}, make a token that "
        f"may read it at {_SITE}/settings/tokens, and set HF_TOKEN to it.",
        errors.RevisionNotFoundError: f"{repository} has no commit {revision}: take one of "
        f"{page}/commits/main.",
        errors.RepositoryNotFoundError: f"The hub has no model {repository}, or it is private: "
        f"check the name at {page}; for a private one, set HF_TOKEN to a token that may read it.",
    }
    for kind, reason in reasons.items():
        if any(isinstance(cause, kind) for cause in _causes(error)):
            return reason
    folder = repository.split("/")[-1]
    return (
        f"{name} is not in the local cache and could not be fetched ({_in_one_line(error)}). "
        "Check the connection and HF_HUB_OFFLINE; or fetch it on a machine that reaches the hub, "
        f"with `hf download {repository} --revision {revision} --local-dir {folder}`, copy it here "
        f"and set model.path={folder}."
    )


def _causes(error: BaseException | None):
    """The error, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_one_line(error: BaseException) -> str:
    """Kind and start of an error's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
