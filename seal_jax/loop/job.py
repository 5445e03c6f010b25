"""What every recorded job shares: the run directory, the ledger, and results at the end."""

import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, TypedDict

import jax

from seal_jax.loop import failures, opened_model, session
from seal_jax.loop.run import Run
from seal_jax.runs import results_file, run_dir, storage
from seal_jax.runs.ledger import Ledger
from seal_jax.runtime import hosts, metrics
from seal_jax.settings import Settings, config_dict


class How(TypedDict, total=False):
    """How a job is run, beside what it computes; see `run_job`."""

    overwrite: bool
    quiet: bool
    reuse: Sequence[str]


def run_job(
    settings: Settings,
    workdir: str,
    work: Callable[[Run], dict[str, Any]],
    *,
    overwrite: bool = False,
    quiet: bool = False,
    reuse: Sequence[str] = (),
    **given: Any,
) -> dict[str, Any]:
    """Runs or continues a job in `workdir`; returns what it wrote to results.json.

    Args:
      settings: of the run.
      workdir: its directory.
      work: does the job and returns its results, with all of its records in the run's ledger.
      overwrite: whether a finished run, or one of another config, may be deleted.
      quiet: print nothing. Of several hosts (see `hosts`) host 0 alone prints, and writes.
      reuse: directories of runs whose records are used again where nothing differs.
      **given: what else the job depends on; a run is only continued with the same.

    Raises:
      ValueError, OSError, RuntimeError: with what to change.
      Interrupted: a signal asked for the end; what is done is recorded.
    """
    joined = hosts.join()
    opened_model.enable_compilation_cache()
    resolved = config_dict.recorded(settings) | given
    with contextlib.ExitStack() as stack:
        stack.enter_context(joined.at_work())
        stack.enter_context(failures.explained(workdir))
        directory = None
        if joined.rank == 0:
            directory = stack.enter_context(run_dir.open_run(workdir, resolved, overwrite))
        joined.agree(
            dict(run_dir.flatten(resolved))
            | {"devices": len(jax.local_devices())}
            | {f"version of {name}": version for name, version in versions().items()}
        )
        opened = session.open_session(settings)
        joined.barrier("the model is loaded")
        path, writers = storage.locate(workdir), None
        records = stack.enter_context(Ledger(path / "ledger", hosts=joined))
        if directory:
            writers = stack.enter_context(metrics.open_writers(settings.metrics, workdir, resolved))
        quiet = quiet or joined.rank > 0
        with Run(opened, records, path / "checkpoints", quiet, writers, joined, reuse) as run:
            start = time.perf_counter()
            if directory and directory.resumed:
                done = f"{len(records)} units of work are done, and replayed from its ledger"
                run.say(f"continuing the run in {workdir}: {done}")
            on = "" if joined.alone else f" of each of {joined.count} hosts"
            run.say(f"model: {opened.source}, on {opened.devices}{on}")
            results = work(run)
            run.forget_steps()
            if run.ungraded:
                results |= {"incomplete": run.incomplete}
            run.seconds["total"] = time.perf_counter() - start
        about = {"seed": settings.seed, "model": opened.source, "versions": versions()}
        results |= about | {"config": resolved}
        if directory:
            seconds = {name: round(value, 3) for name, value in run.seconds.items()}
            replayed = sorted(run.replayed)
            timing = {"seconds": seconds, "resumed": directory.resumed, "replayed": replayed}
            directory.write(directory.timing_path, timing)
            directory.lock.check()
            results = results_file.write(directory.results_path, results)
            run.say(f"\nresults: {directory.results_path}")
    return results


def versions() -> dict[str, str]:
    """What the results were computed with."""
    found = {"python": platform.python_version(), "device": jax.local_devices()[0].device_kind}
    for package in ("jax", "jaxlib", "flax", "optax", "transformers", "seal_jax"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
