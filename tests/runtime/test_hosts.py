"""Processes of one run: who they are told to be, what they exchange, and how they end."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest

from seal_jax.runtime import hosts

_ALL = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID not set"),
        (_ALL | {"JAX_PROCESS_ID": "4"}, r"JAX_PROCESS_ID='4'.*from 0 on"),
        (_ALL | {"JAX_NUM_PROCESSES": "two"}, r"JAX_NUM_PROCESSES='two'"),
    ],
)
def test_half_of_the_variables_or_wrong_ones_are_refused(variables, message):
    with pytest.raises(hosts.HostsError, match=message):
        hosts.process_arguments(variables)


def test_without_variables_a_process_is_alone():
    for variables in ({}, {"SEAL_JAX_MULTI_HOST": "0"}):
        assert hosts.process_arguments(variables) is None
    # JAX finds the others by itself
    assert hosts.process_arguments({"SEAL_JAX_MULTI_HOST": "1"}) == {}
    assert hosts.process_arguments(_ALL | {"SEAL_JAX_MULTI_HOST": "1"})["process_id"] == 3
    alone = hosts.join()
    assert alone.alone and (alone.rank, alone.count) == (0, 1)
    assert alone.exchange("here", b"x") == [b"x"]
    assert alone.first_tree("there", lambda: {"a": 1}, None) == {"a": 1}


_ALONE = """
    import time
    from seal_jax.runtime import hosts

    hosts._PERIOD = 0.0

    def works(beats):
        for _ in range(10):
            time.sleep(0.1)
            if beats:
                me.beat()

    me = hosts.join()
    me.beat()
    time.sleep(0.8)  # before a run nothing is expected
    with me.at_work():
        works(beats=True)
        print("slow", flush=True)
        works(beats=False)
        me.beat()
    print("over", flush=True)
    me.beat()
    time.sleep(0.8)
"""


def test_a_process_alone_shows_its_stacks_where_a_run_finishes_nothing():
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_ALONE)],
        env=os.environ | {"SEAL_JAX_STALL_MINUTES": "0.02"},  # the stacks after 0.6 s
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    before, during = found.stdout.split("slow")
    assert "Timeout" not in before and "in works" in during
    assert "Timeout" not in during.split("over")[1]


@pytest.mark.parametrize("value", ["soon", "0", "-1"])
def test_a_time_out_is_a_number_above_0(monkeypatch, value):
    monkeypatch.setenv("SEAL_JAX_ABSENT_SECONDS", value)
    with pytest.raises(hosts.HostsError, match=r"SEAL_JAX_ABSENT_SECONDS=.*such as 30"):
        hosts.absent_seconds()


_TALK = """
    import sys, time
    import jax, numpy as np
    from seal_jax.runtime import hosts

    me = hosts.join()
    me.is_at_work = True
    assert (me.rank, me.count, len(jax.local_devices())) == (int(sys.argv[1]), 2, 2)

    long = bytes(range(256)) * 1000 * (me.rank + 1)
    assert [len(d) for d in me.exchange("long", long)] == [256_000, 512_000]
    assert me.exchange("short", b"" if me.rank else b"zero") == [b"zero", b""]

    where = jax.sharding.SingleDeviceSharding(jax.local_devices()[1])
    tree = {"a": np.array([[-0.0, np.nan], [1e-45, 3.0]], np.float32), "b": np.int32([4, 5, 6])}
    like = {k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where) for k, x in tree.items()}
    made = me.first_tree("tree", lambda: tree if me.rank == 0 else 1 / 0, like)
    for name in tree:
        assert np.asarray(made[name]).tobytes() == tree[name].tobytes()
        assert me.rank == 0 or made[name].devices() == where.device_set

    me.agree({"seed": 0})
    try:
        me.agree({"seed": 0, "inner.epochs": me.rank})
    except hosts.HostsError as error:
        print(error, flush=True)
    if sys.argv[2] == "ends":
        sys.exit(hosts.leave(0))
    if sys.argv[2] == "fails" and me.rank == 1:
        sys.exit(hosts.leave(3, "the disk is full"))
    if sys.argv[2] == "stalls" and me.rank == 1:
        time.sleep(1000)
    me.barrier("a place")
"""


def _talk(how, **variables):
    """The exit codes of two processes, and what they printed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_TALK), str(rank), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ
            | {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(rank),
                "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=2"),
                "SEAL_JAX_ABSENT_SECONDS": "60",
            }
            | variables,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], printed


def test_two_processes_exchange_and_end_together():
    codes, printed = _talk("ends")
    assert codes == [0, 0], "\n".join(printed)
    for text in printed:
        assert "host 1 differs from host 0 in inner.epochs (1, not 0)" in text


def test_a_host_that_fails_says_why_to_the_other(tmp_path):
    codes, printed = _talk("fails")
    assert codes == [3, 3], "\n".join(printed)
    assert "error: host 1 of 2 has ended (the disk is full)" in printed[0]


def test_a_host_that_stalls_shows_its_stacks_and_ends_the_run():
    codes, printed = _talk("stalls", SEAL_JAX_STALL_MINUTES="0.15")
    assert codes == [75, 75], "\n".join(printed)
    assert "Timeout (0:00:04" in printed[1] and "File" in printed[1]
    for text in printed:
        assert "host 1 of 2 finished nothing for 0.15 minutes" in text
    assert "host 1 of 2 has ended (" in printed[0]
