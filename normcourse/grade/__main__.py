"""Grade submitted notebooks: python -m normcourse.grade SUBMISSIONS --out GRADES"""

import argparse
import os
import sys
import time
from pathlib import Path

DESCRIPTION = "用隐藏测试批改一个文件夹里的 notebook。 Grade a folder of submitted notebooks with the hidden tests."
WARNING = """\
██████████████████████████████████████████████████████████████████████████████████████████████████
██  没有沙箱！提交的代码可以读写、删除你的文件，可以上网，也可以给自己打分。只用来评自己写的 notebook。
██  NO SANDBOX! The submitted code can read, change and delete your files, use the network, and give
██  itself any score. Only for notebooks you have written yourself.
██████████████████████████████████████████████████████████████████████████████████████████████████"""


def main(arguments=None):
    options = parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from .sandbox import NoSandbox, Sandbox  # the sandbox starts while torch is still being imported here

    private = [options.submissions, options.tests, options.out, *filter(None, [options.to_nbgrader])]
    try:
        if options.unsafe_no_sandbox:
            print(WARNING, file=sys.stderr)
        with Sandbox(private, unsafe=options.unsafe_no_sandbox) as sandbox:
            return grade(options, Path(options.out), sandbox)
    except (NoSandbox, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\n已中断；再运行同一条命令就接着评。 Interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


def grade(options, out, sandbox):
    import torch

    from . import gradebook, report
    from .collect import collect
    from .run import Run

    torch.set_num_threads(1)
    run = Run(out, options.tests, options.seed, options.unsafe_no_sandbox)
    submissions = collect(options.submissions, run.exam.exercises, out)
    with Progress(len(submissions)) as progress:
        results = run.grade(submissions, sandbox, options.jobs, progress)
    report.write_all(results, run.exam, out, options.unsafe_no_sandbox)
    if options.to_nbgrader:
        written = gradebook.write_gradebook(results, run.exam, options.to_nbgrader)
        print(f"{options.to_nbgrader}: {written}")
    failed = sum(result["status"] == "failed" for result in results)
    print(f"{len(results)} 份提交，{failed} 份没能评分 · {len(results)} submissions, {failed} not graded")
    print(out / "index.html")
    if options.unsafe_no_sandbox:
        print(WARNING, file=sys.stderr)
    return 0


def parser():
    made = argparse.ArgumentParser(prog="python -m normcourse.grade", description=DESCRIPTION)
    add = made.add_argument
    add("submissions", help="提交的文件夹、zip 或一个 notebook · folder, zip or notebook that was handed in")
    add("--out", required=True, help="结果写到哪里 · folder for the results; an interrupted run goes on there")
    add("--tests", default="solutions/hidden", help="隐藏测试 · folder of the hidden tests (%(default)s)")
    add("--seed", type=int, help="重复一次评分 · repeat a run: its seed stands in grades.json")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="同时评几份 · submissions at a time (%(default)s)")
    add("--to-nbgrader", metavar="GRADEBOOK.DB", help="把分数写进 nbgrader · write the scores into its gradebook, too")
    add(
        "--unsafe-no-sandbox", action="store_true", help="不用沙箱，只评自己写的 · without a sandbox: for your own only"
    )
    return made


class Progress:
    """A bar on the terminal, or a line now and then in a log."""

    def __init__(self, total):
        self.total, self.begun, self.shown = total, time.monotonic(), time.monotonic()

    def __call__(self, done):
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if done < self.total and now - self.shown < (0.1 if terminal else 10):
            return
        self.shown, spent = now, now - self.begun
        left = spent / done * (self.total - done)
        bar = "█" * (30 * done // self.total) + "░" * (30 - 30 * done // self.total)
        start, end = ("\r", " ") if terminal else ("", "\n")
        print(f"{start}{bar} {done}/{self.total}  {spent:.0f} s + {left:.0f} s", end=end, file=sys.stderr, flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if sys.stderr.isatty():
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
