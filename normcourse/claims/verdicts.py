"""The rule: from the values of a claim's evidence to its verdict. See the package for how it goes."""

import math
import re
from dataclasses import dataclass
from importlib import import_module
from statistics import mean, stdev

FEWEST_SEEDS = 3

STUDENT = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}

VERDICTS = {
    "holds": ("成立", "holds"),
    "holds_only": ("有条件地成立", "holds only if …"),
    "false": ("错", "false"),
    "not_settled": ("这次测量定不了", "not settled by this run"),
    "not_measurable": ("不是能测量的说法", "not a measurable claim"),
}


@dataclass(frozen=True)
class Measured:
    """The values of one setting, one per seed, or a single one that nothing random enters (`exact`)."""

    values: tuple
    exact: bool = False
    edge: bool = False

    @property
    def interval(self):
        """Both ends of the 95% interval of the mean over the seeds (Student's t); a value that is exact is both."""
        middle = mean(self.values)
        if self.exact:
            return middle, middle
        if len(self.values) < FEWEST_SEEDS:
            return -math.inf, math.inf
        half = STUDENT[min(len(self.values), max(STUDENT))] * stdev(self.values) / len(self.values) ** 0.5
        return middle - half, middle + half

    def holds(self, low, high):
        """True, False, or None where it is not settled."""
        bottom, top = self.interval
        if self.edge:
            return None
        return True if low <= bottom and top <= high else False if top < low or bottom > high else None


@dataclass(frozen=True)
class Verdict:
    """kind: a key of `VERDICTS`. zh, en: the verdict in one sentence."""

    kind: str
    zh: str
    en: str


def measure(claim):
    """Run the evidence of a claim.

    Returns: {setting: Measured}, in the order of the claim's settings; empty where it is not a measurable claim.
    Raises: ValueError where evidence and entry have different settings.
    """
    if claim.evidence is None:
        return {}
    module = import_module(f"normcourse.chapters.{claim.chapter}.evidence")
    if not hasattr(module, claim.evidence):
        raise ValueError(f"{claim.chapter}/claims.toml, {claim.id}: evidence.py has no function {claim.evidence!r}")
    return tally(claim, getattr(module, claim.evidence)())


def tally(claim, frame):
    """{setting: Measured} from a frame of evidence: columns setting, value and, where something random enters, seed and
    edge. Raises: ValueError where evidence and entry have different settings."""
    groups = dict(list(frame.groupby("setting", sort=False)))
    if missing := sorted(set(claim.settings) - set(groups)):
        raise ValueError(f"{claim.chapter}/claims.toml, {claim.id}: {claim.code} has no setting {missing[0]!r}")
    return {
        name: Measured(
            tuple(groups[name]["value"].tolist()),
            exact="seed" not in frame or bool(groups[name]["seed"].isna().all()),
            edge="edge" in frame and bool(groups[name]["edge"].any()),
        )
        for name in claim.settings
    }


def verdict(claim, measured):
    """The verdict that the claim's rule draws from `measured`, the result of `measure`."""
    if claim.evidence is None:
        return Verdict("not_measurable", "这不是能测量的说法。", "Not a measurable claim.")
    groups = {True: [], False: [], None: []}
    for name, setting in claim.settings.items():
        groups[measured[name].holds(*setting.holds_between)].append(setting)
    holding, failing, unsettled = groups[True], groups[False], groups[None]
    if not (failing or unsettled):
        return Verdict("holds", "成立。", "Holds.")
    if not (holding or unsettled):
        return Verdict("false", "错。", "False.")
    if not (holding or failing):
        return Verdict("not_settled", "这次测量定不了。", "Not settled by this run.")
    zh, en = [], []
    if holding:
        zh.append(f"{'只' if failing else ''}在{listed(holding, 'zh')}时成立")
        en.append(("holds only " if failing else "holds ") + listed(holding, "en"))
    elif failing:
        zh.append(f"在{listed(failing, 'zh')}时是错的")
        en.append("false " + listed(failing, "en"))
    if unsettled:
        zh.append(f"在{listed(unsettled, 'zh')}时，这次测量定不了")
        en.append("not settled by this run " + listed(unsettled, "en"))
    sentence = "; ".join(en)
    spaced = re.sub(r"(?<=[\u4e00-\u9fff])(?=[A-Za-z\d])|(?<=[A-Za-z\d])(?=[\u4e00-\u9fff])", " ", "；".join(zh) + "。")
    return Verdict("holds_only" if holding else "false", spaced, sentence[0].upper() + sentence[1:] + ".")


def listed(settings, language):
    return {"zh": "，或", "en": ", or "}[language].join(getattr(setting, language) for setting in settings)
