"""The plan of a tiny run: on the devices that are here, and for a TPU slice that is not."""

import dataclasses
import json
import sys

import jax
import pytest

from seal_jax import cli
from seal_jax.core import parallel
from seal_jax.planning import architectures, compiled, local, machines, planner, report, topologies
from seal_jax.planning.round_programs import Round
from seal_jax.planning.workload import Workload
from seal_jax.settings import SettingsError

RATES = machines.Rates(flops=1e10, bandwidth=1e10)
WORK = Workload(longest_prompt=380, edit_tokens=8, longest_edit=16, lines=3, line_tokens=20)
NAMES = ["sampling", "inner update", "answers", "log-likelihoods", "M-step"]


@pytest.fixture(autouse=True)
def fresh(tmp_path_factory, monkeypatch):
    """The compiler's figures of this session only; a machine whose rates do not vary."""
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path_factory.getbasetemp() / "plan")
    monkeypatch.setattr(local, "measure", lambda device: RATES)


@pytest.fixture(scope="module")
def settings(tiny_settings):
    """The tiny run without those of its shapes that nothing of the plan needs."""
    edits = dataclasses.replace(tiny_settings.edits, samples=2)
    inner = dataclasses.replace(tiny_settings.inner, buckets=(32, 64))
    return dataclasses.replace(tiny_settings, edits=edits, inner=inner)


def _local(settings, memory=1 << 34, work=WORK, **options):
    """A plan for one of the local devices with so much memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
        patch.setattr(local, "memory_of", lambda device, count: memory)
        return planner.plan(settings, work=work, **options)


def test_every_program_of_a_round_has_memory_flops_and_time(settings):
    found = _local(settings)
    by_name = {program["name"]: program for program in found["programs"]}
    assert list(by_name)[:5] == NAMES and found["fits"]
    for program in found["programs"]:
        assert program["memory_bytes"] > 0 and program["flops"] > 0 and program["seconds"] > 0
    # 2 contexts x 2 self-edits in groups of 8, and the unadapted model for them.
    assert [by_name[name]["calls"] for name in NAMES[:2]] == [1, settings.reward.replicates]
    seconds = sum(p["calls"] * p["seconds"] for p in found["programs"])
    assert found["round"]["seconds"] == pytest.approx(seconds)
    assert found["round"]["chip_hours"] == pytest.approx(seconds / 3600)
    assert json.loads(json.dumps(found)) == found
    lines = report.text(found).splitlines()
    assert sum(line.startswith(tuple(NAMES)) for line in lines) == len(found["programs"])
    # On a CPU nobody asked for a TPU, nor for the largest number of candidates.
    assert found["smallest_machine"] == "" and not report.largest(found)
    assert not any(kind in "\n".join(lines) for kind in machines.CHIPS)


def test_the_largest_number_is_looked_for_when_asked_and_after_the_plan_was_shown(
    settings, monkeypatch
):
    shown = []
    monkeypatch.setattr(planner, "measured", lambda program, *_: _figures(program))
    monkeypatch.setattr(planner, "largest_candidates", lambda *_: shown.append("looked") or 34)
    found = _local(settings, largest=True, show=lambda plan: shown.append(report.text(plan)))
    table, looked = shown
    assert "a round:" in table and looked == "looked"
    assert report.largest(found) == "largest inner.candidates that fits: 34"


def test_an_m_step_of_pairs_has_both_rows_of_each(settings):
    """And lowers with what a run gives it."""
    restem = dataclasses.replace(settings.restem, update="dpo")
    planned = dataclasses.replace(settings, restem=restem)
    config = architectures.architecture(settings.model.path)
    mesh = parallel.DeviceMesh(tuple(jax.devices()[:2]))
    program = Round(planned, config, mesh, WORK).m_step("M-step", 448)
    assert program.detail == "16 rows x 448 tokens, 4 at once"
    program.lower()


def test_an_inner_update_that_distils_lowers_with_its_teachers(settings):
    """A teacher's 16 likeliest tokens of each, their ids and log-probabilities."""
    inner = dataclasses.replace(settings.inner, loss="distillation")
    planned = dataclasses.replace(settings, inner=inner)
    config = architectures.architecture(settings.model.path)
    mesh = parallel.DeviceMesh(tuple(jax.devices()[:2]))
    program = Round(planned, config, mesh, WORK).inner_update(largest=True)
    shape = f"tensor<{inner.candidates}x{inner.max_sequences}x{inner.buckets[-1]}x16x"
    text = program.lower().as_text()
    assert f"{shape}i32>" in text and f"{shape}f32>" in text


def test_the_inner_update_runs_its_steps(settings, monkeypatch):
    """Fewer lines are fewer steps of the same program: nothing is compiled anew."""
    long = _local(settings)["programs"][1]
    monkeypatch.setattr(compiled, "_compile", lambda lowered: pytest.fail("compiled anew"))
    fewer = dataclasses.replace(WORK, lines=1)
    short = _local(settings, work=fewer)["programs"][1]
    # 3 epochs of 4 sequences and of 2; those of the passage are as long as the line is short.
    assert long["memory_bytes"] == short["memory_bytes"]
    assert 1.3 < long["flops"] / short["flops"] < 2


def test_what_does_not_fit_says_so_and_what_to_lower(settings):
    most = max(p["memory_bytes"] for p in _local(settings)["programs"])
    small = _local(settings, memory=most - 1)
    assert not small["fits"]
    assert any("does not fit: lower" in note for note in small["notes"])
    assert "the smallest machine that can, by arithmetic: gpu:80gb." in small["notes"]


def test_contexts_are_sampled_as_few_at_once_as_the_compiler_has_room_for(settings, monkeypatch):
    """As a run does; whatever arithmetic thinks."""
    whole = _local(settings)["programs"][0]
    assert whole["contexts"] == settings.edits.contexts_per_batch == 2
    measured, room = planner.measured, whole["memory_bytes"] - 1

    def only_sampling(program, *rest):
        found = measured(program, *rest)
        return found | {"fits": program.name != "sampling" or found["memory_bytes"] <= room}

    monkeypatch.setattr(planner, "measured", only_sampling)
    split = _local(settings)
    assert split["fits"] and split["programs"][0]["contexts"] == 1
    assert split["programs"][0]["calls"] == 2 * whole["calls"]
    assert any("2 contexts at once do not fit: a run samples for 1" in n for n in split["notes"])


def test_contexts_that_the_devices_cannot_divide_are_told(settings, monkeypatch):
    monkeypatch.setattr(planner, "measured", lambda program, *_: _figures(program))
    notes = {}
    for contexts in (2, 3, 4):  # 2 contexts have 4 self-edits
        planned = planner.arithmetic.with_contexts(settings, contexts)
        with monkeypatch.context() as patch:
            patch.setattr(jax, "devices", lambda: jax.local_devices()[:4])
            patch.setattr(local, "memory_of", lambda device, count: 1 << 34)
            notes[contexts] = planner.plan(planned, work=WORK)["notes"]
    told = "3 contexts do not divide by 4 devices: each of them samples for all"
    assert told in " ".join(notes[3])
    assert not any("do not divide" in " ".join(notes[contexts]) for contexts in (2, 4))


def _figures(program):
    """What the compiler might say of a program."""
    return dict(
        name=program.name, detail="", memory_bytes=1 << 30, fits=True, flops=1, seconds=1, calls=1
    )


@pytest.mark.parametrize(
    "room, largest", [(0, None), (4 * 7, 4), (8 * 7, 8), (14 * 7, 14), (14 * 7 + 6, 14), (700, 97)]
)
def test_the_largest_number_of_candidates_fits_and_the_next_does_not(
    settings, monkeypatch, room, largest
):
    """Of an inner update of 100 bytes and 7 a candidate, and of a jump of 20 bytes above 50."""
    asked = []

    def measured(program, tried, *_):
        count = tried.inner.candidates
        asked.append(count)
        return {"memory_bytes": 100 + 7 * count + 20 * (count > 50), "seconds": 1.0}

    monkeypatch.setattr(planner, "measured", measured)
    machine = dataclasses.replace(machines.GPU, memory=100 + room)
    config = planner.architecture(settings.model.path)
    found = planner.largest_candidates(
        settings, config, machine, jax.local_devices()[:1], WORK, print
    )
    # 8 and 4 are compiled, then what they lead to, lowered until it fits.
    assert found == largest and len(asked) <= 5


def test_the_command_prints_json(settings, capsys):
    path = settings.model.path
    flags = ["--config.model.path=" + path, "--topology=gpu:80gb", "--json=-"]
    assert cli.main(["plan", "knowledge:smoke", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"] == "gpu:80gb" and found["fits"]
    assert [program["name"] for program in found["programs"]] == NAMES


def test_without_the_compiler_for_tpus_the_error_says_how_to_get_it(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(SettingsError, match=r"libtpu: pip install 'seal_jax\[tpu\]'"):
        planner.plan(settings, "v5e:2x2")


def test_without_the_compiler_for_gpus_the_error_names_its_packages(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.cuda_nvcc", None)
    wanted = rf"pip install --no-deps jax-cuda12-pjrt=={jax.lib.__version__} nvidia-cuda-nvcc-cu12"
    with pytest.raises(SettingsError, match=wanted):
        planner.plan(settings, "h100:2")


def test_a_compiler_of_another_jax_is_refused(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia", object())
    monkeypatch.setitem(sys.modules, "nvidia.cuda_nvcc", object())
    monkeypatch.setattr(topologies.importlib.metadata, "version", lambda name: "0.1")
    with pytest.raises(SettingsError, match=r"jax-cuda12-pjrt==0.1 is of another JAX"):
        planner.plan(settings, "h100:2")


def test_products_that_find_no_tiles_are_compiled_without_tritons():
    asked = []

    class Lowered:
        def compile(self, compiler_options=None):
            asked.append(compiler_options)
            if not compiler_options:
                raise RuntimeError("INTERNAL: Couldn't find output tile sizes for dot.3")
            return "compiled"

    assert compiled._with_tiles(Lowered()) == "compiled"
    assert asked == [None, {"xla_gpu_enable_triton_gemm": False}]


def _only(monkeypatch, name):
    """Rounds have one program only."""
    real = planner.Round.programs
    monkeypatch.setattr(
        planner.Round, "programs", lambda of: [found for found in real(of) if found.name == name]
    )


@pytest.mark.needs("jax_plugins", "nvidia")
@pytest.mark.parametrize("kind", machines.GPUS)
def test_programs_compile_for_gpus(settings, monkeypatch, kind):
    """The M-step of a tiny model on two of each kind that are not there, with cuDNN's attention."""
    _only(monkeypatch, "M-step")
    model = dataclasses.replace(settings.model, dtype="bfloat16", remat="full")
    planned = dataclasses.replace(settings, model=model)
    machine = machines.machine(f"{kind}:2")
    config, devices = planner.architecture(model.path), topologies.devices(machine)
    assert [device.device_kind for device in devices] == [machines.GPUS[kind].model] * 2
    (found,) = planner._programs(planned, config, machine, devices, WORK, lambda line: None)
    assert found["fits"] and found["flops"] > 0 and found["links_bytes"] > 0
    mesh = parallel.DeviceMesh(devices)
    assert mesh.with_attention(config, "bfloat16").attention == "cudnn"


@pytest.mark.needs("libtpu")
def test_programs_compile_for_a_tpu_slice(settings, monkeypatch):
    """The likelihoods under a tiny model on a 2 x 2 mesh of a v5e slice."""
    machine = machines.machine("v5e:2x2")
    devices = topologies.devices(machine)
    assert len(devices) == machine.devices == 4
    _only(monkeypatch, "log-likelihoods")
    settings = planner.arithmetic.with_axis(settings, 2)
    config = planner.architecture(settings.model.path)
    (found,) = planner._programs(settings, config, machine, devices, WORK, lambda line: None)
    assert found["fits"] and found["flops"] > 0 and found["links_bytes"] > 0
    assert found["seconds"] > found["links_bytes"] / machine.rates.links
