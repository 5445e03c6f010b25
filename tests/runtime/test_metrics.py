"""Metrics: what each writer leaves behind."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from seal_jax.runtime import metrics
from seal_jax.settings import Metrics, SettingsError


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_are_always_written(tmp_path):
    with metrics.open_writers(Metrics(), tmp_path, {}) as writers:
        writers.write(1, {"round 1/mean reward": 0.5, "round 1/loss": None})
        writers.write(2, {"round 1/loss": None})
        first = lines(tmp_path / "metrics.jsonl")  # at once, not only at the end
    assert [set(line) for line in first] == [{"time", "step", "round 1/mean reward"}]
    # A run that goes on appends.
    with metrics.open_writers(Metrics(), tmp_path, {}) as writers:
        writers.write(3, {"round 2/mean reward": 1})
    found = lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in found] == [1, 3]
    assert found[1]["round 2/mean reward"] == 1.0


def test_tensorboard_reads_back_what_was_written(tmp_path):
    tensorboardX = pytest.importorskip("tensorboardX")
    with metrics.open_writers(Metrics(tensorboard=True), tmp_path, {}) as writers:
        writers.write(7, {"round 1/loss": 0.25})
    (events,) = (tmp_path / "tensorboard").iterdir()
    found = []
    data = events.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        event = tensorboardX.proto.event_pb2.Event.FromString(data[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        data = data[12 + length + 4 :]
    assert found == [(7, "round_1/loss", 0.25)]


class WandB(types.ModuleType):
    """Plays the package."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished, self.id = [], [], 0, "abc"

    def init(self, **named):
        self.started.append(named)
        return self

    def define_metric(self, name, step_metric):
        self.defined = (name, step_metric)

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished += 1


def test_weights_and_biases_continues_its_run(tmp_path, monkeypatch):
    wandb = WandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for step in (1, 2):
        with metrics.open_writers(Metrics(wandb="seal"), tmp_path, {"seed": 3}) as writers:
            writers.write(step, {"loss": 0.5})
    assert [named["id"] for named in wandb.started] == [None, "abc"]
    assert wandb.started[0]["project"] == "seal" and wandb.started[0]["config"] == {"seed": 3}
    assert wandb.logged == [{"loss": 0.5, "step": 1}, {"loss": 0.5, "step": 2}]
    assert wandb.finished == 2 and wandb.defined == ("*", "step")


@pytest.mark.parametrize(
    "settings, module", [(Metrics(tensorboard=True), "tensorboardX"), (Metrics(wandb="p"), "wandb")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, settings, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=f"needs the package {module}: pip install"):
        metrics.open_writers(settings, tmp_path, {})


def test_compiles_are_counted():
    compiles = metrics.Compiles()
    double = jax.jit(lambda x: x * 2 + 12345)
    double(jnp.ones(3)).block_until_ready()
    once = compiles.count
    assert once >= 1
    double(jnp.ones(3)).block_until_ready()
    assert compiles.count == once


def test_at_an_object_store_lines_are_one_object_a_process(object_store):
    for step in (1, 2):
        with metrics.open_writers(Metrics(), "gs://bucket/run", {}) as writers:
            writers.write(step, {"loss": 0.5})
            writers.write(step, {"loss": 0.25})
    found = [of for name, of in sorted(object_store.objects.items()) if "metrics-" in name]
    assert [[json.loads(line)["step"] for line in of.splitlines()] for of in found] == [
        [1, 1],
        [2, 2],
    ]
    with pytest.raises(SettingsError, match="need a --workdir on a local disk"):
        metrics.open_writers(Metrics(tensorboard=True), "gs://bucket/run", {})


@pytest.mark.fault("24")
@pytest.mark.parametrize("marker", ["", '{"id": "ab', "[]", "3", '{"run": 1}', "\0", "[" * 100_000])
def test_a_damaged_marker_never_stops_a_run(tmp_path, monkeypatch, caplog, marker):
    wandb = WandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tmp_path / "wandb_run.json").write_text(marker)
    for _ in range(2):
        with metrics.open_writers(Metrics(wandb="seal"), tmp_path, {}) as writers:
            writers.write(1, {"loss": 0.5})
    assert [named["id"] for named in wandb.started] == [None, "abc"]
    assert caplog.text.count("wandb_run.json is damaged") == 1


@pytest.mark.fault("24", control=True)
def test_a_marker_without_a_text_as_id_is_a_new_run(tmp_path, monkeypatch):
    wandb = WandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tmp_path / "wandb_run.json").write_text('{"id": null}')
    metrics.open_writers(Metrics(wandb="seal"), tmp_path, {}).close()
    assert wandb.started[0]["id"] is None


@pytest.mark.fault("24")
@pytest.mark.parametrize("why", ["api_key not configured (no-tty)", "no connection", "timed out"])
def test_weights_and_biases_that_cannot_be_started_is_a_sentence(tmp_path, monkeypatch, why):
    class UsageError(Exception):  # like wandb's own, which is no ValueError
        pass

    def init(**_):
        raise UsageError(why)

    wandb = WandB()
    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(SettingsError, match=r"metrics\.wandb='seal': W&B could not") as error:
        metrics.open_writers(Metrics(wandb="seal"), tmp_path, {})
    assert why in str(error.value) and "WANDB_API_KEY" in str(error.value)
    assert not (tmp_path / "wandb_run.json").exists()
