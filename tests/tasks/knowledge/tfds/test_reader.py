"""Datasets that are prepared and read for real, without TensorFlow and without a network."""

import functools
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import tensorflow_datasets as tfds
from knowledge_tasks import knowledge_task

from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.knowledge.tfds import __main__ as program
from seal_jax.tasks.knowledge.tfds import reader
from seal_jax.tasks.splits import DataError

ROOT = pathlib.Path(__file__).resolve().parents[4]
FILES = ROOT / "tests" / "data" / "squad_passages"
TRAIN = FILES / "train-v1.1.json"
SPLIT = reader.dataset.FILE_SPLIT


def _relative(skipped, source):
    return [(part.where.removeprefix(f"{source}: "), part.reason) for part in skipped]


def _golds(context):
    return [question.golds for question in context.questions]


def _damage(data_dir, pattern, change):
    """Applies `change` to the one file of a prepared dataset that `pattern` matches."""
    (file,) = data_dir.glob(f"squad_passages/file-*/*/{pattern}")
    change(file)


@pytest.fixture
def prepared(tmp_path):
    """(data dir, name) of a prepared dataset."""
    name = f"tfds:{TRAIN}"
    reader.load(name, data_dir=tmp_path / "data")
    return tmp_path / "data", name


def test_the_same_passages_as_from_the_file_in_order(tmp_path):
    name = f"tfds:{TRAIN}"
    expected, skipped = squad.load(TRAIN)
    assert [len(passage.questions) for passage in expected] == [2, 2, 1, 1]
    assert expected[1].questions[0].golds == ("a flood", "flood", "the flood of 1902")
    for _ in range(2):  # as prepared, and as read again
        found, left_out = reader.load(name, data_dir=tmp_path)
        assert found == expected
        assert [_golds(one) for one in found] == [_golds(one) for one in expected]
        assert _relative(left_out, name) == _relative(skipped, TRAIN)
    assert len(left_out) == 2


def test_tensorflow_is_not_asked_for(prepared):
    """In a process where importing TensorFlow fails, whether or not it is installed."""
    data_dir, name = prepared
    script = f"""
        import importlib.util, sys

        class Refuse:
            def find_spec(self, name, *_):
                if name.partition(".")[0] == "tensorflow":
                    raise ModuleNotFoundError(name)

        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *a: None if name == "tensorflow" else find(name, *a)
        sys.meta_path.insert(0, Refuse())
        from seal_jax.tasks.knowledge.tfds import reader
        assert len(reader.load({name!r}, data_dir={str(data_dir)!r})[0]) == 4
        assert len(reader.load({name!r}, data_dir={str(data_dir / "new")!r})[0]) == 4
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=ROOT)


def test_order_over_several_shards(tmp_path):
    document = {
        "data": [
            {
                "title": f"Article {i % 7}",
                "paragraphs": [{"context": f"Text {i}.", "qas": [_question(i)]}],
            }
            for i in range(40)
        ]
    }
    file = tmp_path / "many.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    builder = reader.dataset.Builder(data_dir=tmp_path, config=reader.dataset.of_file(file))
    builder.download_and_prepare(
        file_format="array_record", download_config=tfds.download.DownloadConfig(num_shards=3)
    )
    assert len(builder.info.splits[SPLIT].filenames) == 3
    assert reader.load(f"tfds:{file}", data_dir=tmp_path)[0] == squad.load(file)[0]


def _question(number):
    return {"id": str(number), "question": "Who?", "answers": [{"text": "Ada"}]}


def test_a_second_load_prepares_nothing(prepared, monkeypatch):
    data_dir, name = prepared

    def refuse(*_, **__):
        raise AssertionError("prepared again")

    monkeypatch.setattr(reader.dataset.Builder, "_split_generators", refuse)
    assert len(reader.load(name, data_dir=data_dir)[0]) == 4


def test_a_changed_file_is_another_dataset(tmp_path):
    file = tmp_path / "a.json"
    shutil.copy(TRAIN, file)
    reader.load(f"tfds:{file}", data_dir=tmp_path)
    file.write_text(file.read_text("utf-8").replace("nine arches", "ten arches"), encoding="utf-8")
    contexts, _ = reader.load(f"tfds:{file}", data_dir=tmp_path)
    assert "ten arches" in contexts[0].text
    assert contexts == squad.load(file)[0]
    assert len(list((tmp_path / "squad_passages").glob("file-*"))) == 2
    # The same bytes under another name are the same dataset.
    reader.load(f"tfds:{TRAIN}", data_dir=tmp_path)
    assert len(list((tmp_path / "squad_passages").glob("file-*"))) == 2


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    shutil.copy(TRAIN, file)
    read = squad.load

    def read_and_change(path):
        found = read(path)
        file.write_text(file.read_text("utf-8") + " ", encoding="utf-8")
        return found

    monkeypatch.setattr(reader.dataset.squad, "load", read_and_change)
    with pytest.raises(DataError, match="changed while it was read"):
        reader.load(f"tfds:{file}", data_dir=tmp_path / "data")


def test_a_killed_preparation_is_not_taken_for_a_complete_one(tmp_path):
    script = f"""
        import os, signal
        from seal_jax.tasks.knowledge.tfds import reader

        def killed(self, contexts):
            yield contexts[0].id, reader.dataset.to_example(contexts[0])
            os.kill(os.getpid(), signal.SIGKILL)

        reader.dataset.Builder._generate_examples = killed
        reader.load("tfds:{TRAIN}", data_dir={str(tmp_path)!r})
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("squad_passages/file-*/incomplete.*"))
    assert not list(tmp_path.glob("squad_passages/file-*/1.0.0"))
    assert reader.load(f"tfds:{TRAIN}", data_dir=tmp_path)[0] == squad.load(TRAIN)[0]


def test_of_two_preparations_at_once_one_is_kept(tmp_path, monkeypatch):
    name = f"tfds:{TRAIN}"
    generate = reader.dataset.Builder._generate_examples

    def generate_late(self, passages):
        monkeypatch.setattr(reader.dataset.Builder, "_generate_examples", generate)
        assert len(reader.load(name, data_dir=tmp_path)[0]) == 4  # the quicker one
        yield from generate(self, passages)

    monkeypatch.setattr(reader.dataset.Builder, "_generate_examples", generate_late)
    assert reader.load(name, data_dir=tmp_path)[0] == squad.load(TRAIN)[0]


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("*.array_record-*", pathlib.Path.unlink),
        ("*.array_record-*", lambda file: os.truncate(file, 0)),
        ("*.array_record-*", lambda file: os.truncate(file, 65536)),
        ("dataset_info.json", pathlib.Path.unlink),
        ("dataset_info.json", lambda file: os.truncate(file, 9)),
        ("metadata.json", pathlib.Path.unlink),
    ],
)
def test_a_damaged_dataset_is_named(prepared, pattern, change):
    data_dir, name = prepared
    _damage(data_dir, pattern, change)
    with pytest.raises(DataError, match=r"squad_passages/file-\w+.* is damaged .*delete it"):
        reader.load(name, data_dir=data_dir)


def test_missing_passages_are_noticed(prepared):
    data_dir, name = prepared
    _damage(
        data_dir,
        "dataset_info.json",
        lambda file: file.write_text(file.read_text("utf-8").replace('"4"', '"5"'), "utf-8"),
    )
    with pytest.raises(DataError, match="damaged"):
        reader.load(name, data_dir=data_dir)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tfds:squad_passages/dev", r"no dataset .*Did you mean 'tfds:squad_passages/"),
        ("tfds:", r"expected 'tfds:squad_passages/train'.*'tfds:FILE.json'"),
        ("tfds:/none/there.json", r"/none/there\.json: cannot read .*No such file"),
    ],
)
def test_names_that_mean_nothing(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        reader.load(name, data_dir=tmp_path)


def test_a_malformed_file_is_refused_as_by_the_loader(tmp_path):
    file = tmp_path / "bad.json"
    file.write_text('{"data": [{"title": "Rome"}]}', encoding="utf-8")
    with pytest.raises(DataError, match=r'bad\.json: data\[0\].*"paragraphs" is missing'):
        reader.load(f"tfds:{file}", data_dir=tmp_path / "data")
    assert not list(tmp_path.glob("data/squad_passages/file-*/*"))


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot prepare the dataset in .*another data dir"):
        reader.load(f"tfds:{TRAIN}", data_dir=tmp_path / "file")


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def source(monkeypatch):
    """A server on loopback in place of SQuAD's own."""
    handler = functools.partial(_Silent, directory=str(FILES))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(reader.dataset.URLS, "train", f"{base}/train-v1.1.json")
    monkeypatch.setitem(reader.dataset.URLS, "validation", f"{base}/dev-v1.1.json")
    yield server
    server.shutdown()
    server.server_close()


def test_the_official_files_are_downloaded_once(tmp_path, source):
    train, skipped = reader.load("tfds:squad_passages/train", data_dir=tmp_path)
    assert train == squad.load(TRAIN)[0]
    assert len(skipped) == 2
    source.shutdown()
    source.server_close()
    validation, _ = reader.load("tfds:squad_passages/validation", data_dir=tmp_path)
    assert validation == squad.load(FILES / "dev-v1.1.json")[0]


def test_without_a_network_one_is_told_at_once(tmp_path, source, monkeypatch):
    source.shutdown()
    source.server_close()

    def refuse(*_, **__):
        raise AssertionError("TFDS tries again and again")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", refuse)
    with pytest.raises(DataError, match=r"cannot download SQuAD.*'tfds:FILE\.json'"):
        reader.load("tfds:squad_passages/train", data_dir=tmp_path)


def test_other_bytes_than_the_registered_ones_are_refused(tmp_path, source, monkeypatch):
    known = reader.dataset.Builder.url_infos
    official = next(url for url in known if url.endswith("train-v1.1.json"))
    monkeypatch.setitem(known, reader.dataset.URLS["train"], known[official])
    with pytest.raises(DataError, match=r"cannot download SQuAD.*train-v1\.1\.json"):
        reader.load("tfds:squad_passages/train", data_dir=tmp_path)
    assert not list(tmp_path.glob("squad_passages/official/*"))


def test_both_official_urls_have_registered_checksums():
    assert set(reader.dataset.URLS.values()) == set(reader.dataset.Builder.url_infos)
    for info in reader.dataset.Builder.url_infos.values():
        assert info.size > 4_000_000 and len(info.checksum) == 64


def test_the_task_takes_both_forms(tmp_path):
    task = knowledge_task(
        train_path=f"tfds:{TRAIN}", eval_path=FILES / "dev-v1.1.json", data_dir=tmp_path
    )
    assert task.contexts("train") == squad.load(TRAIN)[0]
    assert len(task.skipped("train")) == 2
    assert (tmp_path / "squad_passages").is_dir()


def test_the_command_prepares_and_says_what_was_left_out(tmp_path, capsys):
    assert program.main([f"tfds:{TRAIN}", f"--data_dir={tmp_path}"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"tfds:{TRAIN}: 4 passages of 2 articles, 6 questions",
        "  left out 1: the passage is empty",
        "  left out 1: the question has no answer",
    ]
    assert printed.err.startswith(f"preparing tfds:{TRAIN} in {tmp_path}")
    assert program.main(["tfds:none.json"]) == 1
    assert capsys.readouterr().err.startswith("error: none.json: cannot read")


def test_real_files(tmp_path, shared_data):
    for split, count in (("train", 943), ("validation", 534)):
        file = shared_data / "squad" / f"squad-v1.1-{split}.json"
        contexts, skipped = reader.load(f"tfds:{file}", data_dir=tmp_path)
        assert (contexts, skipped) == squad.load(file)
        assert len(contexts) == count
