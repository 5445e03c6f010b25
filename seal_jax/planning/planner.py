"""A plan: what each program of a round takes on a machine, and what the round does."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from seal_jax.core import batching, parallel
from seal_jax.core.model.config import ModelConfig
from seal_jax.planning import (
    arithmetic,
    compiled,
    hlo_cost,
    local,
    machines,
    roofline,
    texts,
    topologies,
)
from seal_jax.planning.architectures import architecture
from seal_jax.planning.machines import Machine
from seal_jax.planning.round_programs import Program, Round
from seal_jax.planning.workload import Runs, Workload, counts
from seal_jax.settings import Settings, SettingsError, config_dict

Record = dict[str, Any]
Say = Callable[[str], None]
_EXPECTED: Mapping[str, Any] = {}
_ARITHMETIC = (
    "by arithmetic, nothing was compiled. For Qwen2.5-7B on an H100 the compiler's times are 0.6 "
    "to 1.7 times these, its memory is within 3 %: --topology=h100:1 compiles."
)


def plan(
    settings: Settings,
    topology: str = "",
    *,
    work: Workload | None = None,
    lengths: Mapping[str, Any] = _EXPECTED,
    largest: bool = False,
    say: Say = lambda line: None,
    show: Callable[[Record], None] = lambda plan: None,
) -> Record:
    """Plans a run: compiles every program of a round for a machine, and adds up what they take.

    Args:
      settings: of the run.
      topology: see `machines.machine`; "" is the local devices.
      work: how long texts are; None is as `texts.expected` says.
      lengths: fields of it, in their place.
      largest: whether the largest number of candidates is looked for, with two or more compiles.
      say: is told what is being compiled.
      show: is given the plan before that number is looked for.

    Returns:
      The plan as JSON values: machine, model_axis, fits, programs (name, detail, memory_bytes,
      flops, traffic_bytes, seconds, calls, ...; of sampling also contexts, those at once), round,
      largest_candidates, smallest_machine, notes.

    Raises:
      ValueError: the topology or the model cannot be planned for, or the task cannot be opened.
      SettingsError: the machine's compiler is missing, or cannot make this topology.
    """
    config = architecture(settings.model.path)
    machine = machines.machine(topology) if topology else local.local_machine()
    axis = settings.devices.model_axis
    if machine.devices % axis:
        raise SettingsError(
            f"devices.model_axis={axis} does not divide the {machine.devices} devices of "
            f"{machine.name}: set one that does."
        )
    task = texts.open_task(settings)
    notes: list[str] = []
    if work is None:
        work, notes = texts.expected(task)
    work = dataclasses.replace(work, **lengths).within(task)
    if task.grammar is not None:
        notes.append(
            "self-edits are planned as sampled freely: the tables of the constraint and their "
            "lookups are not in it."
        )
    devices: tuple[jax.Device, ...] = ()
    if machine.kind == machines.GPU.kind:
        found = by_arithmetic(settings, config, machine, work)
        notes.append(_ARITHMETIC)
    else:
        devices = topologies.devices(machine) if topology else tuple(jax.devices())
        axis, found = _first_that_fits(settings, config, machine, devices, work, say)
        if axis != settings.devices.model_axis:
            notes.append(
                f"with devices.model_axis={settings.devices.model_axis} it does not fit: planned "
                f"with {axis}, so set --config.devices.model_axis={axis}."
            )
        settings = arithmetic.with_axis(settings, axis)
    fits, axis = all(program["fits"] for program in found), settings.devices.model_axis
    # Who plans for a CPU is not told of TPUs, and where the run fits of nothing else.
    on_cpu = not topology and devices[0].platform == "cpu"
    others = machines.GPU.kind if on_cpu else ""
    kind = machine.kind if topology else others
    smallest = ""
    if not (on_cpu and fits):
        smallest = _smallest(settings, config, machine, kind, fits, axis)
    plan = {
        "machine": machine.name,
        "devices": machine.devices,
        "chips": machine.chips,
        "device_memory_bytes": machine.memory,
        "model": settings.model.path,
        "model_axis": axis,
        "texts": dataclasses.asdict(work),
        "programs": found,
        "fits": fits,
        "round": _round(found, machine),
        "smallest_machine": smallest,
        "notes": [*notes, *_advice(settings, config, machine, work, found, smallest, others)],
    }
    show(plan)
    if largest and devices and settings.reward.needs_inner_loop:
        most = largest_candidates(settings, config, machine, devices, work, say)
        plan["largest_candidates"] = most
    return plan


def _advice(
    settings, config, machine, work, found: list[Record], smallest: str, others: str
) -> Iterator[str]:
    """What to set otherwise, or to take: the smallest of its kind, or of the others."""
    refused = [program["name"] for program in found if not program["fits"]]
    for name in refused:
        yield f"{name} does not fit: lower {arithmetic.LOWER[name]}."
    contexts, sampled = settings.edits.contexts_per_batch, found[0]["contexts"]
    if sampled < contexts:
        yield (
            f"{contexts} contexts at once do not fit: a run samples for {sampled} at once (or set "
            f"edits.contexts_per_batch={sampled})."
        )
        settings = arithmetic.with_contexts(settings, sampled)
    shards = machine.devices // settings.devices.model_axis
    if sampled % shards and sampled * settings.edits.samples % shards:
        yield (
            f"{sampled} contexts do not divide by {shards} devices: each of them samples for all; "
            "take a multiple for edits.contexts_per_batch."
        )
    yield from _rows_that_fit(settings, config, machine, work, found[0]["memory_bytes"])
    if refused:
        best = smallest or arithmetic.smallest(settings, config, machines.slices(others))
        yield (
            f"the smallest machine that can, by arithmetic: {best}."
            if best
            else "no machine that is known here can, by arithmetic."
        )


def _rows_that_fit(settings, config, machine, work, sampling: int) -> Iterator[str]:
    """How many contexts may be sampled together, where not all of a round's can."""
    edits, contexts = settings.edits, work.contexts or settings.restem.contexts_per_round
    each = arithmetic.cache(settings, config, machine) / edits.contexts_per_batch
    most = int((machine.memory - sampling) / each + edits.contexts_per_batch)
    if most >= contexts:
        return
    rows = f"{contexts * edits.samples} rows of up to {edits.max_new_tokens:,} tokens"
    if most < 1:
        yield f"{rows}: the cache of not even one context's fits; lower edits.max_new_tokens."
    else:
        yield (
            f"{rows} do not fit in one cache: up to about {most} contexts fit together, and "
            f"edits.contexts_per_batch={edits.contexts_per_batch}."
        )


def _smallest(settings, config, machine: Machine, kind: str, fits: bool, axis: int) -> str:
    """The smallest machine of the kind by arithmetic, or this one, if it is smaller and does."""
    found = arithmetic.smallest(settings, config, machines.slices(kind))
    name = found.partition(" ")[0]
    if fits and kind and (not name or machines.machine(name).devices > machine.devices):
        return machine.name + f" (devices.model_axis={axis})" * (machine.devices > 1)
    return found


def _first_that_fits(settings, config, machine, devices, work, say):
    """The smallest model axis on which everything fits, and the programs; else the last tried."""
    sizes, room = arithmetic.axes(len(devices), settings.devices.model_axis), 1.3 * machine.memory
    # What is far too large by arithmetic is not worth minutes of compilation.
    worth = [size for size in sizes if arithmetic.most(settings, config, machine, size) < room]
    for size in worth or sizes[-1:]:
        tried = arithmetic.with_axis(settings, size)
        found = _programs(tried, config, machine, devices, work, say)
        if all(program["fits"] for program in found):
            break
    return size, found


def _programs(settings, config, machine, devices, work, say) -> list[Record]:
    """Every program of a round, compiled; contexts are sampled as few at once as a run comes to."""
    mesh = parallel.DeviceMesh(tuple(devices), settings.devices.model_axis)
    config = mesh.with_attention(config, settings.model.dtype)
    settings = arithmetic.split_sampling(settings, config, machine)
    while True:
        contexts, runs = settings.edits.contexts_per_batch, counts(settings, work)
        sampling, *others = Round(settings, config, mesh, work).programs()
        first = measured(sampling, settings, config, machine, runs, say) | {"contexts": contexts}
        fewer = batching.smaller_size(contexts, mesh.data_shards)
        if first["fits"] or fewer is None:
            break
        settings = arithmetic.with_contexts(settings, fewer)
    return [first, *(measured(of, settings, config, machine, runs, say) for of in others)]


def measured(
    program: Program,
    settings: Settings,
    config: ModelConfig,
    machine: Machine,
    runs: Mapping[str, Runs],
    say: Say,
) -> Record:
    """One program's memory, FLOPs and time on one device of the machine."""
    axis, run = settings.devices.model_axis, runs.get(program.name, Runs(0))
    say(f"compiling: {program.name} ({program.detail}), model axis {axis}")
    found = compiled.compile_program(program.lower(), f"{machine.name}, model axis {axis}")
    cost = hlo_cost.Cost()
    if found.text:
        costs = hlo_cost.Program(found.text, machine.rates, program.branches)
        cost = costs.cost(run.steps, has_loop=program.has_loop, stages=program.stages)
    beside = arithmetic.merged_twice(settings, config, axis)
    memory = found.memory + beside
    return {
        "name": program.name,
        "detail": program.detail,
        "memory_bytes": memory,
        "arguments_bytes": found.arguments,
        "temporaries_bytes": found.temporaries,
        "merged_policy_bytes": beside,
        "fits": memory <= machine.memory and bool(found.text),
        "flops": cost.flops,
        "traffic_bytes": cost.traffic,
        "links_bytes": cost.links,
        "seconds": cost.seconds if found.text else None,
        "calls": run.calls,
        "lower": arithmetic.LOWER[program.name],
    }


def by_arithmetic(
    settings: Settings, config: ModelConfig, machine: Machine, work: Workload
) -> list[Record]:
    """Every program of a round, from sizes alone."""
    settings = arithmetic.split_sampling(settings, config, machine)
    needs, runs = arithmetic.programs(settings, config, machine), counts(settings, work)
    times = roofline.programs(settings, config, machine, work, runs)
    records = [
        {
            "name": name,
            "detail": "",
            "memory_bytes": needs.get(name),
            "fits": needs.get(name, 0) <= machine.memory,
            "flops": times[name].flops if name in times else None,
            "seconds": times[name].seconds if name in times else None,
            "calls": runs[name].calls if name in times else 0,
            "lower": arithmetic.LOWER[name],
        }
        for name in {**times, **needs}
    ]
    records[0]["contexts"] = settings.edits.contexts_per_batch  # of the sampling
    return records


def _round(programs: list[Record], machine: Machine) -> Record:
    """Time and price of a round, None where a program has no time."""
    used = [program for program in programs if program["calls"]]
    if not used or any(program["seconds"] is None for program in used):
        return {"seconds": None, "chip_hours": None, "flops": None}
    seconds = sum(program["calls"] * program["seconds"] for program in used)
    return {
        "seconds": seconds,
        "chip_hours": seconds * machine.chips / 3600,
        "flops": machine.devices * sum(p["calls"] * p["flops"] for p in used),
    }


def largest_candidates(settings, config, machine, devices, work, say) -> int | None:
    """The largest number of candidates whose inner update fits; None if not even one a share does.

    Memory is taken to be linear in it, going by the settings' number and half or twice that; what
    follows is compiled, and lowered until it fits.
    """
    mesh = parallel.DeviceMesh(tuple(devices), settings.devices.model_axis)
    config = mesh.with_attention(config, settings.model.dtype)
    shards = mesh.data_shards

    def memory(count: int) -> int:
        tried = config_dict.replaced(settings, {"inner.candidates": count})
        program = Round(tried, config, mesh, work).inner_update(largest=True)
        return measured(program, tried, config, machine, {}, say)["memory_bytes"]

    first = max(1, settings.inner.candidates // shards) * shards
    second = first // shards // 2 * shards or 2 * shards
    low, high = sorted((first, second))
    least, most = memory(low), memory(high)
    if least > machine.memory:
        return None
    if most > machine.memory:
        return low
    each = max(1.0, (most - least) / (high - low))
    guess = high + int((machine.memory - most) / each) // shards * shards
    while guess > high:
        taken = memory(guess)
        if taken <= machine.memory:
            return guess
        each = max(each, (taken - most) / (guess - high))
        steps = int((machine.memory - most) / each) // shards
        guess = min(guess - shards, high + steps * shards)
    return high
