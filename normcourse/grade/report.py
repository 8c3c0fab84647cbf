"""What comes out: tables for spreadsheets, Moodle and Canvas, a page per learner, and a summary with pictures.

A page holds both languages and shows one; two buttons switch. It says what failed in words, never an input or a right
answer of a hidden test.
"""

import csv
import html
import io
import json
import unicodedata
from collections import Counter
from pathlib import Path

from .run import write

# Why a hidden case failed, as it stands in a result -> in words.
WORDS = {
    "missing": (
        "没有找到答案：没有单元格以这道题的 # EXERCISE 标记开头。",
        "No answer found: no cell begins with this task's # EXERCISE marker.",
    ),
    "rules": ("用了这道题不许用的东西，不给分。", "It uses what this task is to be solved without, so no points."),
    "error NotImplementedError": ("还没有写。", "Not written yet."),
    "error ForbiddenCall": (
        "调用了这道题不许调用的函数。",
        "It calls a function that this task is to be solved without.",
    ),
    "error": ("运行时出错。", "It raises an error."),
    "kind": ("返回的东西不对：个数或种类与要求的不同。", "It returns the wrong number or kind of things."),
    "shape": ("结果的形状不对。", "The result has the wrong shape."),
    "dtype": ("结果的数据类型不对。", "The result has the wrong dtype."),
    "device": ("结果不在输入所在的设备上。", "The result is not on the device of the input."),
    "values": ("数值不对。", "The numbers are off."),
    "gradients": (
        "结果对，但对某个输入或参数的梯度不对。",
        "The result is right, but a gradient of an input or a parameter is off.",
    ),
    "changed": ("代码改写了自己的输入。", "The code writes to its input."),
    "time": ("超时：没有在规定的时间里算完。", "It ran out of time."),
    "ended": ("运行到一半，进程就退出了。", "The process ended halfway."),
    "malformed": ("返回的东西读不出来，或者太大。", "What it returned cannot be read, or is too large."),
}
OTHER_INPUTS = (
    "check 里的情形都通过了，换别的输入就不对：",
    "All cases of check pass, but with other inputs it fails:",
)
CELLS = {
    "raised": ("出错的单元格", "cells that raised an error"),
    "closed": (
        "用到了本练习不许调用的课程函数、评分时没有跑完的单元格",
        "cells that call functions of the course this exercise is to be solved without, and stopped there",
    ),
    "time": ("超时、被跳过的单元格", "cells that ran out of time and were left out"),
    "ended": ("使进程退出、被跳过的单元格", "cells that ended the process and were left out"),
    "malformed": ("干扰评分、被跳过的单元格", "cells that disturbed the grading and were left out"),
}


def write_all(results, exam, out, unsafe=False):
    """Write everything into a folder. results: as `Run.grade` returns them."""
    tables(results, exam, out)
    pages = Path(out, "reports")
    pages.mkdir(exist_ok=True)
    for result in results:
        write(pages / result["report"], learner_page(result))
    write(Path(out, "index.html"), summary(results, exam, unsafe))


# Tables ---------------------------------------------------------------------------------------------------------------


def tables(results, exam, out):
    """Write grades.csv and grades.json, and what Moodle or Canvas import where their layout gave the numbers."""
    out = Path(out)
    names = [(exercise, name) for exercise, parts in exam.exercises.items() for part in parts for name in part]
    used = {result.get("exercise") for result in results}
    columns = [name for exercise, name in names if exercise in used]
    rows = [["submission", "learner", "id", "exercise", "status", "points", "of", *columns, "reason", "report"]]
    for result in results:
        points = {name: task["points"] for name, task in result["tasks"].items()}
        rows.append(
            [
                *(result["submission"], result["learner"], result["id"], result.get("exercise", ""), result["status"]),
                *(_number(result["points"]), result.get("of", "")),
                *(_number(points[name]) if name in points else "" for name in columns),
                *(" · ".join(result.get("reason", [])), f"reports/{result['report']}"),
            ]
        )
    write(out / "grades.csv", _csv(rows))
    write(out / "grades.json", json.dumps({"seed": exam.seed, "grades": results}, ensure_ascii=False, indent=1) + "\n")
    if own := [result for result in results if result["system"] == "canvas"]:
        write(out / "canvas.csv", _csv(_canvas(own)))
    own = [result for result in results if result["system"] == "moodle"]
    graded = sorted({result["exercise"] for result in own if "exercise" in result})
    for exercise in graded:  # a worksheet belongs to one assignment
        rows = _moodle([result for result in own if result.get("exercise", exercise) == exercise], exercise)
        write(out / ("moodle.csv" if len(graded) == 1 else f"moodle_{exercise}.csv"), _csv(rows))


def best(results):
    """(learner, id) -> {exercise: result}, of several submissions for the same exercise that with the most points."""
    found = {}
    for result in results:
        own = found.setdefault((result["learner"], result["id"]), {})
        known = own.get(result.get("exercise"))
        if known is None or result["points"] > known["points"]:
            own[result.get("exercise")] = result
    return found


def _moodle(results, exercise):
    """The offline grading worksheet of an assignment: without these three columns Moodle does not take it."""
    yield ["Identifier", "Full name", "Grade", "Maximum grade", "Last modified (grade)"]
    for (learner, number), own in best(results).items():
        result = own.get(exercise) or own[None]  # None: what could not be graded
        yield [f"Participant {number}", learner, _number(result["points"]), result.get("of", ""), ""]


def _canvas(results):
    exercises = sorted({result["exercise"] for result in results if "exercise" in result})
    of = {result["exercise"]: result["of"] for result in results if "exercise" in result}
    yield ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *exercises]
    yield ["    Points Possible", "", "", "", "", *(of[exercise] for exercise in exercises)]
    for (learner, number), own in best(results).items():
        points = [_number(own[exercise]["points"]) if exercise in own else "" for exercise in exercises]
        yield [learner, number, "", "", "", *points]


def _csv(rows):
    """With a byte order mark, or Excel garbles Chinese; no cell begins like a formula or breaks its row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8-sig", "replace")


def _harmless(cell):
    if not isinstance(cell, str):
        return cell
    cell = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in cell)
    return f"'{cell}" if cell.lstrip().startswith(tuple("=+-@＝＋－＠")) else cell


def _number(points):
    return f"{points:g}"


# Pages ----------------------------------------------------------------------------------------------------------------

STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; max-width: 60em; margin: 2em auto;
  padding: 0 1em; color: #1a1a1a; background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1em 0 } td, th { text-align: left; vertical-align: top;
  padding: .4em .8em; border-bottom: 1px solid #ccc } td.number { white-space: nowrap; text-align: right }
.right { color: #00664b } .wrong { color: #b04a00 } .note { color: #555 } .warning { background: #b00; color: #fff;
  padding: 1em; font-weight: bold } svg { display: block; max-width: 100%; height: auto } 
ul { margin: 0; padding-left: 1.2em }
svg text { font: 13px system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; fill: #1a1a1a }
#zh:checked ~ main [lang=en], #en:checked ~ main [lang=zh] { display: none }
"""


def page(title, body, language):
    chosen = {code: " checked" if code == language else "" for code in ("zh", "en")}
    return (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
        f'<input type="radio" name="language" id="zh"{chosen["zh"]}><label for="zh" lang="zh">中文</label>\n'
        f'<input type="radio" name="language" id="en"{chosen["en"]}><label for="en" lang="en">English</label>\n'
        f"<main>\n{body}\n</main></body></html>\n"
    )


def both(words, tag="span"):
    """Text in both languages, of which the page shows one. It may quote a learner's code, so it is escaped."""
    zh, en = (html.escape(text).replace("\n", "<br>") for text in words)
    return f'<{tag} lang="zh">{zh}</{tag}><{tag} lang="en">{en}</{tag}>'


def in_words(task):
    """What to tell a learner about a task that is not all right: [(中文, English), …]."""
    reasons = [_reason(where) for where in task["failed"]]
    if task["said"]:
        return [tuple(words) for words in task["said"]]
    return [OTHER_INPUTS, *reasons] if task.get("visible") else reasons


def _reason(where):
    kind = where.partition(" ")[2]
    return WORDS.get(where, (f"运行时出错（{kind}）。", f"It raises {kind}."))


def learner_page(result):
    name, exercise = html.escape(result["learner"]), html.escape(result.get("exercise", ""))
    body = [f"<h1>{exercise or html.escape(result['submission'])}</h1><p>{name}</p>"]
    if result["status"] == "failed":
        body.append(f'<p class="wrong">{both(("没有评分：", "Not graded: "))}{both(result["reason"])}</p>')
        return page(result["submission"], "\n".join(body), "en" if result["learner"].isascii() else "zh")
    points = f"<b>{_number(result['points'])} / {_number(result['of'])}</b>"
    body.append(f"<p>{both(('编程题', 'Programming'))}: {points}</p><table>")
    for task_name, task in result["tasks"].items():
        right = task["points"] == task["of"]
        words = "".join(f"<li>{both(words)}</li>" for words in in_words(task))
        cases = f'<p class="note">{both(_cases(task))}</p>' if task["cases"] and not right else ""
        body.append(
            f'<tr><td class="{"right" if right else "wrong"}">{"✓" if right else "✗"}</td>'
            f"<td>{html.escape(task_name)}</td>"
            f'<td class="number">{_number(task["points"])} / {_number(task["of"])}</td>'
            f"<td>{f'<ul>{words}</ul>' if words else ''}{cases}</td></tr>"
        )
    for essay, part in result["essays"].items():
        words = ("由老师批改。", "Marked by your teacher.") if part["characters"] else ("没有写。", "Nothing written.")
        body.append(
            f'<tr><td></td><td>{html.escape(essay)}</td><td class="number">– / {part["of"]}</td>'
            f"<td>{both(words)}</td></tr>"
        )
    body.append("</table>")
    for kind, words in CELLS.items():
        numbers = ", ".join(str(number) for number, what in result["notes"] if what == kind)
        if numbers:
            body.append(f'<p class="note">{both(words)}: {numbers}</p>')
    preferred = result["language"] or ("en" if result["learner"].isascii() else "zh")
    return page(f"{result['learner']} · {result['exercise']}", "\n".join(body), preferred)


def _cases(task):
    passed, cases = task["passed"], task["cases"]
    zh, en = f"{cases} 个隐藏情形，通过 {passed} 个。", f"{passed} of {cases} hidden cases pass."
    if 0 < passed < cases and not task["points"]:
        zh += "最基本的那个没有通过，所以没有分。"
        en += " The plain definition is not among them, so there are no points."
    return zh, en


def summary(results, exam, unsafe=False):
    """The instructor's page: how many points in each task, the commonest mistakes, and what was not graded."""
    graded = [result for result in results if result["status"] == "graded"]
    body = [f"<h1>{both(('评分总览', 'Summary of the grades'))}</h1>"]
    if unsafe:
        words = ("这次评分没有用沙箱：分数不可信。", "Graded without a sandbox: these scores prove nothing.")
        body.append(f'<p class="warning">{both(words)}</p>')
    counts = len(results), len(graded)
    words = f"{counts[0]} 份，评了 {counts[1]} 份。", f"{counts[0]} submissions, {counts[1]} graded."
    body.append(f'<p>{both(words)} seed {exam.seed} · <a href="grades.csv">grades.csv</a></p>')
    for exercise, (tasks, _) in exam.exercises.items():
        own = [result for result in graded if result["exercise"] == exercise]
        if own:
            body.append(f"<h2>{html.escape(exercise)}</h2>")
            body += [_task_picture(name, [result["tasks"][name] for result in own]) for name in tasks]
    failed = [result for result in results if result["status"] == "failed"]
    if failed:
        body.append(f"<h2>{both(('没有评分', 'Not graded'))}</h2><table>")
        for result in failed:
            body.append(f"<tr><td>{html.escape(result['submission'])}</td><td>{both(result['reason'])}</td></tr>")
        body.append("</table>")
    body.append(f"<h2>{both(('全部', 'All'))}</h2><table>")
    for result in results:
        link = f'<a href="reports/{result["report"]}">{html.escape(result["submission"])}</a>'
        points = f"{_number(result['points'])} / {_number(result.get('of', 0))}"
        body.append(
            f'<tr><td>{html.escape(result["learner"])}</td><td>{link}</td><td class="number">{points}</td></tr>'
        )
    body.append("</table>")
    return page("NormCourse", "\n".join(body), "zh" if any(not r["learner"].isascii() for r in results) else "en")


BINS = ("0", "< 25 %", "< 50 %", "< 75 %", "< 100 %", "100 %")
SHOWN = 5  # commonest mistakes


def _bin(task):
    share = task["points"] / task["of"]
    return 0 if share == 0 else 5 if share == 1 else 1 + min(int(4 * share), 3)


def _task_picture(name, tasks):
    """One task: a histogram of its points, and bars for the commonest mistakes. Its heading says what it shows."""
    counts = Counter(_bin(task) for task in tasks)
    mistakes = Counter(tuple(in_words(task)[0]) for task in tasks if in_words(task))
    commonest = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    full = f"{name}：{len(tasks)} 份中 {counts[5]} 份满分", f"{name}: {counts[5]} of {len(tasks)} earn everything"
    height = max(150, 70 + 34 * len(commonest))
    parts = [f'<svg viewBox="0 0 960 {height}" role="img" aria-label="{html.escape(full[1])}">']
    tallest = max(counts.values())
    for i, label in enumerate(BINS):
        bar, x = 90 * counts[i] / tallest, 10 + 48 * i
        colour = "#0072b2" if i == 5 else "#d55e00" if i == 0 else "#999999"
        parts.append(f'<rect x="{x}" y="{115 - bar:.1f}" width="40" height="{bar:.1f}" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{110 - bar:.1f}" text-anchor="middle">{counts[i] or ""}</text>')
        parts.append(
            f'<text x="{x + 20}" y="132" text-anchor="middle" style="font-size:11px">{html.escape(label)}</text>'
        )
    if commonest:
        parts.append(_lines(("最常见的错误", "Commonest mistakes"), 340, 18, 60))
    for i, (words, count) in enumerate(commonest):
        y, bar = 34 + 34 * i, 100 * count / commonest[0][1]
        parts.append(f'<rect x="{440 - bar:.1f}" y="{y}" width="{bar:.1f}" height="18" fill="#d55e00"/>')
        parts.append(f'<text x="{434 - bar:.1f}" y="{y + 14}" text-anchor="end">{count}</text>')
        parts.append(_lines(words, 450, y + 14, 72))
    return f"<h3>{both(full)}</h3>" + "".join(parts) + "</svg>"


def _lines(words, x, y, width):
    """Text in a picture, in both languages; what is too long is cut, and whole where the pointer rests."""
    zh, en = (
        text if len(text) <= most else f"{text[: most - 1]}…" for text, most in zip(words, (width // 2 + 6, width))
    )
    whole = [f"<title>{html.escape(text)}</title>" for text in words]
    return (
        f'<text lang="zh" x="{x}" y="{y}">{whole[0]}{html.escape(zh)}</text>'
        f'<text lang="en" x="{x}" y="{y}">{whole[1]}{html.escape(en)}</text>'
    )
