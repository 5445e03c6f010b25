"""The rows of an examination, in the order of their importance.

Each asks workers for figures, and says in a few words what they come to: "result", "plan", "note".
"""

import concurrent.futures
import functools
import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from seal_jax.core.families import FAMILIES
from seal_jax.core.model.config import ModelConfig
from seal_jax.doctor import machine, models
from seal_jax.doctor.problems import Problems, synthetic
from seal_jax.doctor.worker import WorkerError
from seal_jax.planning.machines import GIB, Rates

Record = dict[str, Any]
CHIP, OURS, TORCH = (f"seal_jax.doctor.{name}" for name in ("chip", "jax_side", "torch_side"))
SIZES = (1, 8, 32, 128)
_GROUP = 8  # self-edits that are evaluated together


class Skipped(Exception):
    """There is nothing to measure; the message says why."""


class Examination(Protocol):
    """What a row works with.

    Attributes:
      tiny: results are checked, and times mean nothing.
      rows: what was found so far, by the rows' names.
    """

    tiny: bool
    rows: dict[str, Record]

    def ask(self, module: str, spec: Any, method: str, *args: Any, **named: Any) -> Record:
        """What a method of a worker returns that has the device."""

    def ask_cpu(self, method: str, *args: Any) -> Record:
        """What a method of `chip.Chip` returns on the CPU."""


class Row(NamedTuple):
    """A row: its name, and what finds its figures."""

    name: str
    measure: Callable[[Examination], Record]


def rows(*, tiny: bool) -> list[Row]:
    """All rows; the first is about what is examined."""
    first = [Row("machine", facts), *_parity("llama"), Row("rates", rates)]
    if tiny:
        one = models.TINY
        return [*first, *_parity("qwen3", "float32"), *_speed(one), *_sizes(one, (2,)), _peft(one)]
    small, *larger = models.SMOLLM2, "llama-3.2-1b", "qwen2.5-7b"
    others = [row for family in FAMILIES if family != "llama" for row in _parity(family)]
    speeds = [row for model in larger for row in _speed(model)]
    sizes = [row for model in (small, *larger) for row in _sizes(model, SIZES)]
    parity = _parity(models.SMOLLM2)
    return [*first, *_speed(small), *others, *speeds, _peft(small), *parity, *sizes]


def _parity(name: str, *dtypes: str) -> list[Row]:
    given = dtypes or ("bfloat16", "float32")
    of = functools.partial(parity, name=name)
    return [Row(f"parity, {name}, {dtype}", functools.partial(of, dtype=dtype)) for dtype in given]


def _speed(model: str) -> list[Row]:
    kinds = {"evaluation": evaluation, "decode": decode}
    return [Row(f"{k}, {model}", functools.partial(of, model=model)) for k, of in kinds.items()]


def _sizes(model: str, sizes: Sequence[int]) -> list[Row]:
    of = functools.partial(inner, model=model)
    return [Row(f"inner update, {model}, K={k}", functools.partial(of, size=k)) for k in sizes]


def _peft(model: str) -> Row:
    return Row(f"PEFT, {model}", functools.partial(peft, model=model))


def facts(examination: Examination) -> Record:
    """Versions, devices, memory, and which kernels a run would take."""
    found = examination.ask(CHIP, None, "facts")
    errors = found["float32_products"]
    return found | {
        "result": f"{found['devices']} x {found['device']}, {found['memory_bytes'] / GIB:.0f} GiB",
        "note": f"attention: {found['attention']['training, bfloat16']}; float32 products are "
        f"{errors['default']:.0e} off by default, {errors['highest']:.0e} at most precision",
    }


def rates(examination: Examination) -> Record:
    """Large products, and copies."""
    found = examination.ask(CHIP, None, "rates", small=examination.tiny)
    flops, bandwidth = found["flops"], found["bandwidth"]
    return found | {"result": f"{flops / 1e12:.3g} TFLOP/s, {bandwidth / 1e9:.3g} GB/s"}


def parity(examination: Examination, name: str, dtype: str) -> Record:
    """Whether a model does on the device what it does on the CPU; see `parity.py`."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        prepared = threads.submit(examination.ask_cpu, "prepare", name, dtype)
        found = examination.ask(CHIP, None, "figures", name, dtype)
        prepared.result()
    found = examination.ask_cpu("compare", name, dtype, found)
    of = {key: f"{error:.1e}" for key, error in found["errors"].items()}
    wrong = [key for key in of if found["errors"][key] > found["allowed"][key]]
    return found | {
        "result": f"{of['logits']} logits, {of['losses']} 20 steps, {of['m_step']} M-step",
        "note": f"{found['same_tokens']:.0%} of the CPU's greedy tokens",
        "wrong": [f"{key} {of[key]} off, {found['allowed'][key]:.1e} is allowed" for key in wrong],
    }


def evaluation(examination: Examination, model: str) -> Record:
    """Self-edits an hour: a group's inner update, answers and gold log-likelihoods.

    A first group compiles; the second, of other lengths, is measured and must compile nothing.
    """
    spec, work = _spec(examination, model), _problems(tiny=examination.tiny)
    size = 2 if examination.tiny else _GROUP
    how = {"epochs": 1, "new_tokens": 24, "stop_ids": work.stop_ids}

    def evaluate(number: int) -> Record:
        group, asked = work.group(size, number), work.questions_of(size)
        return examination.ask(OURS, spec, "evaluate", group, work.buckets, asked, **how)

    first, found = evaluate(0), evaluate(1)
    beliefs = found.pop("log_likelihoods")
    wrong = []
    if not all(map(math.isfinite, beliefs)):
        wrong.append("log-likelihoods are not finite")
    if found["compiles"]:
        wrong.append(f"{found['compiles']} programs were compiled after the first group")
    flops = machine.useful_flops(_parameters(model), found["real"]) / found["update_seconds"]
    share = flops / examination.rows["rates"]["flops"]
    return _planned(examination, spec, found) | {
        "answers": len(found["answers"]),
        "hourly": 3600 * size / found["seconds"],
        "first_seconds": first["seconds"],
        "share_of_gemm": share,
        "result": f"{3600 * size / found['seconds']:,.0f} self-edits/h",
        "note": f"{size} in {found['seconds']:.3g} s, the first {first['seconds']:.0f} s; inner "
        f"update at {share:.0%} of the GEMM rate",
        "wrong": wrong,
    }


def decode(examination: Examination, model: str) -> Record:
    """Greedy tokens a second of 16 rows."""
    spec, work = _spec(examination, model), _problems(tiny=examination.tiny)
    prompts = list(itertools.islice(itertools.cycle(prompt for prompt, _ in work.questions[0]), 16))
    new_tokens = 8 if examination.tiny else 64
    for _ in range(2):  # the first compiles
        found = examination.ask(OURS, spec, "decode", prompts, new_tokens=new_tokens)
    del found["tokens"]
    read = machine.decode_bytes(_parameters(model), spec.itemsize, new_tokens)
    share = read / found["seconds"] / examination.rows["rates"]["bandwidth"]
    return _planned(examination, spec, found) | {
        "share_of_copy": share,
        "result": f"{found['new_tokens'] / found['seconds']:,.0f} tok/s",
        "note": f"16 rows x {new_tokens} tokens; weights read at {share:.0%} of the copy rate",
    }


def inner(examination: Examination, model: str, size: int) -> Record:
    """Real tokens a second that K candidates are trained on."""
    spec, work = _spec(examination, model), _problems(tiny=examination.tiny)
    for _ in range(2):  # the first compiles
        found = examination.ask(OURS, spec, "update", work.group(size), work.buckets, fitted=True)
    finite = all(loss is not None and math.isfinite(loss) for loss in found.pop("losses"))
    del found["steps"]
    flops = machine.useful_flops(_parameters(model), found["real"]) / found["seconds"]
    share = flops / examination.rows["rates"]["flops"]
    return _planned(examination, spec, found) | {
        "share_of_gemm": share,
        "result": f"{found['real'] / found['seconds']:,.0f} tok/s",
        "note": f"{found['seconds']:.3g} s; {share:.0%} of the GEMM rate; "
        f"{found['real'] / found['computed']:.0%} of the tokens are real",
        "wrong": [] if finite else ["losses are not finite"],
    }


def peft(examination: Examination, model: str) -> Record:
    """The same evaluation by PEFT, one self-edit after another; half of them tell its rate."""
    absent = [name for name in ("torch", "peft") if importlib.util.find_spec(name) is None]
    if absent:
        raise Skipped(f"not installed: {', '.join(absent)}")
    spec, work = _spec(examination, model), _problems(tiny=examination.tiny)
    group = work.group(_GROUP, 1)
    steps = [list(step) for step in itertools.zip_longest(*group, fillvalue=())]
    facts = examination.ask(TORCH, spec, "facts")
    on_gpu = examination.rows["machine"]["platform"] == "gpu"
    if on_gpu and facts["device"] == "cpu":
        raise Skipped("this PyTorch sees no GPU")
    for asked in (work.questions[:1], work.questions_of(_GROUP // 2)):  # the first warms up
        found = examination.ask(
            TORCH, spec, "evaluate", steps, asked, new_tokens=24, stop_ids=work.stop_ids
        )
    hourly = 3600 * len(asked) / found["seconds"]
    ours = examination.rows.get(f"evaluation, {model}", {}).get("hourly")
    return facts | {
        "hourly": hourly,
        **{key: of for key, of in found.items() if key.endswith(("seconds", "bytes"))},
        "result": f"{hourly:,.0f} self-edits/h",
        "note": f"PyTorch {facts['torch']} on {facts['device']}"
        + (f"; ours is {ours / hourly:.3g} times that" if ours else ""),
    }


def _spec(examination: Examination, model: str) -> models.Spec:
    """How a model is run on this device.

    Raises:
      Skipped: not even its weights fit.
    """
    found = examination.rows["machine"]
    spec = models.Spec(
        model=model,
        random=True,
        dtype="float32" if found["platform"] == "cpu" else "bfloat16",
        remat="full" if model == "qwen2.5-7b" else "dots",
        **({"rank": 4} if examination.tiny else {}),
    )
    needed = 1.1 * spec.itemsize * _parameters(model)
    if needed > found["memory_bytes"]:
        raise Skipped(
            f"its weights take {needed / GIB:.0f} GiB of the device's "
            f"{found['memory_bytes'] / GIB:.0f}"
        )
    return spec


def _planned(examination: Examination, spec: models.Spec, found: Record) -> Record:
    """The figures with what the planner says of the same programs."""
    measured = examination.rows["rates"]
    rates = Rates(flops=measured["flops"], bandwidth=measured["bandwidth"])
    try:
        plan = examination.ask(OURS, spec, "plan", rates)["programs"]
    except WorkerError as error:  # of a program's text: what was measured stands
        return found | {"plan": f"none ({str(error).strip().splitlines()[-1][:80]})"}
    seconds = sum(program["seconds"] for program in plan.values())
    memory = max(program["memory_bytes"] for program in plan.values())
    peak = found["peak_bytes"]
    return found | {
        "programs": plan,
        "planned_seconds": seconds,
        "planned_bytes": memory,
        "plan": f"{seconds:.3g} s ({seconds / found['seconds']:.2f}x), {memory / GIB:.1f} GiB "
        f"({memory / peak:.2f}x of {peak / GIB:.1f})",
    }


@functools.cache
def _parameters(model: str) -> int:
    return machine.matmul_parameters(ModelConfig.from_hf(models.hf_config(model)))


@functools.cache
def _problems(*, tiny: bool) -> Problems:
    """Random tokens in the proportions of the published self-edits."""
    largest = max(SIZES)
    return synthetic(
        vocab_size=384 if tiny else 49152,
        counts=tuple(2 + i % 3 if tiny else 6 + i % 6 for i in range(16 if tiny else 3 * largest)),
        longest=24 if tiny else 160,
        buckets=(12, 24) if tiny else (32, 64, 160),
        question_sets=_GROUP,
        prompt=12 if tiny else 48,
    )
