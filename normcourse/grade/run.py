"""A run of the judge over many submissions: in parallel, interrupted and continued."""

import concurrent.futures
import contextlib
import json
import os
import secrets
from pathlib import Path

from .judge import Exam, fingerprint, grade
from .notebook import Refused
from .sandbox import NoSandbox


class Run:
    """A run of the judge over many submissions, kept in a folder so that it can be interrupted and continued.

    Args:
        out: the folder; `out`/results holds one file per graded submission.
        tests: folder of the hidden tests.
        seed: to repeat a run; by default the one of the run that is continued, else a random one.
        unsafe: whether it runs without a sandbox; one run is not continued as the other.
        learners: for variants, as `variants.read_learners` gives them. Where the list says something else of who handed
            in a file, that file is graded again.

    Raises: ValueError where `out` holds a run with another seed or other tests.
    """

    def __init__(self, out, tests, seed=None, unsafe=False, learners=None):
        self.results = Path(out) / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        state = Path(out) / "run.json"
        wanted = {"seed": seed, "tests": fingerprint(tests), "unsafe": unsafe}
        begun = _begin(state, wanted | {"seed": secrets.randbits(48) if seed is None else seed})
        words = {"seed": "another seed", "tests": "other hidden tests", "unsafe": "another setting of the sandbox"}
        for key, value in begun.items():
            if wanted[key] not in (value, None):
                raise ValueError(f"{out} holds a run with {words[key]}; give another folder with --out")
        self.seed = begun["seed"]
        self.exam = Exam(tests, self.seed, learners)

    def grade(self, submissions, sandbox, jobs=1, progress=lambda done: None):
        """The results of all submissions, in their order; those that are there already are not graded again.

        What a clock or the death of a process had a part in is graded a second time, alone: it may have been the fault
        of what ran beside it.
        """
        done, again = {}, []
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            futures = {
                pool.submit(self._one, submission, sandbox, alone=False): submission for submission in submissions
            }
            try:
                for future in concurrent.futures.as_completed(futures):
                    submission, result = futures.pop(future), future.result()
                    if result is None:
                        again.append(submission)
                    else:
                        done[submission.path] = result
                        progress(len(done))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                sandbox.stop()  # what is being graded is graded when the run goes on
                raise
        for submission in sorted(again, key=lambda submission: submission.path):
            done[submission.path] = self._one(submission, sandbox, alone=True)
            progress(len(done))
        return [done[submission.path] for submission in submissions]

    def _one(self, submission, sandbox, alone):
        """The result of one submission, from its file if there is one; None if it is to be graded again alone."""
        listed = f"{self.exam.learner(submission)}\0" if self.exam.learners else ""
        digest, content, reason = submission.digest(listed.encode())
        file = self.results / f"{digest}.json"
        whose = {"learner": submission.learner, "id": submission.id, "system": submission.system}
        if file.exists():  # whose it is may be clearer now: it depends on what lies beside it
            return json.loads(file.read_text(encoding="utf-8")) | whose | {"when": submission.when}
        result = {"submission": submission.path, **whose, "status": "graded", "report": f"{digest[:16]}.html"}
        try:
            if reason:
                raise reason
            graded, disturbed = grade(submission, content, self.exam, sandbox)
            if disturbed and not alone:
                return None
            result |= graded | {"alone": alone}
        except Refused as refused:
            if not (reason or alone):
                return None
            result |= {"status": "failed", "reason": [refused.zh, refused.en], "points": 0.0, "tasks": {}, "essays": {}}
        except NoSandbox:
            raise
        except Exception as error:  # one bad file never stops the batch
            words = f"{type(error).__name__}: {error}"[:300]
            zh, en = f"评分程序出错：{words}", f"The judge failed on it: {words}"
            result |= {"status": "failed", "reason": [zh, en], "points": 0.0, "tasks": {}, "essays": {}}
        write(file, json.dumps(result, ensure_ascii=False, indent=1))
        return json.loads(json.dumps(result)) | {"when": submission.when}


def accept(results, paths):
    """Give the open points of these submissions. Raises: ValueError for a path that none has."""
    if unknown := set(paths) - {result["submission"] for result in results}:
        raise ValueError(f"--accept: 没有这份提交 · no such submission: {', '.join(sorted(unknown))}")
    for result in results:
        for task in result["tasks"].values() if result["submission"] in paths else ():
            if "open" in task:
                task["points"], task["failed"] = round(task["points"] + task.pop("open"), 2), {}
        if result["status"] == "graded":
            result["points"] = round(sum(task["points"] for task in result["tasks"].values()), 2)


def _begin(state, wanted):
    """What the file `state` says a run was begun with. If there is none it is made with `wanted`, by one judge only
    where several begin at once."""
    if not state.exists():
        mine = state.with_name(f".{state.name}.{secrets.token_hex(4)}")
        mine.write_text(json.dumps(wanted))
        with contextlib.suppress(FileExistsError):
            os.link(mine, state)
        mine.unlink()
    return json.loads(state.read_text())


def write(path, content):
    """Write a file whole or not at all. content: text or bytes."""
    content = content.encode("utf-8", "replace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
