"""What the compilers say of Qwen2.5-7B's programs, beside what they said when it was recorded.

compiled_figures.json has the figures, the compilers (pinned in .ci/compilers.txt) and the cost
model that they are of. Where a change makes a figure better, record it in a commit of its own. The
M-step on v5e:2x4 is taken from docs/scaling.md, rounded as it stands there.
"""

import ast
import hashlib
import importlib.metadata
import json
import pathlib

import pytest

from seal_jax.core import parallel
from seal_jax.planning import (
    architectures,
    arithmetic,
    compiled,
    hlo_cost,
    hlo_text,
    machines,
    planner,
    texts,
    topologies,
)
from seal_jax.planning.round_programs import Round
from seal_jax.planning.workload import counts
from seal_jax.settings import config_dict, config_files

RECORD = json.loads(pathlib.Path(__file__).with_name("compiled_figures.json").read_text())
WORSE = 1.1
_GPU = [pytest.mark.needs("jax_plugins", "nvidia")]
_TPU = [pytest.mark.needs("libtpu"), pytest.mark.long]


@pytest.mark.parametrize(
    "topology, model_axis, name",
    [
        pytest.param("h100:1", 1, "log-likelihoods", marks=_GPU),
        *[
            pytest.param("h100:1", 1, name, marks=[*_GPU, pytest.mark.long])
            for name in ("answers", "M-step", "M-step, longest")
        ],
        *[
            pytest.param("v5e:2x4", 4, name, marks=_TPU)
            for name in ("log-likelihoods", "answers", "M-step")
        ],
    ],
)
def test_no_program_got_worse(topology, model_axis, name, tmp_path, monkeypatch):
    for package, version in RECORD["compilers"][topology.partition(":")[0]].items():
        there = importlib.metadata.version(package)
        if there != version:
            pytest.skip(f"{package} is {there}, and the figures are of {version}")
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path)
    found = _measured(topology, model_axis, name)
    for what, recorded in RECORD["figures"][topology][name].items():
        assert found[what] <= WORSE * recorded, (
            f"{name} on {topology}: {what} is {found[what]:.4g}, and was {recorded:.4g}"
        )


def _measured(topology, model_axis, name):
    settings = config_dict.from_config(config_files.made("knowledge:qwen2.5-7b"))
    settings = arithmetic.with_axis(settings, model_axis)
    config = architectures.architecture(settings.model.path)
    machine = machines.machine(topology)
    work, _ = texts.expected(texts.open_task(settings))
    mesh = parallel.DeviceMesh(topologies.devices(machine), model_axis)
    config = mesh.with_attention(config, settings.model.dtype)
    (program,) = (of for of in Round(settings, config, mesh, work).programs() if of.name == name)
    found = planner.measured(program, settings, config, machine, counts(settings, work), print)
    print({what: found[what] for what in ("memory_bytes", "seconds")})
    return found


def test_the_cost_model_is_that_of_the_record():
    """A better figure of another model is no gain: price the old programs with it as well."""
    trees = [
        ast.dump(ast.parse(pathlib.Path(of.__file__).read_text())) for of in (hlo_cost, hlo_text)
    ]
    digest = hashlib.sha256("\n".join(trees).encode()).hexdigest()[:16]
    assert digest == RECORD["cost_model"], (
        f"the cost model has changed ({digest}): record all figures of compiled_figures.json anew, "
        "and say in the commit what both models give for the same programs."
    )
