"""The ledger of several hosts, and how a run divides its units of work; hosts are threads here."""

import json
import threading
import types

import pytest

from seal_jax.loop.run import Run
from seal_jax.loop.session import open_session
from seal_jax.loop.stage import Stage
from seal_jax.runs import ledger
from seal_jax.runs.ledger import LedgerError
from seal_jax.runtime import hosts


class _Network:
    """What the threads bring to a place."""

    def __init__(self, count):
        self.count = count
        self.brought = {}
        self.barrier = threading.Barrier(count, timeout=30)

    def meet(self, rank, data):
        self.brought[rank] = data
        self.barrier.wait()
        found = [self.brought[i] for i in range(self.count)]
        self.barrier.wait()
        return found


class _Hosts(hosts.Hosts):
    def __init__(self, rank, network):
        super().__init__(rank, network.count)
        self._network = network

    def beat(self):
        pass

    def exchange(self, name, data):
        return self._network.meet(self.rank, data)

    def first(self, name, make):
        return self._network.meet(self.rank, make() if self.rank == 0 else b"")[0]


def _on(count, work):
    """What `work(hosts)` returns on each of so many hosts."""
    network, found, errors = _Network(count), {}, []

    def one(rank):
        try:
            found[rank] = work(_Hosts(rank, network))
        except BaseException as error:
            errors.append(error)
            network.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [found[rank] for rank in range(count)]


def test_every_host_sees_what_all_have_appended_in_the_order_of_ranks(tmp_path):
    with ledger.Ledger(tmp_path) as before:
        before.append("plan", "one", {"n": 1})

    def work(here):
        with ledger.Ledger(tmp_path, hosts=here) as records:
            assert len(records) == 1 and records.find("plan", "one") == {"n": 1}
            records.append("batch", f"{here.rank}", {"by": here.rank, "of": (1, 2)})
            own = records.find("batch", f"{here.rank}")
            assert records.find("batch", f"{1 - here.rank}") is None
            if here.rank == 1:
                records.append("memory", "4 candidates", {"by": 1})
            records.sync()
            records.append("memory", f"{here.rank}", {"by": here.rank})
            records.sync()
            return own, records.segments()

    (own, found), (_, other) = _on(2, work)
    assert own == {"by": 0, "of": [1, 2]}
    assert found == other
    with ledger.Ledger(tmp_path, read_only=True) as after:
        assert after.segments() == found
    assert [(s.index, s.kind, s.key) for s in found] == [
        (0, "plan", "one"),
        (1, "batch", "0"),
        (2, "batch", "1"),
        (3, "memory", "4 candidates"),
        (4, "memory", "0"),
        (5, "memory", "1"),
    ]


def test_of_two_records_of_one_unit_the_first_is_kept(tmp_path):
    def work(here):
        with ledger.Ledger(tmp_path, hosts=here) as records:
            records.append("memory", "4 candidates", {"by": here.rank})
            with pytest.raises(LedgerError, match="is recorded already"):
                records.append("memory", "4 candidates", {"by": here.rank})
            records.sync()
            found = records.find("memory", "4 candidates")
            found["by"] = "changed"
            return records.segments()

    for segments in _on(2, work):
        assert [segment.record for segment in segments] == [{"by": 0}]


def test_units_of_work_are_divided_and_recorded_in_their_order(tiny_settings, tmp_path):
    opened = open_session(tiny_settings)
    with ledger.Ledger(tmp_path) as before:
        before.append("batch", "round 1/2", {"by": "an earlier start"})

    def work(here):
        done = []
        with ledger.Ledger(tmp_path, hosts=here) as records:
            run = Run(opened, records, tmp_path, True, hosts=here)
            units = {f"round 1/{n}": [n] for n in range(7)}
            stage, progress = (
                Stage(kind="curate"),
                types.SimpleNamespace(update=lambda done, **_: None),
            )
            for key in run.missing("batch", units, stage, lambda unit: unit, progress):
                done += units[key]
                run.record("batch", key, {"by": here.rank}, None)
            found = run.records("batch", units)
            alone = run.once("plan", "p", lambda: {"by": here.rank})
            together = run.once("tuning", "t", lambda: done.append("t") or {"by": here.rank},
                                together=True)  # fmt: skip
        return done, found, alone, together

    results = _on(3, work)
    assert [done for done, *_ in results] == [[0, 4, "t"], [1, 5, "t"], [3, 6, "t"]]
    for _, found, alone, together in results:
        who = [record["by"] for record in found]
        assert who == [0, 1, "an earlier start", 2, 0, 1, 2]
        assert alone == together == {"by": 0}
    with ledger.Ledger(tmp_path, read_only=True) as after:
        keys = [segment.key for segment in after.segments()]
    assert keys == [f"round 1/{n}" for n in (2, 0, 1, 3, 4, 5, 6)] + ["p", "t"]
    json.dumps(results)
