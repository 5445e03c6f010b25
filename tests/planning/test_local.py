"""Rates of the devices that are here."""

import jax
import jax.numpy as jnp
import numpy as np

from seal_jax.planning import local


def test_rates_count_every_product_and_copy(monkeypatch):
    monkeypatch.setattr(local, "_seconds", lambda *arguments: 0.5)

    rates = local.measure(jnp.zeros(1).device)

    assert rates.flops == 2 * (2 * 64 * 2048 * 2048 * 8)
    assert rates.bandwidth == 2 * (2 * 4 * 2**26 * 4)


def test_products_go_through_every_kernel():
    kernels = 2 * jnp.broadcast_to(jnp.eye(2), (3, 2, 2))

    np.testing.assert_array_equal(local._products(jnp.ones((1, 2)), kernels), [[8.0, 8.0]])


def test_as_many_copies_as_are_asked_for():
    np.testing.assert_array_equal(local._copies(jnp.zeros(4), 3), [3.0, 3.0, 3.0, 3.0])


def test_a_time_is_the_median_of_calls_on_what_the_last_one_returned(monkeypatch):
    durations = [1.0, 9.0, 2.0, 3.0, 2.5, 2.25, 8.0]
    clock = iter(np.cumsum([x for d in durations for x in (0.0, d)]))
    monkeypatch.setattr(local.time, "perf_counter", lambda: next(clock))
    states = []

    def count(state):
        states.append(int(state))
        return state + 1

    assert local._seconds(count, jnp.zeros(())) == 2.5
    assert states == list(range(8))  # the first compiles and is not counted


def test_what_is_free_is_what_the_host_and_a_container_leave(monkeypatch):
    said = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n"}

    def read_text(path):
        if str(path) not in said:
            raise FileNotFoundError
        return said[str(path)]

    monkeypatch.setattr(local.pathlib.Path, "read_text", read_text)
    assert local.available() == 5000 * 1024
    said["/sys/fs/cgroup/memory.max"] = "4096\n"
    assert local.available() == 4096
    said["/sys/fs/cgroup/memory.max"] = "max\n"
    assert local.available() == 5000 * 1024
    said.clear()
    assert local.available() == local.memory_of(jax.devices()[0])
