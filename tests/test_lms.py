"""Moodle, Canvas and Blackboard: what they hand out says whose a notebook is, and what they read says what is true.

The forms of the names and of the files are those of the systems' own sources and manuals, see `normcourse.grade.layouts`
and `normcourse.grade.lms`. `moodle_reads` and `canvas_reads` do with a file what these sources say the systems do.
"""

import csv
import io
import json
import random
import re
from datetime import datetime
from types import SimpleNamespace

import pytest

from normcourse.grade import alike, lms, report, tables
from normcourse.grade.collect import collect
from normcourse.grade.text import harmless
from normcourse.grade.titles import titles_of
from tools.build_exercises import SOLUTIONS

PARTS = {"f": SimpleNamespace(points=4), "g": SimpleNamespace(points=2)}, {"essay": 3}
EXAM = SimpleNamespace(exercises={"03_a": PARTS, "05_b": PARTS}, seed=1)
NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def judged(learner, number, points=6, exercise="03_a", system="moodle", path=None, code=None):
    whose = {"submission": path or f"{learner}/{number}/{exercise}", "learner": learner, "id": number, "system": system}
    whose |= {"when": 1_700_000_000, "report": f"{learner}{number}.html"}
    if exercise is None:
        return whose | {"status": "failed", "reason": ["空的", "empty"], "points": 0.0, "tasks": {}, "essays": {}}
    of = {"f": 4, "g": 2}
    tasks = {n: {"of": o, "points": o, "cases": 5, "passed": 5, "failed": {}, "said": []} for n, o in of.items()}
    graded = {"status": "graded", "exercise": exercise, "points": points, "of": 6, "tasks": tasks, "essays": {}}
    return whose | graded | {"notes": [], "language": "", "code": code or {}}


def sheet(tmp_path, text, encoding="utf-8", name="export.csv"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return lms.read_sheet(tmp_path / name)


def imported(results, sheets=(), titles=None):
    """({file: its lines as lists}, all that was noted, in English)."""
    files, notes = lms.imports(results, EXAM, sheets, titles)
    read = {}
    for name, table in files.items():
        text = tables.csv_file(table.rows, table.delimiter, table.encoding, table.quoted).decode(table.encoding)
        read[name] = list(csv.reader(io.StringIO(text), delimiter=table.delimiter))
    assert all(re.search("[\u4e00-\u9fff]", zh) and re.search("[a-z]{3} [a-z]{2}", en) for zh, en in notes)
    return read, " ".join(en for _, en in notes)


# Layouts --------------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "Moodle, a group's": ("Team Red_77_assignsubmission_file_/x.ipynb", ("Team Red", "77", "moodle")),
    "Moodle, without a group": ("Default group_assignsubmission_file_/x.ipynb", ("Default group", "", "moodle")),
    "Moodle, anonymous": ("Participant_12_assignsubmission_file_/x.ipynb", ("Participant", "12", "moodle")),
    "Moodle 4, folders": ("李 四_99_assignsubmission_file/sub/x.ipynb", ("李 四", "99", "moodle")),
    "Moodle, flat, a name like Canvas": ("A B_9_assignsubmission_file_c_1_2_x.ipynb", ("A B", "9", "moodle")),
    "Canvas, underscores": ("smith_jones_77_4321_x.ipynb", ("smith_jones", "77", "canvas")),
    "Canvas, late": ("smith_jones_LATE_77_4321_x-1.ipynb", ("smith_jones", "77", "canvas")),
    "Canvas, Chinese": ("张三_77_4321_03_a.ipynb", ("张三", "77", "canvas")),
    "Canvas, numbers in the file's name": ("li_77_4321_03_04_x.ipynb", ("li", "77", "canvas")),
    "Canvas, a name like Moodle's": ("li_77_4321_Al_1_assignsubmission_file_.ipynb", ("li", "77", "canvas")),
    "Canvas, anonymous": ("anon_aB3xy_4321_03_a.ipynb", ("anon_aB3xy", "", "canvas")),
    "Canvas, anonymous and late": ("LATE_anon_12345_678_9_x.ipynb", ("anon_12345", "", "canvas")),
    "Blackboard": ("ps1_bitdiddle_attempt_2016-01-30-15-00-00_x.ipynb", ("bitdiddle", "bitdiddle", "blackboard")),
    "Blackboard, a title with underscores": (
        "HW_3_new_li4_attempt_2021-07-21-22-23-44_Canvas_1_2_x.ipynb",
        ("li4", "li4", "blackboard"),
    ),
    "none of them": ("Zhang San/hw_2024_11_final.ipynb", ("Zhang San", "", "")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_name_says_whose_it_is_and_no_more_than_it_holds(layout, tmp_path):
    path, whose = LAYOUTS[layout]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(NOTEBOOK)
    (tmp_path / "Zz.ipynb").write_text(NOTEBOOK)  # a second one, so that the first one's folder is no wrapper
    assert [(s.learner, s.id, s.system) for s in collect(tmp_path) if s.path == path] == [whose]


def test_user_names_of_blackboard_with_underscores_stay_two_people(tmp_path):
    for user in ("li_ming", "wang_ming"):
        (tmp_path / f"ps_1_{user}_attempt_2024-01-02-03-04-05_x.ipynb").write_text(NOTEBOOK)
        (tmp_path / f"ps_1_{user}_attempt_2024-01-02-03-04-05.txt").write_text(f"Name: A B ({user})")
    assert [(s.learner, s.id) for s in collect(tmp_path)] == [("li_ming",) * 2, ("wang_ming",) * 2]


def test_a_text_entry_is_no_submission_of_its_own_beside_a_notebook(tmp_path):
    for path in ("li_77_4321_x.ipynb", "li_77_text.html", "wu_78_link.html"):
        (tmp_path / path).write_text(NOTEBOOK)
    for kind, file in (("file", "x.ipynb"), ("onlinetext", "onlinetext.html")):
        (tmp_path / f"A B_5_assignsubmission_{kind}_").mkdir()
        (tmp_path / f"A B_5_assignsubmission_{kind}_" / file).write_text(NOTEBOOK)
    assert sorted(s.learner for s in collect(tmp_path)) == ["A B", "li", "wu"]


# Moodle ---------------------------------------------------------------------------------------------------------------

WORKSHEET = (
    "Identifier,Full name,Email address,Status,Group,Grade,Maximum grade,Grade can be changed,"
    "Last modified (submission),Last modified (grade),Feedback comments\n"
    'Participant 1,Ann Lee,a@x.org,Submitted,Red,,{most}.00,Yes,-,"Thursday, 26 November 2026, 9:49 PM",\n'
    'Participant 2,Bob Ray,b@x.org,Submitted,Red,3.00,{most}.00,Yes,-,"Friday, 27 November 2026, 8:00 AM","well,\ndone"\n'
    "Participant 3,Cy Wu,c@x.org,No submission,Blue,2.00,{most}.00,Yes,-,-,\n"
)


def moodle_reads(lines, records, most, date=None):
    """{participant: new grade}, as importgradeslib.php and locallib.php of mod/assign/feedback/offline do. records:
    {participant: (grade, when it was changed)}. date: of a cell, in seconds."""
    head, *lines = lines
    who, grade, modified = map(head.index, ("Identifier", "Grade", "Last modified (grade)"))
    entered = {}
    for line in lines:
        number, mark = line[who].removeprefix("Participant "), line[grade]
        if number not in records or mark == "" or float(mark) > most or float(mark) == records[number][0]:
            continue
        if records[number][1] <= date(line[modified]) + 60:
            entered[number] = float(mark)
    return entered


def test_a_filled_worksheet_is_what_moodle_takes_and_keeps_its_dates_and_nothing_of_others(tmp_path):
    text = WORKSHEET.format(most=6)
    results = [judged("Ann Lee", "1", 5.5), judged("Bob Ray", "2", 4), judged("Cy Wu", "3", exercise=None)]
    files, notes = imported(results, [sheet(tmp_path, text)])
    dates = {line["Last modified (grade)"]: int(line["Identifier"][-1]) for line in csv.DictReader(io.StringIO(text))}
    records = {str(n): (grade, n) for n, grade in ((1, -1), (2, 3), (3, 2))}  # changed exactly when the worksheet says
    assert moodle_reads(files["moodle.csv"], records, 6, lambda cell: dates[cell] - 60) == {"1": 5.5, "2": 4}
    assert "Feedback comments" not in files["moodle.csv"][0]  # what is not there is not changed
    assert "changes marks that are there: Bob Ray 3.00 → 4" in notes


def test_a_worksheet_made_from_names_has_a_date_for_existing_records(tmp_path):
    files, notes = imported([judged("Ann Lee", "1"), judged("Eve", "2", exercise=None), judged("Default group", "")])
    when = lambda cell: datetime.strptime(cell, "%Y-%m-%d %H:%M:%S %z").timestamp()  # noqa: E731
    records = {"1": (-1, 1_699_999_000), "2": (5, 0)}
    assert moodle_reads(files["moodle.csv"], records, 6, when) == {"1": 6}
    assert moodle_reads(files["moodle.csv"], {"1": (3, 1_700_001_000)}, 6, when) == {}  # marked by hand since then
    assert "Default group" not in str(files) and "maximum to 6" in notes and "of groups" in notes


def test_marks_above_moodles_maximum_are_listed_not_lost(tmp_path):
    results = [judged("Ann Lee", "1", 5.5), judged("Bob Ray", "2", 4)]
    files, notes = imported(results, [sheet(tmp_path, WORKSHEET.format(most=5))])
    assert [line[0] for line in files["moodle.csv"][1:]] == ["Participant 2"]
    assert "above the maximum there, not filled in: Ann Lee" in notes


def test_the_number_of_a_group_credits_its_members_and_no_participant_of_that_number(tmp_path):
    files, notes = imported([judged("Red", "3", 5)], [sheet(tmp_path, WORKSHEET.format(most=6))])
    assert [(line[0], line[2]) for line in files["moodle.csv"][1:]] == [("Participant 1", "5"), ("Participant 2", "5")]
    files, notes = imported([judged("Green", "3", 5)], [sheet(tmp_path, WORKSHEET.format(most=6))])
    assert len(files["moodle.csv"]) == 1 and "to be entered by hand: Green" in notes


def test_anonymous_worksheets_are_filled_by_number_but_not_with_groups(tmp_path):
    text = "Identifier,Status,Grade,Maximum grade,Last modified (grade)\nParticipant 3,Submitted,,6.00,-\n"
    for learner, points in (("Participant", ["5"]), ("Red", [])):
        files, _ = imported([judged(learner, "3", 5)], [sheet(tmp_path, text)])
        assert [line[1] for line in files["moodle.csv"][1:]] == points


def test_worksheets_of_two_assignments_each_get_their_own_marks(tmp_path):
    text = WORKSHEET.format(most=6)
    one = sheet(tmp_path, text, name="one.csv")
    two = sheet(tmp_path, text.replace("Participant ", "Participant 1"), name="two.csv")
    results = [judged("Ann Lee", "1", 1), judged("Bob Ray", "2", 2), judged("Ann Lee", "11", 4, "05_b")]
    files, _ = imported(results, [two, one])
    assert [line[2] for line in files["moodle.csv"][1:]] == ["1", "2"]
    assert [(line[0], line[2]) for line in files["moodle_05_b.csv"][1:]] == [("Participant 11", "4")]


# Canvas ---------------------------------------------------------------------------------------------------------------

GRADEBOOK = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Week 3: 03_A (901),Other (902),Current Score\n"
    ",,,,,Manual Posting,,\n"
    "    Points Possible,,,,,6.0,10.0,(read only)\n"
    '"Lee, Ann",71,s71,ann,A,2.0,9.0,90\n"Ray, Bob",72,s72,bob,A,,8.0,80\n"Wu, Cy",73,s73,cy,B,5.0,7.0,70\n'
)


def canvas_reads(lines, assignments, scores):
    """({student: {assignment: score}} after the import, new assignments), as lib/gradebook_importer.rb does."""
    head, *lines = lines
    titles = head[head.index("Section") + 1 :]
    number = {}
    for title in titles:
        found = re.fullmatch(r"(.*)\s\((\d+)\)", title)
        by_id = found and found[2] in assignments and found[2]
        number[title] = by_id or next((i for i, known in assignments.items() if known == title), None)
    after = {student: dict(own) for student, own in scores.items()}
    for line in lines:
        row = dict(zip(head, line))
        if "Points Possible" not in row["Student"]:
            for title in titles:
                after[row["ID"]][number[title]] = row[title]
    return after, [title for title in titles if number[title] is None]


@pytest.mark.parametrize("bom", ["utf-8", "utf-8-sig"])
def test_a_filled_gradebook_changes_these_marks_and_nothing_else(tmp_path, bom):
    results = [judged("leeann", "71", 5, system="canvas"), judged("raybob", "72", 4.5, system="canvas")]
    results.append(judged("wucy", "73", exercise=None, system="canvas"))
    files, notes = imported(results, [sheet(tmp_path, GRADEBOOK, bom)])
    scores = {"71": {"901": "2", "902": "9"}, "72": {"902": "8"}, "73": {"901": "5", "902": "7"}}
    after, new = canvas_reads(files["canvas.csv"], {"901": "Week 3: 03_A", "902": "Other"}, scores)
    assert not new and after["73"] == scores["73"]
    assert after["71"] == {"901": "5", "902": "9"} and after["72"] == {"901": "4.5", "902": "8"}
    assert files["canvas.csv"][1][5] == "6.0" and "leeann 2.0 → 5" in notes


def test_a_number_of_canvas_beside_another_name_credits_nobody(tmp_path):
    results = [judged("redteam", "73", 5, system="canvas"), judged("Ann Lee", "71", 5)]  # a group; Moodle's
    files, notes = imported(results, [sheet(tmp_path, GRADEBOOK)])
    assert len(files["canvas.csv"]) == 2 and "to be entered by hand: redteam" in notes
    assert [line[:3] for line in files["moodle.csv"][1:]] == [["Participant 71", "Ann Lee", "5"]]


def test_the_column_of_canvas_is_the_one_that_is_named_or_none(tmp_path):
    results = [judged("leeann", "71", 5, system="canvas")]
    text = GRADEBOOK.replace("Week 3: 03_A", "Layer norm")
    files, notes = imported(results, [sheet(tmp_path, text)])
    assert not files and "--column 03_a=TITLE" in notes
    for title in ("Layer norm", "Layer norm (901)"):
        files, _ = imported(results, [sheet(tmp_path, text)], {"03_a": title})
        assert files["canvas.csv"][0][5:] == ["Layer norm (901)"]
    files, notes = imported(results, (), {"03_a": "Layer norm"})
    assert files["canvas.csv"][0][5:] == ["Layer norm"] and "makes a new one" in notes


# Blackboard -----------------------------------------------------------------------------------------------------------

CENTER = (
    '"Last Name"\t"First Name"\t"Username"\t"Student ID"\t"Lab 03_a [Total Pts: 6 Score] |118854"\t"Sum [Total Pts: 9] |2"\n'
    '"Lee"\t"Ann"\t"ann_lee"\t"s1"\t""\t"3"\n"Ray"\t"Bob"\t"BRay"\t"s2"\t"2"\t"4"\n'
)


def attempt(user, points, **options):
    return judged(user, user, points, system="blackboard", path=f"Lab_3_{user}_attempt_2024-01-02-03-04-05_x.ipynb")


def test_a_file_of_the_grade_center_is_filled_by_user_name_and_keeps_its_column(tmp_path):
    results = [attempt("ann_lee", 5), attempt("bray", 4), attempt("Team 1", 6)]
    files, notes = imported(results, [sheet(tmp_path, CENTER, "utf-16")])
    head, *lines = files["blackboard.csv"]
    assert head == ["Last Name", "First Name", "Username", "Lab 03_a [Total Pts: 6 Score] |118854"]
    assert [line[2:] for line in lines] == [["ann_lee", "5"], ["BRay", "4"]]
    assert "to be entered by hand: Team 1" in notes and "bray 2 → 4" in notes


def test_a_user_name_that_may_be_two_peoples_credits_neither(tmp_path):
    text = CENTER.replace("BRay", "lee")
    files, notes = imported([attempt("ann_lee", 5)], [sheet(tmp_path, text)])
    assert len(files["blackboard.csv"]) == 1 and "to be entered by hand: ann_lee" in notes


def test_without_a_file_blackboard_gets_user_names_and_the_page_says_what_becomes_of_them():
    files, notes = imported([attempt("bray", 4)])
    assert files["blackboard.csv"][1] == ["", "", "bray", "4"] and "new text column" in notes


# All of them ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["moodle", "canvas", "blackboard"])
def test_a_stray_notebook_of_another_exercise_renames_and_blanks_nobodys_file(system):
    people = [judged(f"l{n}", f"{n}", system=system) for n in range(4)]
    before, _ = imported(people)
    stray = judged("l1", "1", 2, "05_b", system)
    after, _ = imported([*people, stray])
    assert [*before] == [f"{system}.csv"] and after[f"{system}.csv"] == before[f"{system}.csv"]
    assert [*after] == [f"{system}.csv", f"{system}_05_b.csv"]


def test_what_is_no_export_is_refused_in_both_languages(tmp_path):
    for content in ("a,b\n1,2\n", "", "编号,成绩\n1,2\n"):
        with pytest.raises(ValueError, match="表头认不出来(.|\n)*its first line is none of these"):
            sheet(tmp_path, content)
    with pytest.raises(ValueError, match="--fill"):
        lms.read_sheet(tmp_path / "nothing.csv")


def test_no_cell_is_a_formula_whatever_separates_cells():
    rng = random.Random(1)
    letters = ["=", "+", "-", "@", "\t", ";", '"', "'", ",", " ", "\r", "\n", "\u202e", "\u200b", "a", "＝", "\x00"]
    for _ in range(3000):
        cell = "".join(rng.choices(letters, k=6))
        text = tables.csv_file([[cell, "z"]]).decode("utf-8-sig")
        for separator in ",;\t":
            for row in csv.reader(io.StringIO(text), delimiter=separator):
                for part in row:
                    assert part.strip() == "-" or not re.match(r"[\s\"]*[=+\-@＝\t\r]", part), (cell, separator, part)
    assert harmless("-") == "-" and harmless("a;=1") == "a;'=1" and harmless("x-1; b") == "x-1; b"


def test_marks_of_direction_are_seen_and_turn_nothing_round():
    name = "Ann\u202egnp.\u2066"
    page = report.learner_page(judged(name, "1", code={"f": [[3, "x = 1  # \u202e\u2066 if"]]}))
    assert "\u202e" not in page and "\u2066" not in page and "<bdi>Ann⟨U+202E⟩gnp.⟨U+2066⟩</bdi>" in page
    assert harmless(name) == "Ann⟨U+202E⟩gnp.⟨U+2066⟩" and harmless("عربي می\u200cخواهم") == "عربي می\u200cخواهم"


# For the instructor ---------------------------------------------------------------------------------------------------


def test_a_report_has_the_code_beside_what_was_said_and_the_overview_the_totals_and_notes(tmp_path):
    results = [judged(f"l{n}", f"{n}", code={"f": [[7, f"def f(x):\n    return x < {n}"]]}) for n in range(4)]
    results[1]["tasks"]["f"] |= {"failed": {"values": 1}, "points": 0}
    page = report.learner_page(results[1], {"f": ("第一题", "Task 1: f")})
    [beside] = re.findall(r'<div class="beside">.*?</pre></div></div>', page, re.S)
    assert report.WORDS["values"][1] in beside and "return x &lt; 1" in beside and "Cell 7" in beside
    assert "Task 1: f" in page and "第一题" in page
    report.write_all(results, EXAM, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "How the totals are distributed" in page and "Before you import" in page and "maximum to 6" in page
    assert "return x" not in (tmp_path / "grades.json").read_text() and not (tmp_path / "alike.html").exists()


def test_every_task_of_the_course_has_a_name_in_words():
    exercises = {path.parent.name: None for path in SOLUTIONS.glob("[0-9]*/exercise.md")}
    titles = titles_of(SimpleNamespace(exercises=exercises, folder=SOLUTIONS))
    assert titles["layer_norm"] == ("第 1 题：层归一化", "Task 1: layer normalisation")
    assert len(titles) > 35 and all("题" in zh or "短文" in zh for zh, _ in titles.values())
    assert all("Task" in en or "ssay" in en for _, en in titles.values())


OWN = """
def welford(numbers):
    count, centre, squares, history = 0, 0.0, 0.0, {}
    for position, number in enumerate(numbers.flatten().tolist()):
        if position % 2 and number in history:
            history[number].append(position)
        else:
            history.setdefault(number, []).insert(0, position)
        count += 1
        gap = number - centre
        centre = (centre * (count - 1) + number) / max(count, 1)
        squares = squares + gap * (number - centre)
    while history:
        where, listed = history.popitem()
        squares += 0.0 * (len(listed) - sum(1 for _ in listed)) / (1 + abs(where))
    return centre, squares / count
"""
NAMES = {"numbers": "xs", "count": "n", "centre": "m", "squares": "s", "history": "h", "position": "i", "number": "v"}


def renamed(source):
    source = re.sub(r"\w+", lambda word: NAMES.get(word[0], word[0]), source)
    return "# mine\n" + source.replace("    ", "  ").replace(" = ", "  =  ")


def test_answers_that_are_the_same_up_to_names_are_found_and_also_where_a_few_lines_are_new():
    known = alike.right_runs(SOLUTIONS, "03_layer_normalisation")
    changed = renamed(OWN).replace("  return m", "  print('so far', n)\n  return m")
    others = {f"o{n}": f"def welford(x):\n    return x.mean(), x.var() * {n}" for n in range(20)}
    assert alike.alike(others | {"a": OWN, "b": renamed(OWN)}, known) == [(1.0, ["a", "b"])]
    [(share, pair)] = alike.alike(others | {"a": OWN, "b": changed}, known)
    assert pair == ["a", "b"] and 0.8 <= share <= 1


@pytest.mark.parametrize("exercise", sorted(path.parent.name for path in SOLUTIONS.glob("[0-9]*/answers.py")))
def test_right_answers_and_what_everybody_writes_are_not_listed(exercise):
    """The course's own answers, each handed in five times."""
    text = (SOLUTIONS / exercise / "answers.py").read_text(encoding="utf-8")
    known = alike.right_runs(SOLUTIONS, exercise)
    honest = re.findall(r'^@honest\("\w+"\)\n((?:def|class) .*?)(?=^\S|\Z)', text, re.M | re.S)
    handed_in = {f"{n} {copy}": renamed(answer) for n, answer in enumerate(honest) for copy in range(5)}
    assert len(honest) > 5 and alike.alike(handed_in, known) == []
    assert alike.alike(dict(enumerate(honest))) == []  # nor where nothing is known: they are each in other words


def test_pairs_are_shown_side_by_side_without_a_verdict(tmp_path):
    code = lambda source: {"f": [[4, source]]}  # noqa: E731
    results = [judged("Ann", "1", code=code(OWN)), judged("Bob", "2", code=code(renamed(OWN)))]
    results += [judged("Bob", "2", 3, code=code(OWN))]  # one's own second try is nobody's copy
    report.write_all(results, EXAM, tmp_path)
    page = (tmp_path / "alike.html").read_text(encoding="utf-8")
    assert page.count("<pre") == 2 and "# mine" in page and alike.NO_VERDICT[1] in page and alike.NO_VERDICT[0] in page
    assert 'href="alike.html"' in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_an_answer_made_to_take_long_takes_no_time():
    for source in (
        "'" * 50_000,
        '"""' + "\\" * 50_000,
        "a." * 30_000,
        "(" * 30_000,
        "\U0001d7d8" * 30_000,
        "=" * 30_000,
    ):
        assert len(alike.tokens(source)) <= alike.LONGEST
