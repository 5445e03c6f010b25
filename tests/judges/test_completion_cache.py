"""Completions on disk: what is asked again, what is not, and what damage and company do."""

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

import seal_jax
from seal_jax.judges import completion_cache, endpoint
from seal_jax.judges.chat_reply import Completion
from seal_jax.judges.completion_cache import CompletionCache
from seal_jax.judges.endpoint import EndpointError
from seal_jax.settings.endpoint import EndpointSettings

ROOT = os.path.dirname(os.path.dirname(seal_jax.__file__))
LONG = Completion("x" * 900, prompt_tokens=1, completion_tokens=1)
ASK = """
import sys
from seal_jax.judges import endpoint
from seal_jax.settings.endpoint import EndpointSettings
url, folder, count = sys.argv[1:]
settings = EndpointSettings(
    base_url=url, model="m", cache_dir=folder, concurrency=1 if count == "3" else 4)
found = endpoint.complete(settings, [f"p{i}" for i in range(int(count))])
print([completion.text for completion in found])
"""


@pytest.fixture
def settings(endpoint_server, tmp_path):
    return EndpointSettings(
        base_url=endpoint_server.url, model="m", concurrency=4, cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture
def start(endpoint_server, settings):
    """(count) -> a process that asks for p0, p1, ..."""

    def popen(count):
        return subprocess.Popen(
            [sys.executable, "-c", ASK, endpoint_server.url, settings.cache_dir, str(count)],
            env={**os.environ, "PYTHONPATH": ROOT},
            stdout=subprocess.PIPE,
            text=True,
        )

    return popen


def texts(completions):
    return [completion.text for completion in completions]


def test_what_is_on_the_disk_needs_no_endpoint(settings, endpoint_server, monkeypatch):
    first = endpoint.complete(settings, ["a", "b"])
    endpoint_server.close()
    monkeypatch.setitem(sys.modules, "httpx2", None)
    again = endpoint.complete(settings, ["b", "a"])
    assert texts(again) == texts(first)[::-1]
    assert all(completion.cached and completion.requests == 0 for completion in again)
    assert [completion.prompt_tokens for completion in again] == [7, 7]
    assert len(endpoint_server.requests) == 2


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"model": "other"}, {}),
        ({"max_tokens": 5}, {}),
        ({"temperature": 0.5}, {}),
        ({}, {"system": "Be brief."}),
        ({}, {"prompts": ["a "]}),
    ],
)
def test_another_question_is_asked_anew(settings, endpoint_server, changes, arguments):
    endpoint.complete(settings, ["a"])
    other = EndpointSettings(**{**vars(settings), **changes})
    (found,) = endpoint.complete(other, **{"prompts": ["a"], **arguments})
    assert not found.cached and len(endpoint_server.requests) == 2


def test_another_address_is_asked_anew(settings, endpoint_server):
    endpoint.complete(settings, ["a"])
    slash = EndpointSettings(**{**vars(settings), "base_url": f"{settings.base_url}/"})
    assert endpoint.complete(slash, ["a"])[0].cached
    other = EndpointSettings(**{**vars(settings), "base_url": f"{settings.base_url}/beta"})
    assert not endpoint.complete(other, ["a"])[0].cached


@pytest.mark.parametrize("changes", [{"concurrency": 1}, {"timeout": 9.0}, {"attempts": 2}])
def test_how_it_is_asked_does_not_matter(settings, changes):
    endpoint.complete(settings, ["a"])
    other = EndpointSettings(**{**vars(settings), **changes})
    assert endpoint.complete(other, ["a"])[0].cached


def test_samples_of_one_prompt_are_told_apart(settings, endpoint_server):
    two = texts(endpoint.complete(settings, ["a", "a"]))
    assert len(set(two)) == 2
    three = endpoint.complete(settings, ["a", "a", "a"])
    assert texts(three)[:2] == two
    assert [completion.cached for completion in three] == [True, True, False]


def test_failures_are_not_kept(settings, endpoint_server):
    endpoint_server.script = {"a": [(400, ""), "well"], "b": [(400, ""), "well"]}
    assert texts(endpoint.complete(settings, ["a", "b"])) == [None, None]
    assert texts(endpoint.complete(settings, ["a", "b"])) == ["well", "well"]


def test_a_file_that_is_no_cache_is_set_aside(settings, caplog):
    endpoint.complete(settings, ["a"])
    file = os.path.join(settings.cache_dir, completion_cache.FILE_NAME)
    for number in (1, 2):
        with open(file, "wb") as damaged:
            damaged.write(b"not a database" * 100)
        (found,) = endpoint.complete(settings, ["a"])
        assert not found.cached
        assert f"damaged: renamed to completions.sqlite3.damaged-{number}" in caplog.text
        assert endpoint.complete(settings, ["a"])[0].cached


def test_damage_that_is_met_later_is_set_aside(tmp_path, caplog):
    with CompletionCache(tmp_path) as cache:
        for i in range(20):
            cache.put(f"{i:03}", "m", LONG)
        size = cache.path.stat().st_size
    with open(cache.path, "r+b") as file:
        file.seek(size // 8192 * 4096)
        file.write(b"\xff" * (size // 2))
    with CompletionCache(tmp_path) as cache:
        assert cache.get("000") == dataclasses.replace(LONG, cached=True) and not caplog.text
        assert cache.get("019") is None and cache.get("000") is None
        assert caplog.text.count("damaged: renamed to") == 1
        new = Completion("kept", truncated=True, prompt_tokens=3, completion_tokens=4)
        cache.put("new", "m", new)
    with CompletionCache(tmp_path) as cache:
        assert cache.get("new") == dataclasses.replace(new, cached=True)


def test_a_disk_that_takes_no_more_loses_nothing(settings, endpoint_server, monkeypatch, caplog):
    def full(path, thorough):
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(completion_cache._TABLE)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(completion_cache, "_connect", full)
    endpoint_server.script = {prompt: [prompt * 9000] for prompt in "abc"}
    found = endpoint.complete(settings, ["a", "b", "c"])
    assert texts(found) == ["a" * 9000, "b" * 9000, "c" * 9000]
    assert caplog.text.count("fails (database or disk is full)") == 1


def test_a_folder_that_cannot_be_one(settings, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(EndpointError, match="cache_dir"):
        endpoint.complete(settings, ["a"])


def test_threads_share_a_cache(settings, endpoint_server):
    prompts = [f"p{i}" for i in range(20)]
    found = [None, None]

    def run(i):
        found[i] = texts(endpoint.complete(settings, prompts))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Every reply of the server is another text: the first one that is kept is everybody's.
    assert found[0] == found[1] == texts(endpoint.complete(settings, prompts))


def test_two_processes_share_a_cache(settings, endpoint_server, start):
    processes = [start(20), start(20)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    again = endpoint.complete(settings, [f"p{i}" for i in range(20)])
    assert outputs[0] == outputs[1] == f"{texts(again)}\n"
    assert all(completion.cached for completion in again)


def test_a_killed_process_loses_nothing_that_was_finished(settings, endpoint_server, start):
    arrived, release = threading.Event(), threading.Event()
    endpoint_server.script = {"p2": [lambda: arrived.set() or release.wait(5) or "late", "then"]}
    process = start(3)
    assert arrived.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    release.set()
    found = endpoint.complete(settings, ["p0", "p1", "p2"])
    assert [completion.cached for completion in found] == [True, True, False]
    assert texts(found) == ["p0 #1", "p1 #2", "then"]


@pytest.mark.fault("S10")
def test_a_flipped_bit_never_gives_another_completion(tmp_path):
    long = Completion("yes " * 50, truncated=True, prompt_tokens=300, completion_tokens=2)
    with CompletionCache(tmp_path) as cache:
        for i in range(3):
            cache.put(f"{i:03}", "m", long)
    whole, noticed = cache.path.read_bytes(), 0
    start = whole.index(b"000")  # rows lie at the end of their page
    for place in range(start - 700, len(whole), 5):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / completion_cache.FILE_NAME).write_bytes(content)
        with CompletionCache(folder) as damaged:
            found = [damaged.get(f"{i:03}") for i in range(3)]
        assert set(found) <= {None, dataclasses.replace(long, cached=True)}
        noticed += None in found
    assert noticed > 50


@pytest.mark.fault("S10")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("text", "another"), ("text", b"kept"), ("text", 3), ("truncated", 1), ("truncated", "x"),
        ("prompt_tokens", 4), ("completion_tokens", 5), ("sha256", "0" * 64),
    ],
)  # fmt: skip
def test_a_row_that_its_checksum_does_not_fit_is_asked_again(tmp_path, caplog, column, value):
    old, new = (Completion(text, prompt_tokens=3, completion_tokens=4) for text in ("kept", "new"))
    with CompletionCache(tmp_path) as cache:
        cache.put("a", "m", old)
    with sqlite3.connect(cache.path) as connection:
        connection.execute(f"UPDATE completions SET {column} = ?", (value,))
    connection.close()
    with CompletionCache(tmp_path) as cache:
        assert cache.get("a") is None
        assert caplog.text.count("a row of the completion cache") == 1
        assert cache.put("a", "m", new) == dataclasses.replace(new, cached=True)
    with CompletionCache(tmp_path) as cache:
        assert cache.get("a") == dataclasses.replace(new, cached=True)


@pytest.mark.fault("S10", control=True)
def test_a_cache_from_before_rows_had_checksums_is_used(settings, endpoint_server):
    endpoint.complete(settings, ["a", "b"])
    file = os.path.join(settings.cache_dir, completion_cache.FILE_NAME)
    with sqlite3.connect(file) as connection:
        connection.execute("ALTER TABLE completions DROP COLUMN sha256")
        connection.execute("UPDATE completions SET text = ' ' WHERE text LIKE 'b%'")
    connection.close()
    found = endpoint.complete(settings, ["a", "b"])
    assert [one.cached for one in found] == [True, False]  # an empty text is no completion
    assert all(one.cached for one in endpoint.complete(settings, ["a", "b"]))
