"""What Moodle, Canvas and Blackboard read: their own file, filled in; where none was given, one made from names alone.

What they do with a row was read in their sources and manuals:

Moodle   mod/assign/feedback/offline: importgradeslib.php wants the columns Identifier, Grade and Last modified (grade),
         in the language of the page; locallib.php (`process_import_grades`) passes over a row, silently, whose grade is
         empty or above the assignment's maximum, or whose record was changed a minute or more after "Last modified";
         an empty date is 1970. The number of a group download is the group's, that of the worksheet the participant's.
Canvas   lib/gradebook_importer.rb: a column is an existing assignment if it is its exact title or ends in its number
         in brackets, else a new one; the row "Points Possible" sets what the assignment is worth; the ID is believed
         before the name; a blank where there is a score takes it away. Who has no row keeps everything.
Blackboard  "Uploading or Downloading Grade Center Items for Working Offline" (library.blackboard.com): rows are known
         by the user name, columns by the number behind |; one without becomes a new text column of 0 points.
"""

import csv
import io
import re
import time
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .layouts import usernames
from .scores import best, shown, worth

WORKSHEET = "Identifier", "Grade", "Last modified (grade)"


@dataclass
class Sheet:
    """A file that a system exported, to be filled in. system: whose it is."""

    name: str
    system: str
    rows: list
    delimiter: str
    encoding: str


@dataclass
class Table:
    """A file to be imported. quoted: whether all cells are in quotation marks."""

    rows: list
    delimiter: str = ","
    encoding: str = "utf-8-sig"
    quoted: bool = False


def read_sheet(path):
    """The `Sheet` in a file. Raises: ValueError where it is none of the three."""
    path, content = Path(path), b""
    if path.is_file() and path.stat().st_size < 20 << 20:
        content = path.read_bytes()
    marked = "utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8"
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else (marked, "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
        head = rows[0] if rows else []
        if head[:2] == ["Student", "ID"] or head[:3] == ["LastName", "FirstName", "ID"]:
            return Sheet(path.name, "canvas", rows, delimiter, encoding)
        if "Username" in head:
            return Sheet(path.name, "blackboard", rows, delimiter, encoding)
        if set(WORKSHEET) <= set(head):
            return Sheet(path.name, "moodle", rows, delimiter, encoding)
    raise ValueError(
        f"--fill {path}：要 Moodle 的评分工作表、Canvas 或 Blackboard 导出的成绩册（CSV）；表头认不出来。\n"
        f"--fill {path}: expected Moodle's grading worksheet or a gradebook exported by Canvas or Blackboard (CSV); "
        "its first line is none of these. Set the page to English and download it again."
    )


def imports(results, exam, sheets=(), titles=None):
    """What the systems are to import, and what to know of it.

    Args:
        results: as `Run.grade` returns them. sheets: `Sheet`s. titles: {exercise: the title of its column}.

    Returns: ({name of the file: Table}, [(中文, English), …]). The exercise that most handed in has the plain name, so
    that a notebook of another renames nothing.
    """
    files, notes, used = {}, [], []
    for system in ("moodle", "canvas", "blackboard"):
        own = [result for result in results if result["system"] == system]
        counts = Counter(result["exercise"] for many in best(own).values() for e, result in many.items() if e)
        ranked = counts.most_common()
        main = ranked[0][0] if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]) else None
        for exercise in sorted(counts):
            name = f"{system}.csv" if exercise == main else f"{system}_{exercise}.csv"
            fitting = [sheet for sheet in sheets if sheet.system == system]
            if system == "moodle":  # a worksheet belongs to one assignment, a gradebook to all
                fitting = [sheet for sheet in fitting if _assignment(sheet, own) in (exercise, None)]
            people = {who: many[exercise] for who, many in best(own).items() if exercise in many}
            failed = [who for who, many in best(own).items() if not set(many) - {None}]
            told = [(f"{name}：{zh}", f"{name}: {en}") for zh, en in BEFORE[system](exercise, exam, bool(fitting))]
            if fitting:
                used += fitting
                table, said = FILL[system](fitting[0], people, exercise, exam, (titles or {}).get(exercise))
                told += [(f"{name}：{zh}", f"{name}: {en}") for zh, en in said]
            else:
                table = PLAIN[system](people, failed, exercise, exam, (titles or {}).get(exercise))
            if table is not None:
                files[name] = table
            notes += told
    for sheet in sheets:
        if sheet not in used:
            zh = f"{sheet.name}：这些提交里没有一份来自 {sheet.system.capitalize()}，没有填。"
            notes.append(
                (zh, f"{sheet.name}: none of the submissions comes from {sheet.system.capitalize()}; not filled.")
            )
    return files, notes


# Files from names alone -----------------------------------------------------------------------------------------------


def _moodle(people, failed, exercise, exam, title):
    rows = [["Identifier", "Full name", "Grade", "Maximum grade", "Last modified (grade)"]]
    most = shown(worth(exam, exercise)[0])
    when = max((result.get("when", 0) for result in people.values()), default=0)
    date = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(when)) if when else ""
    for (learner, number), result in people.items():
        if number:
            rows.append([f"Participant {number}", learner, shown(result["points"]), most, date])
    rows += [[f"Participant {number}", learner, "", most, date] for learner, number in failed if number]
    return Table(rows)


def _canvas(people, failed, exercise, exam, title):
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title or exercise]]
    rows.append(["    Points Possible", "", "", "", "", shown(worth(exam, exercise)[0])])
    for (learner, number), result in people.items():
        if number:
            rows.append([learner, number, "", "", "", shown(result["points"])])
    return Table(rows)


def _blackboard(people, failed, exercise, exam, title):
    rows = [["Last Name", "First Name", "Username", title or exercise]]
    rows += [["", "", number, shown(result["points"])] for (_, number), result in people.items() if number]
    return Table(rows, quoted=True)


def _before_moodle(exercise, exam, filled):
    of = shown(worth(exam, exercise)[0])
    if filled:
        return []
    zh = (
        f"在 Moodle 里把作业的最高分设为至少 {of}，更高的会被跳过；记录若在「Last modified」之后改过也会被跳过，"
        "除非勾选「更新 Moodle 中更新的记录」；小组作业文件名里的号码是小组的，不是人的，不要导入。"
        "更稳妥的是下载评分工作表，用 --fill 填它。"
    )
    return [(zh, (
        f"set the assignment's maximum to {of} or more, as Moodle passes over higher marks; it passes over records "
        "changed after “Last modified”, too, unless you tick the box that updates them; of a group assignment the "
        "numbers are those of groups, not of people: do not import it. Better download the grading worksheet and give "
        "it with --fill."
    ))]  # fmt: skip


def _before_canvas(exercise, exam, filled):
    if filled:
        return []
    of = shown(worth(exam, exercise)[0])
    return [(
        f"列名要与 Canvas 里作业的名称完全一样（--column {exercise}=名称），否则会新建一个作业；"
        f"导入还会把满分改成 {of}。匿名提交没有学号，不在里面。更稳妥的是导出成绩册，用 --fill 填它。",
        f"the column must have the assignment's exact title (--column {exercise}=TITLE), or Canvas makes a new one; "
        f"its points become {of}. Anonymous submissions have no ID and are not in it. Better export the gradebook and "
        "give it with --fill.",
    )]  # fmt: skip


def _before_blackboard(exercise, exam, filled):
    if filled:
        return []
    return [(
        "Blackboard 会为它新建一个文本列，满分 0；更稳妥的是下载成绩中心的文件，用 --fill 填它。",
        "Blackboard makes a new text column of 0 points of it; better download from the Grade Center (Work Offline) "
        "and give that file with --fill.",
    )]  # fmt: skip


# Their own files, filled ----------------------------------------------------------------------------------------------


def _fill_moodle(sheet, people, exercise, exam, title):
    head, *lines = sheet.rows
    who, grade, modified = map(head.index, WORKSHEET)
    most, names, group = (head.index(n) if n in head else None for n in ("Maximum grade", "Full name", "Group"))
    by_number = {number: (learner, result) for (learner, number), result in people.items() if number}
    by_group = {_plain(learner): result for (learner, _), result in people.items()}
    rows, entered, said = [], set(), Said()
    keep = [i for i in (who, names, grade, most, modified) if i is not None]
    for line in lines:
        line = line + [""] * (len(head) - len(line))
        anyone, number = re.fullmatch(r"(.*?)(\d*)", line[who].strip()).groups()
        learner, result = by_number.get(number, (None, None))
        named = {
            _plain(anyone),
            _plain(line[names]) if names is not None else None,
        }  # where names are hidden, the first
        if result is None or _plain(learner) not in named:
            result = by_group.get(_plain(line[group])) if group is not None and line[group] else None
        if result is None:
            continue
        entered.add(id(result))
        if most is not None and (limit := _number(line[most])) is not None and result["points"] > limit:
            said.above.append(result["learner"])
            continue
        said.over(result, line[grade])
        line[grade] = shown(result["points"])
        rows.append([line[i] for i in keep])
    said.missing = [result["learner"] for result in people.values() if id(result) not in entered]
    return Table([[head[i] for i in keep], *rows], sheet.delimiter, sheet.encoding), said.words()


def _fill_canvas(sheet, people, exercise, exam, title):
    head, *lines = sheet.rows
    number_at = head.index("ID")
    last = head.index("Section") if "Section" in head else number_at
    at = _titled(head, range(last + 1, len(head)), exercise, title, r"\s\(\d+\)$")
    if at is None:
        return None, [_no_column(exercise, sheet)]
    rows, entered, said = [], set(), Said()
    by_number = {number: (learner, result) for (learner, number), result in people.items() if number}
    for line in lines:
        line = line + [""] * (len(head) - len(line))
        if "Points Possible" in line[0]:
            said.worth(line[at], worth(exam, exercise)[0])
            rows.append([*line[: last + 1], line[at]])
            continue
        learner, result = by_number.get(line[number_at].strip(), (None, None))
        if result is None or sorted(_plain("".join(line[:number_at]))) != sorted(_plain(learner)):
            continue  # of another course, or a group: that a number is there does not make it this person's
        entered.add(id(result))
        said.over(result, line[at])
        rows.append([*line[: last + 1], shown(result["points"])])
    said.missing = [result["learner"] for result in people.values() if id(result) not in entered]
    return Table([[*head[: last + 1], head[at]], *rows], sheet.delimiter, sheet.encoding), said.words()


def _fill_blackboard(sheet, people, exercise, exam, title):
    head, *lines = sheet.rows
    user = head.index("Username")
    at = _titled(head, range(user + 1, len(head)), exercise, title, r"\s*\[[^\]]*\]\s*\|\d+$")
    if at is None:
        return None, [_no_column(exercise, sheet)]
    known = {line[user].casefold(): line for line in lines if len(line) == len(head)}
    rows, said = [], Said()
    if points := re.search(r"Total Pts: (?:up to )?([\d.]+)", head[at]):
        said.worth(points[1], worth(exam, exercise)[0])
    keep = [*range(user + 1), at]
    for result in people.values():
        fitting = [name.casefold() for name in usernames(result["submission"]) if name.casefold() in known]
        if len(fitting) != 1:  # a group, another course, or two that the name may mean
            said.missing.append(result["learner"])
            continue
        line = [*known[fitting[0]]]
        said.over(result, line[at])
        line[at] = shown(result["points"])
        rows.append([line[i] for i in keep])
    return Table([[head[i] for i in keep], *rows], sheet.delimiter, sheet.encoding, quoted=True), said.words()


class Said:
    """What to know of a filled file: who is not in it, and what it changes."""

    def __init__(self):
        self.missing, self.above, self.changes, self.other = [], [], [], []

    def over(self, result, old):
        """A mark that stands there already."""
        known = _number(old)
        if known is not None and abs(known - result["points"]) > 0.005:
            self.changes.append(f"{result['learner']} {old.strip()} → {shown(result['points'])}")

    def worth(self, there, here):
        if (known := _number(there)) is not None and known != here:
            zh = f"那里的满分是 {shown(known)}，这个练习是 {shown(here)} 分；分数没有换算。"
            self.other = [(zh, f"worth {shown(known)} points there, {shown(here)} here; marks are not converted.")]

    def words(self):
        found = list(self.other)
        for listed, zh, en in (
            (self.missing, "不在其中，请自己登记", "not in it, to be entered by hand"),
            (self.above, "分数高于那里的最高分，没有填", "above the maximum there, not filled in"),
            (self.changes, "会改掉已有的分数", "changes marks that are there"),
        ):
            if listed:
                found.append((f"{zh}：{'、'.join(listed)}。", f"{en}: {', '.join(listed)}."))
        return found


BEFORE = {"moodle": _before_moodle, "canvas": _before_canvas, "blackboard": _before_blackboard}
PLAIN = {"moodle": _moodle, "canvas": _canvas, "blackboard": _blackboard}
FILL = {"moodle": _fill_moodle, "canvas": _fill_canvas, "blackboard": _fill_blackboard}


def _assignment(sheet, results):
    """The exercise whose participants' numbers a Moodle worksheet holds; None where it holds none."""
    numbers = {found[0] for line in sheet.rows[1:] if (found := re.search(r"\d+$", line[0]))}
    counts = Counter(r["exercise"] for r in results if r.get("exercise") and r["id"] in numbers)
    return counts.most_common(1)[0][0] if counts else None


def _no_column(exercise, sheet):
    return (
        f"{sheet.name} 里找不到 {exercise} 的列，没有写；用 --column {exercise}=名称 说明是哪一列。",
        f"no column of {sheet.name} is that of {exercise}, so nothing was written; say which with "
        f"--column {exercise}=TITLE.",
    )


def _titled(head, columns, exercise, title, number):
    """The column with this title, with or without its number; where none was given, the one that names the exercise."""
    if title is not None:
        found = [i for i in columns if title in (head[i], re.sub(number, "", head[i]))]
    else:
        found = [i for i in columns if _plain(exercise) in _plain(re.sub(number, "", head[i]))]
    return found[0] if len(found) == 1 else None


def _plain(name):
    """A name without what downloads leave out of it: case, spaces, signs."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalnum())


def _number(text):
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return None
