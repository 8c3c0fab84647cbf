"""`make bench-grade`: the judge beside nbgrader's autograder on the same honest submissions, then many of them.

Arguments: how many for both (50), how many for the judge alone (2000).
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from nbgrader.api import Gradebook

from tests.hostile import HONEST

ROOT = Path(__file__).parents[1]
EXERCISE = "03_layer_normalisation"


def submission():
    """Exercise 03 as it is handed out, with the right answers filled in."""
    notebook = json.loads((ROOT / "exercises" / EXERCISE / f"{EXERCISE}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        first = "".join(cell["source"]).partition("\n")[0]
        if first.startswith("# EXERCISE: "):
            cell["source"] = HONEST[first.removeprefix("# EXERCISE: ")]
    return json.dumps(notebook)


def hand_in(folder, count):
    for i in range(count):
        own = folder / f"learner{i:04}" / EXERCISE
        own.mkdir(parents=True)
        (own / f"{EXERCISE}.ipynb").write_text(submission_text, encoding="utf-8")


def nbgrader(course, count):
    """Seconds that its autograder takes for all submissions, start included."""
    shutil.copy(ROOT / "nbgrader_config.py", course)
    shutil.copytree(ROOT / "solutions", course / "solutions")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = lambda *command: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "nbgrader", *command], cwd=course, env=environment, check=True, capture_output=True
    )
    run("generate_assignment", EXERCISE)
    hand_in(course / "submitted", count)
    start = time.monotonic()
    run("autograde", EXERCISE)
    seconds = time.monotonic() - start
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        scores = {entry.score for entry in book.assignment_submissions(EXERCISE)}
    assert scores == {16.0}, scores
    return seconds


def judge(folder, out, watch=lambda running: None):
    """Seconds that the judge takes for all submissions, start included."""
    start = time.monotonic()
    command = [sys.executable, "-m", "normcourse.grade", folder, "--out", out, "--tests", ROOT / "solutions"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    threading.Thread(target=watch, args=[running], daemon=True).start()
    assert running.wait() == 0
    seconds = time.monotonic() - start
    results = json.loads((out / "grades.json").read_text(encoding="utf-8"))["grades"]
    assert {result["points"] for result in results} == {16.0}
    return seconds


def each(out):
    """Milliseconds per submission while all cores are at work: over any ten that came out one after the other."""
    done = sorted(path.stat().st_mtime_ns for path in (out / "results").glob("*.json"))
    return [(after - before) / 10e6 for before, after in zip(done, done[10:])]


def memory(out, samples):
    """Watches a run: appends (results so far, MB of the judge, MB of the fork server) every half second."""

    def megabytes(pid):
        try:
            status = Path("/proc", str(pid), "status").read_text()
        except OSError:
            return 0
        return int(status.split("VmRSS:")[1].split()[0]) / 1024 if "VmRSS:" in status else 0

    def children(pid):
        return Path("/proc", str(pid), "task", str(pid), "children").read_text().split()

    def watch(running):
        while running.poll() is None:
            try:
                [outer] = children(running.pid)
                server = children(children(outer)[0]) or children(outer)
                done = len([*(out / "results").glob("*.json")])
                samples.append((done, megabytes(running.pid), max(megabytes(pid) for pid in server)))
            except (OSError, ValueError, IndexError):
                pass
            time.sleep(0.5)

    return watch


def main(both=50, many=2000):
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hand_in(folder / "both", both)
        alone = judge(folder / "both", folder / "grades")
        gaps = each(folder / "grades")
        print(
            f"judge:    {both} in {alone:.1f} s, start included; median {statistics.median(gaps):.0f} ms a submission"
        )
        if both:
            (folder / "course").mkdir()
            theirs = nbgrader(folder / "course", both)
            print(f"nbgrader: {both} in {theirs:.1f} s, {1000 * theirs / both:.0f} ms a submission")
            ratios = theirs / alone, 1000 * theirs / both / statistics.median(gaps)
            print(f"ratio:    {ratios[0]:.0f} with the start of the judge, {ratios[1]:.0f} per submission")
        hand_in(folder / "many", many)
        samples = []
        seconds = judge(folder / "many", folder / "many grades", memory(folder / "many grades", samples))
        gaps = each(folder / "many grades")
        print(f"judge:    {many} in {seconds:.0f} s; median {statistics.median(gaps):.0f} ms a submission")
        for share in (0.1, 0.5, 1):
            done, mine, server = min(samples, key=lambda sample: abs(sample[0] - share * many * 0.98))
            print(f"memory:   after {done}: judge {mine:.0f} MB, fork server {server:.0f} MB")


submission_text = submission()

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
