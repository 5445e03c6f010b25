"""A whole self-edit evaluation: fine-tune, answer the questions, believe the gold answers."""

from benchmarks import contest
from benchmarks.bench import NO_TORCH, Bench

GROUP = "self-edit evaluation"
_EPOCHS = 10  # of the paper's recipe
_BELIEF_TOLERANCE = 0.05  # nats, of log-likelihoods summed over an answer


def measure(bench: Bench) -> None:
    """K self-edits with five questions each: one epoch measured, ten extrapolated."""
    problems = bench.problems
    group = problems.group(bench.size)
    questions = problems.questions_of(len(group))
    settings = {"new_tokens": 6 if bench.tiny else 24, "stop_ids": problems.stop_ids}

    def evaluate():
        return bench.ours.call("evaluate", group, problems.buckets, questions, epochs=1, **settings)

    short = [[min(edit, key=len)] for edit in group]  # compiles; the group itself has been trained
    bench.ours.call("evaluate", short, problems.buckets, questions, epochs=1, **settings)
    contestants = {"ours": evaluate}
    if bench.peft:
        steps = bench.ours.call("order", group, problems.buckets, 1)["steps"]
        some = questions[: -(-len(group) // 2)]  # the shorter half tells its rate
        contestants["peft"] = lambda: bench.peft.call("evaluate", steps, some, **settings)
    # The inner update, which is most of it, has rows of its own with more repeats.
    found = contest.alternate(contestants, 1)
    names = {"ours": f"ours, K={len(group)}", "peft": "PEFT one after another"}
    hourly = {}
    for key, name in names.items():
        if key not in found:
            bench.report.row(GROUP, name, None, "", note=NO_TORCH)
            continue
        count = len(group) if key == "ours" else len(some)
        hourly[key] = _rates(bench, name, found[key], count)
    if "peft" not in found:
        return
    for epochs, target in ((1, bench.target(1.6)), (_EPOCHS, None)):
        bench.report.row(
            GROUP,
            f"ours over PEFT, {epochs} epoch{'s' if epochs > 1 else ''}",
            hourly["ours"][epochs] / hourly["peft"][epochs],
            "x",
            target=target,
            note="extrapolated from the measured parts" if epochs > 1 else "",
        )
    if bench.spec.comparable:
        _agreement(bench, found["ours"][0], found["peft"][0])


def _seconds(record, epochs: int) -> float:
    """Seconds with so many epochs, from the parts of a run with one."""
    return epochs * record["update_seconds"] + record["answer_seconds"] + record["belief_seconds"]


def _rates(bench: Bench, name: str, records, count: int) -> dict[int, float]:
    """Self-edits an hour with 1 epoch and with 10, by the number of epochs."""
    hourly = {}
    parts = {
        key: contest.times(records, key).median
        for key in ("update_seconds", "answer_seconds", "belief_seconds")
    }
    note = (
        f"update {parts['update_seconds']:.3g} s, answers {parts['answer_seconds']:.3g} s, "
        f"log-likelihoods {parts['belief_seconds']:.3g} s"
    )
    peak = max(record["peak_bytes"] for record in records)
    for epochs in (1, _EPOCHS):
        seconds = contest.summary([_seconds(record, epochs) for record in records])
        hourly[epochs] = 3600 * count / seconds.median
        bench.report.row(
            GROUP,
            f"{name}, {epochs} epoch{'s' if epochs > 1 else ''}, {count} self-edits",
            hourly[epochs],
            "self-edits/h",
            seconds=seconds,
            note="extrapolated: 10 x update + rest" if epochs > 1 else note,
            details={**parts, "peak_bytes": peak, "extrapolated": epochs > 1},
        )
    return hourly


def _agreement(bench: Bench, ours, theirs) -> None:
    """Both sides believe the same after training; most answers are the same tokens."""
    count = len(theirs["answers"])  # of the first candidates, in the same order
    beliefs = zip(ours["log_likelihoods"][:count], theirs["log_likelihoods"], strict=True)
    gaps = [abs(a - b) for a, b in beliefs]
    same = [a == b for a, b in zip(ours["answers"][:count], theirs["answers"], strict=True)]
    bench.report.check(
        GROUP,
        "gold log-likelihoods equal PEFT's",
        max(gaps) <= _BELIEF_TOLERANCE,
        largest_difference=max(gaps),
        same_answers=sum(same) / len(same),
    )
