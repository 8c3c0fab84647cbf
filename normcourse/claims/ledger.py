"""The ledger: what stands in the claims.toml of the chapters, read and checked."""

import difflib
import functools
import tomllib
from dataclasses import dataclass, field

from ..chapters import chapters


@dataclass(frozen=True)
class Setting:
    """One setting of a claim's evidence: its words, the values for which the claim holds, how a value is printed."""

    zh: str
    en: str
    holds_between: tuple
    format: str


@dataclass(frozen=True)
class Claim:
    """An entry of a claims.toml, see the package. chapter: the name of its folder. settings: {name: Setting}."""

    id: str
    chapter: str
    statement: dict
    source: str
    conditions: dict
    consequence: dict
    number: dict = field(default_factory=dict)
    evidence: str | None = None
    timed: bool = False
    settings: dict = field(default_factory=dict)

    @property
    def code(self):
        """Where its evidence is: module.function."""
        return f"normcourse.chapters.{self.chapter}.evidence.{self.evidence}"


def claims():
    """{id: Claim} of all chapters that have a claims.toml, in the order of chapters and files.

    Raises: ValueError naming the file and the entry that is wrong.
    """
    return load(tuple(c.folder for c in chapters() if (c.folder / "claims.toml").exists()))


@functools.cache
def load(folders):
    """As `claims`, of these folders."""
    found = {}
    for folder in folders:
        where = f"{folder.name}/claims.toml"
        try:
            entries = tomllib.loads((folder / "claims.toml").read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{where}: {error}") from None
        for name, entry in entries.items():
            if name in found:
                raise ValueError(f"{where}, {name}: {found[name].chapter}/claims.toml has this claim, too")
            found[name] = _claim(name, folder.name, entry, f"{where}, {name}")
    return found


def _claim(name, chapter, entry, where):
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a table [{name}]")
    entry = dict(entry)
    both = ("statement", "conditions", "consequence", *(("number",) if "evidence" in entry else ()))
    for key in both:
        _two_languages(entry.get(key), f"{where}: {key}")
    if "evidence" in entry:
        between, printed = entry.pop("holds_between", None), entry.pop("format", None)
        settings = {}
        for key, given in entry.get("settings", {}).items():
            at = f"{where}.settings.{key}"
            _two_languages({k: v for k, v in given.items() if k in ("zh", "en")}, at)
            if unknown := set(given) - {"zh", "en", "holds_between", "format"}:
                raise ValueError(f"{at}: unknown key {min(unknown)!r}")
            low_high, form = given.get("holds_between", between), given.get("format", printed)
            if not (isinstance(low_high, list) and len(low_high) == 2 and low_high[0] <= low_high[1]):
                raise ValueError(f"{at}: holds_between is {low_high}; expected [low, high]")
            try:
                if form.format(0.5) == form:
                    raise ValueError
            except (AttributeError, ValueError, LookupError):
                raise ValueError(f'{at}: format is {form!r}; expected a format such as "{{:.2f}}"') from None
            settings[key] = Setting(given["zh"], given["en"], tuple(low_high), form)
        if not settings:
            raise ValueError(f"{where}: evidence without settings; expected [{name}.settings.NAME]")
        entry["settings"] = settings
    try:
        claim = Claim(id=name, chapter=chapter, **entry)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None
    if not isinstance(claim.source, str) or not claim.source:
        raise ValueError(f"{where}: source is {claim.source!r}; expected where the claim is made")
    return claim


def _two_languages(words, where):
    if not isinstance(words, dict) or set(words) != {"zh", "en"} or not all(isinstance(w, str) for w in words.values()):
        raise ValueError(f"{where} is {words!r}; expected zh and en")


def find(name):
    """The `Claim` with this id, in capitals or not; ValueError lists the near and the known ones."""
    wanted = str(name).upper()
    if wanted not in claims():
        near, known = difflib.get_close_matches(wanted, claims(), cutoff=0.5), ", ".join(claims())
        zh, en = (f"，相近的有 {'、'.join(near)}", f"; near it: {', '.join(near)}") if near else ("", "")
        raise ValueError(
            f"没有编号为 {name!r} 的说法{zh}；有的是 {known}。 unknown claim {name!r}{en}; known are {known}"
        )
    return claims()[wanted]
