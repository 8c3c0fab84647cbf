"""The docket: all claims measured, with their verdicts, as two tidy tables."""

import contextlib
import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from statistics import mean

import torch

from ..chapters import chapters
from ..train import Progress
from .cards import condition, number
from .ledger import claims
from .verdicts import measure, verdict

WORTH_A_PROCESS = 8  # claims: for fewer, starting one takes longer than measuring


class EvidenceFailed(RuntimeError):
    """The evidence of a claim raised an error."""


def hear(chosen=None, jobs=None):
    """Measure claims one by one, in any number of processes; those that measure time alone and first.

    Args: chosen: `Claim`s, all of the ledger without. jobs: processes; by default two, for few claims this one alone.
    Yields: (claim, {setting: Measured}), in the order of `chosen` among those measured alike.
    Raises: EvidenceFailed naming the claim.
    """
    chosen = list(claims().values() if chosen is None else chosen)
    timed, others = [c for c in chosen if c.timed], [c for c in chosen if not c.timed]
    jobs = jobs or (min(2, os.cpu_count() or 1) if len(others) >= WORTH_A_PROCESS else 1)
    for claim in timed if jobs > 1 else chosen:
        yield claim, _heard(claim)
    if jobs > 1:  # spawned: a process with threads is not to be copied
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = [pool.submit(_heard, claim) for claim in others]
            try:
                for claim, future in zip(others, futures):
                    yield claim, future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _heard(claim):
    try:
        return measure(claim)
    except Exception as error:
        kind = f"{type(error).__name__}: {error}"
        raise EvidenceFailed(
            f"{claim.id} 的测量出错，见 {claim.code}。 The evidence of {claim.id} failed, see {claim.code}. {kind}"
        ) from error


def sit(chosen=None, jobs=None):
    """`hear` with a progress bar, for a notebook. Returns: a `Docket`; of those measured before the stop button, if it
    was pressed."""
    chosen = list(claims().values() if chosen is None else chosen)
    found, bar = {}, Progress(len(chosen))
    with contextlib.closing(bar), contextlib.closing(hear(chosen, jobs)) as heard:
        for claim, measured in heard:
            found[claim.id] = measured
            if bar.stopped(len(found), claim.id):
                break
    return Docket((claim, found[claim.id]) for claim in chosen if claim.id in found)


class Docket:
    """What was measured: pairs of `Claim` and {setting: Measured}.

    claims, settings: the two tables. `verdicts`: {id: Verdict}, drawn by the rule from these numbers.
    """

    def __init__(self, heard):
        self.heard = list(heard)
        self.verdicts = {claim.id: verdict(claim, measured) for claim, measured in self.heard}

    @property
    def claims(self):
        """One row a claim: id, chapter (its number), sources, what is said, verdict, and in how many settings it holds,
        fails, and is not settled."""
        import pandas

        numbers, rows = {chapter.folder.name: chapter.number for chapter in chapters()}, []
        for claim, seen in self.heard:
            held = [seen[name].holds(*setting.holds_between) for name, setting in claim.settings.items()]
            counts = {"holds_in": held.count(True), "fails_in": held.count(False), "open_in": held.count(None)}
            row = {"id": claim.id, "chapter": numbers[claim.chapter], "sources": ", ".join(sources(claim))}
            row |= {f"said_{code}": claim.statement[code] for code in ("zh", "en")}
            rows.append(row | {"verdict": self.verdicts[claim.id].kind, "settings": len(held)} | counts)
        return pandas.DataFrame(rows)

    @property
    def settings(self):
        """One row a setting: id, setting, its words (zh, en), mean and 95% interval (mean, low, high), how many values,
        whether exact, whether at the edge of a grid, the rule (rule_low, rule_high), whether it holds, and number and
        rule as they are printed."""
        import pandas

        rows = []
        for claim, seen in self.heard:
            for name, setting in claim.settings.items():
                of_it = seen[name]
                ends = dict(zip(("low", "high"), of_it.interval))
                rule = dict(zip(("rule_low", "rule_high"), setting.holds_between))
                words = {"zh": setting.zh, "en": setting.en, "number": number(setting, of_it)}
                facts = {"count": len(of_it.values), "exact": of_it.exact, "edge": of_it.edge}
                row = {"id": claim.id, "setting": name, "mean": mean(of_it.values), **ends, **facts, **rule}
                rows.append(row | {"holds": of_it.holds(*setting.holds_between), "rule": condition(setting)} | words)
        return pandas.DataFrame(rows)


def sources(claim):
    """The source texts that make a claim, as ["S0", "S1"]; ["papers"] where it is a paper that does."""
    return sorted(set(re.findall(r"S\d", claim.source))) or ["papers"]
