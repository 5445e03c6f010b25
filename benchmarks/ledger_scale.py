"""How long a ledger of many units takes to write, and to open again, and the memory of it.

    python -m benchmarks.ledger_scale --segments=9875 --kib=20 --folder=/tmp

writes that many segments of about that size, opens them in a fresh process as a continued run does
(every checksum is compared), and prints one JSON object.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from seal_jax.runs.ledger import Ledger


def write(folder: str, segments: int, kib: float) -> float:
    """Seconds of writing them."""
    answer = {"question": "q", "text": "x" * 60, "correct": True, "gold_log_likelihood": -12.345678}
    record = {"trials": [answer] * max(1, round(kib * 1024 / len(json.dumps(answer))))}
    start = time.perf_counter()
    with Ledger(folder) as ledger:
        for number in range(segments):
            ledger.append("batch", f"round 1/{number}", record)
    return time.perf_counter() - start


def read(folder: str) -> dict[str, float]:
    """What opening them takes; to be called in a fresh process."""
    before, start = _resident(), time.perf_counter()
    with Ledger(folder) as ledger:
        return {
            "segments": len(ledger),
            "open_seconds": round(time.perf_counter() - start, 2),
            "resident_gib": round((_resident() - before) / 2**30, 3),
        }


def _resident() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(next(row.split()[1] for row in status.splitlines() if "VmRSS" in row))


def main() -> None:
    """Writes here and reads in another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=9875)
    parser.add_argument("--kib", type=float, default=20.0, help="size of a segment")
    parser.add_argument("--folder", default=None, help="where to write; deleted afterwards")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.read:
        print(json.dumps(read(flags.read)))
        return
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        seconds = write(folder, flags.segments, flags.kib)
        size = sum(file.stat().st_size for file in pathlib.Path(folder).iterdir())
        command = [sys.executable, "-m", "benchmarks.ledger_scale", f"--read={folder}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {"write_seconds": round(seconds, 1), "gib": round(size / 2**30, 3)}
    print(json.dumps(found | json.loads(done.stdout)))


if __name__ == "__main__":
    main()
