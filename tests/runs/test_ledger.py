"""The ledger: what is appended comes back equal, and what a kill or a bad disk leaves is dealt
with."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from seal_jax.runs import json_file, lease, run_dir, storage
from seal_jax.runs.directory_lock import DirectoryInUseError
from seal_jax.runs.ledger import Ledger, LedgerError, Segment


def _fill(path, count=3):
    with Ledger(path) as ledger:
        for number in range(count):
            ledger.append("batch", f"round0/batch{number}", {"reward": number / 3})
    return path


def _names(path):
    return [child.name for child in storage.children(path) if not lease.is_hold(child.name)]


def test_records_come_back_equal_here_and_after_reopening(folder):
    record = {"rewards": (0.1, None, 1 / 3), "text": "é \ud800", "verdicts": [{"correct": True}]}
    as_read = {"rewards": [0.1, None, 1 / 3], "text": "é \ud800", "verdicts": [{"correct": True}]}
    with Ledger(folder / "runs" / "ledger") as ledger:
        segment = ledger.append("batch", "round0/batch0", record)
        assert segment == Segment(0, "batch", "round0/batch0", as_read)
        assert ledger.find("batch", "round0/batch0") == as_read
        assert (
            ledger.append("plan", "round0/batch0", {}).index == 1
        )  # another kind, so another unit
    with Ledger(folder / "runs" / "ledger") as ledger:
        assert ledger.find("batch", "round0/batch0") == as_read
        assert ledger.find("plan", "round0/batch0") == {}
        assert ledger.find("batch", "round0/batch1") is None
        assert [(s.index, s.kind) for s in ledger.segments()] == [(0, "batch"), (1, "plan")]
        assert [s.index for s in ledger.segments("plan")] == [1]
        assert len(ledger) == 2
    assert _names(folder / "runs" / "ledger") == ["000000-batch.json", "000001-plan.json"]


def test_what_find_returns_can_be_changed_without_changing_the_ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.append("batch", "a", {"rewards": [1]}).record["rewards"].append(2)
        ledger.find("batch", "a")["rewards"].append(3)
        assert ledger.find("batch", "a") == {"rewards": [1]}


def test_equal_work_gives_equal_bytes(tmp_path):
    for name, record in (("one", {"a": 1, "b": 0.1}), ("two", {"b": 0.1, "a": 1})):
        with Ledger(tmp_path / name) as ledger:
            ledger.append("batch", "k", record)
    one, two = ((tmp_path / name / "000000-batch.json").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_unit_is_recorded_once(folder):
    _fill(folder, 2)
    before = (folder / "000001-batch.json").read_bytes()
    with Ledger(folder) as ledger:
        with pytest.raises(LedgerError, match=r"'round0/batch1' \(batch\) is recorded already"):
            ledger.append("batch", "round0/batch1", {"reward": 9.0})
        assert ledger.append("batch", "round0/batch2", {}).index == 2
    assert (folder / "000001-batch.json").read_bytes() == before


def test_a_record_that_json_cannot_hold_is_refused_and_leaves_no_file(folder):
    with Ledger(folder) as ledger:
        with pytest.raises(ValueError, match=r"record\.loss is nan.*None"):
            ledger.append("batch", "k", {"loss": float("nan")})
        assert _names(folder) == []
        assert ledger.append("batch", "next", {}).index == 0


def test_a_segment_that_appeared_meanwhile_is_not_replaced(folder):
    with Ledger(folder) as ledger:
        (folder / "000000-batch.json").write_text("somebody else's")
        with pytest.raises(FileExistsError):
            ledger.append("batch", "k", {})
    assert (folder / "000000-batch.json").read_text() == "somebody else's"


def test_temporary_files_of_killed_writers_are_removed(tmp_path):
    _fill(tmp_path, 1)
    (tmp_path / ".tmp-123-0123abcd").write_text('{"half": ')
    with Ledger(tmp_path) as ledger:
        assert len(ledger) == 1
    assert _names(tmp_path) == ["000000-batch.json"]


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def _change_a_digit(path):
    text = path.read_text()
    assert text.count("0.6666666666666666") == 1
    path.write_text(text.replace("0.6666666666666666", "0.6666666666666667"))


def _empty(path):
    path.write_bytes(b"")


def _zero(path):
    path.write_bytes(b"\0" * len(path.read_bytes()))


def _rename_kind(path):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "kind": "plan"}))


DAMAGE = [_truncate, _change_a_digit, _empty, _zero, _rename_kind]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_segment_is_set_aside_and_done_again(folder, caplog, damage):
    _fill(folder)
    damage(folder / "000002-batch.json")
    with caplog.at_level(logging.WARNING), Ledger(folder) as ledger:
        assert ledger.find("batch", "round0/batch2") is None
        assert ledger.append("batch", "round0/batch2", {"again": True}).index == 2
    assert "000002-batch.json was damaged: renamed to 000002-batch.json.damaged" in caplog.text
    with Ledger(folder) as ledger:
        assert ledger.find("batch", "round0/batch2") == {"again": True}
    assert "000002-batch.json.damaged" in _names(folder)


def test_a_segment_under_another_name_counts_as_damaged(tmp_path):
    _fill(tmp_path)
    for name in ("000002-batch.json", "000001-batch.json"):
        (tmp_path / name).rename(tmp_path / name.replace("batch", "plan"))
    with pytest.raises(LedgerError, match=r"000001-plan\.json is damaged"):
        Ledger(tmp_path)


def test_damage_at_the_same_place_twice_keeps_both_files(folder):
    for _ in range(2):
        with Ledger(folder) as ledger:
            ledger.append("batch", "k", {"reward": 2 / 3})
        _truncate(folder / "000000-batch.json")
    with Ledger(folder) as ledger:
        assert len(ledger) == 0
    assert _names(folder) == ["000000-batch.json.2.damaged", "000000-batch.json.damaged"]


@pytest.mark.parametrize("damage", [_truncate, _empty, _zero, _rename_kind])
def test_damage_before_the_newest_is_an_error_that_changes_nothing(folder, damage):
    _fill(folder)
    damage(folder / "000001-batch.json")
    with pytest.raises(LedgerError, match=r"000001-batch\.json is damaged, and 1 later.*copy back"):
        Ledger(folder)
    assert _names(folder) == [f"00000{number}-batch.json" for number in range(3)]
    (folder / "000001-batch.json").unlink()
    (folder / "000002-batch.json").unlink()  # what the message advises; and the lock was let go
    with Ledger(folder) as ledger:
        assert len(ledger) == 1


def _with_schema(path, schema):
    """Writes a segment as another version of the package would: whole, with its own checksum."""
    content = json.loads(path.read_text()) | {"schema": schema}
    del content["sha256"]
    if schema is None:  # the first one had none
        del content["schema"]
    digest = hashlib.sha256(json_file.encode(content).encode()).hexdigest()
    path.write_text(json.dumps(content | {"sha256": digest}))


@pytest.mark.parametrize("number", [0, 2])  # also the newest: it is not set aside as damaged
@pytest.mark.parametrize(("schema", "named"), [(None, 1), (1, 1), (3, 3)])
def test_records_of_another_schema_are_refused_and_stay(folder, number, schema, named):
    path = _fill(folder) / f"00000{number}-batch.json"
    assert json.loads(path.read_text())["schema"] == 2
    _with_schema(path, schema)
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(
            LedgerError,
            match=rf"00000{number}-batch\.json holds a record of schema {named}, .* schema 2: use "
            "the version that made the run, or another --workdir",
        ):
            Ledger(folder, read_only=read_only)
    assert path.read_bytes() == before
    assert _names(folder) == [f"00000{n}-batch.json" for n in range(3)]


def test_a_schema_that_the_checksum_does_not_cover_is_damage(folder):
    path = _fill(folder) / "000002-batch.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    with Ledger(folder) as ledger:
        assert len(ledger) == 2
    assert "000002-batch.json.damaged" in _names(folder)


def test_a_missing_or_doubled_segment_is_an_error(folder):
    _fill(folder)
    kept = (folder / "000001-batch.json").read_bytes()
    (folder / "000001-batch.json").unlink()
    with pytest.raises(LedgerError, match=r"missing: expected number 000001, found 000002-batch"):
        Ledger(folder)
    (folder / "000001-batch.json").write_bytes(kept)
    (folder / "000001-plan.json").write_bytes(kept)
    with pytest.raises(LedgerError, match=r"two segments have one number.*000001-plan"):
        Ledger(folder)


def test_two_segments_with_one_key_are_an_error(tmp_path):
    _fill(tmp_path / "a", 1)
    with Ledger(tmp_path / "b") as ledger:
        ledger.append("plan", "p", {})
        ledger.append("batch", "round0/batch0", {})
    (tmp_path / "b" / "000001-batch.json").rename(tmp_path / "a" / "000001-batch.json")
    with pytest.raises(LedgerError, match=r"both record 'round0/batch0'"):
        Ledger(tmp_path / "a")


def test_a_segment_that_changes_under_an_open_ledger_changes_nothing_that_was_read(folder):
    with Ledger(_fill(folder)) as ledger:
        _truncate(folder / "000001-batch.json")
        assert ledger.find("batch", "round0/batch1") == {"reward": 1 / 3}
    with pytest.raises(LedgerError, match=r"000001-batch\.json is damaged"):
        Ledger(folder)


def test_a_reader_needs_no_lock_and_changes_nothing(folder, caplog):
    with Ledger(_fill(folder)):
        _truncate(folder / "000002-batch.json")
        (folder / ".tmp-1-00000000").write_text("")
        before = _names(folder)
        reader = Ledger(folder, read_only=True)
        assert [segment.key for segment in reader.segments()] == ["round0/batch0", "round0/batch1"]
        with pytest.raises(LedgerError, match="open for reading only"):
            reader.append("batch", "k", {})
        assert _names(folder) == before
    with pytest.raises(LedgerError, match="there is no ledger here"):
        Ledger(folder / "absent", read_only=True)
    assert not (folder / "absent").exists()


def test_a_second_writer_here_is_refused_until_the_first_closes(tmp_path):
    first = Ledger(tmp_path)
    with pytest.raises(
        DirectoryInUseError, match=f"process {os.getpid()} on {socket.gethostname()}"
    ):
        Ledger(tmp_path)
    first.close()
    with pytest.raises(LedgerError, match="closed"):
        first.append("batch", "k", {})
    Ledger(tmp_path).close()


def test_a_lock_on_a_file_that_its_holder_deleted_is_none(tmp_path, monkeypatch):
    """A writer opened the file, and its holder deleted it before it let it go."""
    with Ledger(tmp_path / "ledger"):
        pass
    lock = tmp_path / "ledger" / ".lock"
    flock = fcntl.flock

    def late(*arguments):
        lock.unlink()
        flock(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        with pytest.raises(DirectoryInUseError, match=f"in use by process {os.getpid()} on "):
            Ledger(tmp_path / "ledger")
    Ledger(tmp_path / "ledger").close()


def test_a_ledger_that_was_taken_over_appends_nothing(object_store):
    folder = storage.locate("gs://bucket/ledger")
    with Ledger(folder) as ledger:
        ledger.append("batch", "a", {})
        storage.put(folder / ".lease-000001", b'{"pid": 7, "host": "other", "time": "now"}')
        with pytest.raises(DirectoryInUseError, match=r"taken over by process 7 on other"):
            ledger.append("batch", "b", {})
    assert _names(folder) == ["000000-batch.json"]


def test_a_url_of_another_kind_is_refused(object_store):
    for url in ("s3://bucket/ledger", "gs://bucket", "gs://bucket/"):
        with pytest.raises(OSError, match="expected a local directory or gs://BUCKET/PATH"):
            Ledger(url)
    assert not object_store.objects


WRITER = """
    import sys
    from seal_jax.runs.ledger import Ledger
    ledger = Ledger(sys.argv[1])
    number = len(ledger)
    print("open", flush=True)
    while True:
        ledger.append("batch", str(number), {"text": "x" * 20000, "number": number})
        number += 1
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_ledger_and_no_lock(tmp_path):
    total = 0
    for delay in (0.0, 0.03, 0.08):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DirectoryInUseError, match=f"process {process.pid} on "):
            Ledger(tmp_path)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Ledger(tmp_path) as ledger:
            assert len(ledger) >= total
            assert [s.record["number"] for s in ledger.segments()] == list(range(len(ledger)))
            total = len(ledger)
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".damaged")]
    assert total > 1


@pytest.mark.fault("22")
@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL", "EIO"])
def test_a_file_system_without_locks_is_named_with_the_way_out(tmp_path, monkeypatch, number):
    number = getattr(errno, number)

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for use in (Ledger, lambda path: run_dir.open_run(path, {"seed": 0})):
        with pytest.raises(OSError, match="does not lock files") as error:
            use(tmp_path / "run")
        assert str(error.value).startswith(str(tmp_path / "run"))
        assert os.strerror(number) in str(error.value) and "a local disk or at gs://" in str(
            error.value
        )


def _remove(path):
    shutil.rmtree(path)


def _replace(path):
    shutil.rmtree(path)
    path.mkdir()


def _hand_over(path):
    shutil.rmtree(path)
    path.mkdir()
    (path / ".lock").write_text("7 other")


def _move(path):
    path.rename(path.with_name("elsewhere"))
    _fill(path, 1)


@pytest.mark.fault("S1")
@pytest.mark.parametrize("lose", [_remove, _replace, _hand_over, _move])
def test_a_ledger_whose_directory_is_lost_appends_nothing(tmp_path, lose):
    with Ledger(_fill(tmp_path / "ledger")) as ledger:
        lose(tmp_path / "ledger")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(DirectoryInUseError, match=r"was removed or replaced .* stops here"):
            ledger.append("batch", "mine", {})
        assert sorted(tmp_path.rglob("*")) == before
        assert ledger.find("batch", "mine") is None


@pytest.mark.fault("S1", control=True)
def test_a_ledger_under_another_name_of_its_directory_goes_on(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    with Ledger(tmp_path / "link" / "ledger") as ledger:
        ledger.append("batch", "mine", {})
        assert len(ledger) == 1
