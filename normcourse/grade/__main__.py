"""Grade submitted notebooks: python -m normcourse.grade SUBMISSIONS --out GRADES"""

import argparse
import importlib.util
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

    private = [options.submissions, options.tests, options.out, *options.fill]
    private += filter(None, [options.to_nbgrader, options.variants])
    if wrong := wrong_with(options):
        print(*wrong, sep="\n", file=sys.stderr)
        return 2
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


def wrong_with(options):
    """What cannot do among the arguments, found before anything starts or is written: (中文, English), or None."""
    from .collect import collect
    from .hidden import NO_TESTS, tests_in

    given, out, tests = Path(options.submissions), Path(options.out), Path(options.tests)
    if not given.exists():
        return (
            f"没有 {given}：这里要给交上来的文件夹、zip 或 notebook；检查一下路径。",
            f"There is no {given}: expected a folder, zip or notebook that was handed in; check the path.",
        )
    if given.is_file() and given.suffix.lower() not in (".zip", ".ipynb"):
        return (
            f"{given} 既不是 zip 也不是 notebook（.ipynb）；给一个这样的文件，或者装着它们的文件夹。",
            f"{given} is neither a zip nor a notebook (.ipynb); give one of these, or a folder of them.",
        )
    found = collect(given, out=out)
    if not found or (given.suffix.lower() == ".zip" and found[0].path == given.name):  # or it names what is inside
        return (
            f"{given} 里找不到交上来的东西：它是空的，坏了，或者太大；给一个装着 notebook 的文件夹或 zip。",
            f"No submissions are found in {given}: empty, broken or too large; give a folder or zip of notebooks.",
        )
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir():
        return (
            f"--out {out}：{above} 是文件，结果要写进文件夹；换一个名字。",
            f"--out {out}: {above} is a file, but the results need a folder; give another name.",
        )
    if not tests_in(tests):
        return tuple(words.format(f"--tests {tests}") for words in NO_TESTS)
    if options.variants:
        from .variants import read_learners

        try:
            read_learners(options.variants)
        except ValueError as error:
            return str(error).splitlines()
    return options.to_nbgrader and wrong_with_gradebook(Path(options.to_nbgrader), out)


def wrong_with_gradebook(path, out):
    if path.is_dir() or not (path.parent.is_dir() or path.parent.resolve() == out.resolve()):
        return (
            f"--to-nbgrader {path}：这里建不了 gradebook；给一个文件名，它所在的文件夹要先有，例如 gradebook.db。",
            f"--to-nbgrader {path}: cannot be made; give a file in a folder that is there, such as gradebook.db.",
        )
    if path.exists() and path.read_bytes()[:15] not in (b"", b"SQLite format 3"):
        return (
            f"--to-nbgrader {path}：这个文件不是 gradebook；给 nbgrader 的 gradebook.db，或者换一个新名字。",
            f"--to-nbgrader {path}: this file is no gradebook; give nbgrader's gradebook.db, or a new name.",
        )
    if importlib.util.find_spec("nbgrader") is None:
        return (
            "--to-nbgrader 要用 nbgrader，但没有装；先运行 pip install nbgrader。",
            "--to-nbgrader needs nbgrader, which is not installed; run pip install nbgrader first.",
        )
    return None


def grade(options, out, sandbox):
    import torch

    from . import gradebook, lms, report
    from .collect import collect
    from .run import Run, accept
    from .variants import read_learners

    torch.set_num_threads(1)
    sheets, columns = [lms.read_sheet(path) for path in options.fill], dict(options.column)
    learners = read_learners(options.variants) if options.variants else None
    run = Run(out, options.tests, options.seed, options.unsafe_no_sandbox, learners)
    submissions = collect(options.submissions, run.exam.exercises, out)
    with Progress(len(submissions)) as progress:
        results = run.grade(submissions, sandbox, options.jobs, progress)
    accept(results, options.accept)
    report.write_all(results, run.exam, out, options.unsafe_no_sandbox, sheets, columns)
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
    made = argparse.ArgumentParser(prog="python -m normcourse grade", description=DESCRIPTION)
    add = made.add_argument
    add("submissions", help="提交的文件夹、zip 或一个 notebook · folder, zip or notebook that was handed in")
    add("--out", required=True, help="结果写到哪里 · folder for the results; an interrupted run goes on there")
    add("--tests", default="solutions", help="隐藏测试 · folder of the hidden tests (%(default)s)")
    add("--seed", type=int, help="重复一次评分 · repeat a run: its seed stands in grades.json")
    add(
        "--jobs",
        type=at_least_one,
        default=(os.cpu_count() or 1) + 1,  # while one waits for the judge, another computes
        help="同时评几份 · submissions at a time (%(default)s)",
    )
    add(
        *("--accept", "-a"),
        metavar="SUBMISSION",
        action="append",
        default=[],
        help="待定的分给这份提交 · give this submission its open points (its path, as in grades.csv)",
    )
    words = "填好系统导出的评分工作表或成绩册 · fill in this worksheet or gradebook that the system exported"
    add("--fill", metavar="FILE", action="append", default=[], help=words)
    words = "练习在系统里的名称 · what the assignment is called there"
    add("--column", metavar="EXERCISE=TITLE", action="append", type=titled, default=[], help=words)
    words = "各人常数不同时的学生名单 · list of the learners, where each has constants of their own"
    add("--variants", metavar="FILE", help=words)
    add("--to-nbgrader", metavar="GRADEBOOK.DB", help="把分数写进 nbgrader · write the scores into its gradebook, too")
    add(
        "--unsafe-no-sandbox", action="store_true", help="不用沙箱，只评自己写的 · without a sandbox: for your own only"
    )
    return made


def at_least_one(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}：要一个至少为 1 的整数 · {text}: expected a whole number, at least 1")
    return int(text)


def titled(text):
    exercise, equals, title = text.partition("=")
    if not (equals and exercise and title):
        raise argparse.ArgumentTypeError(f"{text}：要 练习=名称 · {text}: expected EXERCISE=TITLE")
    return exercise, title


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


def run(arguments=None):
    """`main`, and the end of the process: all is written, and taking torch down would take longer than grading ten
    submissions."""
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
