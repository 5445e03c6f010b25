"""What every recorded job shares: the run directory, the ledger, and results at the end."""

import dataclasses
import platform
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax

from seal_jax import ledger, metrics, run_dir
from seal_jax.programs import failures, opened_model, session
from seal_jax.programs.stages import Run
from seal_jax.settings import Settings


def run_job(
    settings: Settings,
    workdir: str,
    work: Callable[[Run], dict[str, Any]],
    *,
    overwrite: bool = False,
    quiet: bool = False,
    open_session: Callable[[Settings], Any] = session.open_session,
    **given: Any,
) -> dict[str, Any]:
    """Runs or continues a job in `workdir`; returns what it wrote to results.json.

    Args:
      settings: of the run.
      workdir: its directory.
      work: does the job and returns its results, with all of its records in the run's ledger.
      overwrite: whether a finished run, or one of another config, may be deleted.
      quiet: print nothing.
      open_session: loads the model and the task; `work` finds them as run.session.
      **given: what else the job depends on; a run is only continued with the same.

    Raises:
      ValueError, OSError, RuntimeError: with what to change.
      Interrupted: a signal asked for the end; what is done is recorded.
    """
    opened_model.enable_compilation_cache()
    resolved = dataclasses.asdict(settings) | given
    del resolved["metrics"]  # they may change when a run goes on
    with (
        failures.explained(workdir),
        run_dir.open_run(workdir, resolved, overwrite) as directory,
    ):
        opened = open_session(settings)
        with (
            ledger.Ledger(directory.ledger_path) as records,
            metrics.open_writers(settings.metrics, workdir, resolved) as writers,
            Run(opened, records, directory.checkpoints_path, quiet, writers) as run,
        ):
            start = time.perf_counter()
            if directory.resumed:
                run.say(f"continuing the run in {workdir}: {len(records)} units of work are done")
            run.say(f"model: {opened.source}, on {opened.devices}")
            results = work(run)
            run.steps.clear()
            run.seconds["total"] = time.perf_counter() - start
        results |= {
            "seed": settings.seed,
            "model": opened.source,
            "versions": versions(),
            "config": resolved,
        }
        seconds = {name: round(value, 3) for name, value in run.seconds.items()}
        run_dir.write_json(
            directory.timing_path, {"seconds": seconds, "resumed": directory.resumed}
        )
        run_dir.write_json(directory.results_path, results)
        run.say(f"\nresults: {directory.results_path}")
    return results


def versions() -> dict[str, str]:
    """What the results were computed with."""
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for package in ("jax", "jaxlib", "flax", "optax", "transformers", "seal_jax"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
