"""Leases on an object store: one holder at a time, and what a dead one leaves is taken over."""

import json
import logging
import os
import threading
import time

import pytest

from seal_jax.runs import lease, storage
from seal_jax.runs.directory_lock import DirectoryInUseError
from seal_jax.runs.lease import Lease

HELD = {"id": "x", "pid": 7, "host": "other", "beat": 3, "time": "noon", "released": False}


@pytest.fixture
def folder(object_store):
    """A folder of the object store's stand-in."""
    return storage.locate("gs://bucket/run")


def _lease(folder, *, beat=0.02, stale=20.0):
    return Lease(folder, beat_seconds=beat, stale_seconds=stale)


def _put(folder, number, **changes):
    storage.put(folder / f".lease-{number:06d}", json.dumps(HELD | changes).encode())


def _last(store):
    return json.loads(store.objects[max(store.objects)])


def test_a_second_holder_is_refused_while_the_first_beats(folder, object_store, monkeypatch):
    waits = []
    monkeypatch.setattr(
        lease.time, "sleep", lambda s: (waits.append(s), threading.Event().wait(0.05))
    )
    with _lease(folder) as first:
        with pytest.raises(DirectoryInUseError, match=rf"in use by process {os.getpid()} on "):
            _lease(folder)
        first.check()
    assert waits
    waits.clear()
    _lease(folder).close()  # released: nothing to wait for
    assert not waits
    assert sorted(object_store.objects) == ["bucket/run/.lease-000001"]


def test_a_lease_that_stands_still_is_taken_over(folder, object_store, caplog):
    _put(folder, 4)
    with caplog.at_level(logging.WARNING), _lease(folder, stale=0.05) as taken:
        taken.check()
        assert list(object_store.objects) == ["bucket/run/.lease-000005"]
        assert _last(object_store)["pid"] == os.getpid()
    assert "held by process 7 on other" in caplog.text
    assert "process 7 on other (last sign at noon) has gone: taking gs://bucket/run" in caplog.text


def test_a_holder_that_was_taken_over_notices_and_leaves_the_other_alone(folder, object_store):
    first = _lease(folder, beat=60.0)
    _put(folder, 1)
    with pytest.raises(DirectoryInUseError, match=r"run was taken over by process 7 on other"):
        first.check()
    first.close()
    assert _last(object_store) == HELD
    second = _lease_after_release(folder)
    _put(folder, 9)
    end = time.monotonic() + 20
    while second._lost is None and time.monotonic() < end:
        time.sleep(0.02)
    assert second._lost.startswith("process 7 on other")  # by the heartbeat
    second.close()


def _lease_after_release(folder):
    _put(folder, 1, released=True)
    return _lease(folder)


def test_of_many_that_find_a_dead_holder_one_takes_over(folder, object_store):
    _put(folder, 0)
    start, outcomes = threading.Barrier(6), []

    def take():
        start.wait()
        try:
            outcomes.append(_lease(folder, beat=60.0, stale=0.1))
        except DirectoryInUseError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holders = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    assert len(outcomes) == 6 and len(holders) == 1
    holders[0].check()
    holders[0].close()


def test_a_number_that_is_gone_lets_nobody_in(folder, monkeypatch):
    """A writer looked, was suspended, and creates a number that was used and deleted since."""
    with _lease_after_release(folder) as holder:
        looks = iter([(0, HELD | {"released": True})])
        last = Lease._last
        monkeypatch.setattr(Lease, "_last", lambda self: next(looks, None) or last(self))
        storage.remove(folder / ".lease-000001")
        with pytest.raises(DirectoryInUseError, match=f"in use by process {os.getpid()}"):
            _lease(folder)
        holder.check()


def test_a_store_that_fails_for_a_while_does_not_end_the_lease(folder, object_store, caplog):
    with caplog.at_level(logging.WARNING), _lease(folder) as held:
        put, failures = object_store.pipe_file, []

        def failing(self, path, value, **kwargs):
            if len(failures) < 2:
                failures.append(path)
                raise ConnectionError("no route")
            put(self, path, value, **kwargs)

        object_store.pipe_file = failing
        end = time.monotonic() + 20
        while (len(failures) < 2 or _last(object_store)["beat"] < 3) and time.monotonic() < end:
            time.sleep(0.02)
        held.check()
        assert _last(object_store)["beat"] >= 3
    assert "could not be renewed: gs://bucket/run/.lease-000000: the object store" in caplog.text
