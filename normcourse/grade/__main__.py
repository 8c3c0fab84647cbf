"""Grade submitted notebooks: python -m normcourse.grade SUBMISSIONS --out GRADES"""

import argparse
import os
import sys
import time
from pathlib import Path

DESCRIPTION = "用隐藏测试批改一个文件夹里的 notebook。 Grade a folder of submitted notebooks with the hidden tests."


def main(arguments=None):
    options = parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from .sandbox import NoSandbox, Sandbox  # the sandbox starts while torch is still being imported here

    out = Path(options.out)
    try:
        with Sandbox([options.submissions, options.tests, out], unsafe=options.unsafe_no_sandbox) as sandbox:
            return run(options, out, sandbox)
    except (NoSandbox, ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\n已中断；同一条命令接着评。 Interrupted; the same command continues.", file=sys.stderr)
        return 130


def run(options, out, sandbox):
    import torch

    from . import report
    from .collect import collect
    from .judge import Run

    torch.set_num_threads(1)
    begun = Run(out, options.tests, options.seed)
    submissions = collect(options.submissions, begun.exam.exercises)
    with Progress(len(submissions)) as progress:
        results = begun.grade(submissions, sandbox, options.jobs, progress)
    report.write_all(results, begun.exam, out, options.unsafe_no_sandbox)
    failed = sum(result["status"] == "failed" for result in results)
    print(f"{len(results)} 份提交，{failed} 份没能评分 · {len(results)} submissions, {failed} not graded")
    print(out / "index.html")
    return 0


def parser():
    made = argparse.ArgumentParser(prog="python -m normcourse.grade", description=DESCRIPTION)
    made.add_argument("submissions", help="提交的 notebook 所在的文件夹或 zip · folder or zip of submissions")
    made.add_argument("--out", required=True, help="结果写到哪里 · folder for the results")
    made.add_argument("--tests", default="solutions/hidden", help="隐藏测试 · folder of the hidden tests (%(default)s)")
    made.add_argument("--seed", type=int, help="重复一次评分 · repeat a run: its seed stands in grades.json")
    made.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="同时评几份 · submissions at a time (%(default)s)"
    )
    made.add_argument(
        "--unsafe-no-sandbox",
        action="store_true",
        help="不用沙箱，只能评自己写的 · no sandbox: only for your own files",
    )
    return made


class Progress:
    """A bar on the terminal, or a line now and then in a log."""

    def __init__(self, total):
        self.total, self.begun, self.shown = total, time.monotonic(), 0.0

    def __call__(self, done):
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if done < self.total and now - self.shown < (0.1 if terminal else 10):
            return
        self.shown, spent = now, now - self.begun
        left = spent / done * (self.total - done)
        bar = "█" * (30 * done // self.total) + "░" * (30 - 30 * done // self.total)
        print(
            f"\r{bar} {done}/{self.total}  {spent:.0f} s, {left:.0f} s left ",
            end="" if terminal else "\n",
            file=sys.stderr,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if sys.stderr.isatty():
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
