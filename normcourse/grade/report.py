"""What comes out: the tables (`tables`), a page per learner, and a summary with pictures.

A page holds both languages and shows one; two buttons switch. It says what failed in words, never an input or a right
answer of a hidden test.
"""

import html
import sys
from collections import Counter
from pathlib import Path

from . import lms
from .alike import TITLE, alike_page, all_alike
from .page import both, code, learner, name, note, page
from .run import write
from .scores import best, is_counted, shown, worth
from .tables import tables
from .text import isolated
from .titles import titles_of
from .totals import totals
from .variants import written

# Why a hidden case failed, as it stands in a result -> in words.
WORDS = {
    "missing": (
        "没有找到答案：没有单元格以这道题的 # EXERCISE 标记开头。",
        "No answer found: no cell begins with this task's # EXERCISE marker.",
    ),
    "as text": (
        "答案在一个文字单元格里，不会运行；把它改成代码单元格。",
        "The answer stands in a text cell, which is not run; make it a code cell.",
    ),
    "open": (
        "数是对的，但这种写法评分程序看不出合不合这道题的要求；老师看过再定分。",
        "The numbers are right, but the judge cannot tell whether this way of writing it keeps the task's rules; "
        "your teacher decides.",
    ),
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
NO_ESSAY = "标记的单元格里什么也没有写。", "Nothing written in the marked cell."
NOTES = {
    "raised": ("第 {} 个单元格里有一行出错了，其余的照常执行。", "{} raised an error; the rest was run."),
    "time": ("第 {} 个单元格超时：只执行了其中的导入、定义和赋值。", "{} ran out of time: only {}."),
    "ended": ("第 {} 个单元格使进程退出：只执行了其中的导入、定义和赋值。", "{} ended the process: only {}."),
    "malformed": ("第 {} 个单元格干扰评分：只执行了其中的导入、定义和赋值。", "{} disturbed the grading: only {}."),
}
SYNTAX = (
    "第 {} 个单元格第 {} 行，这里的 Python {} 读不懂，所以整格都没有运行。是笔误，或者是更新的 Python 才有的写法。",
    "Cell {}, line {}: Python {}, which runs here, cannot read it, so nothing of the cell was run. It is a slip, or "
    "syntax of a newer Python.",
)
ALONE = (
    "第一次评分时有单元格或答案超时，或者进程退出了，所以旁边什么也不运行，又评了一次；这是第二次的结果。",
    "Cells or answers ran out of time or the process ended, so it was graded once more with nothing running beside it; "
    "this is the second result.",
)
KEPT = "its imports, definitions and assignments were run", "their imports, definitions and assignments were run"


def write_all(results, exam, out, unsafe=False, sheets=(), columns=None):
    """Write everything into a folder. results: as `Run.grade` returns them. sheets, columns: as `lms.imports` takes
    them."""
    imported, notes = lms.imports(results, exam, sheets, columns)
    files = tables(results, exam, out, imported)
    titles, counting = titles_of(exam), best(results)
    pages = Path(out, "reports")
    pages.mkdir(exist_ok=True)
    for result in results:
        write(pages / result["report"], learner_page(result, titles))
    similar = all_alike([result for result in results if is_counted(result, counting)], exam)
    if similar:
        write(Path(out, "alike.html"), alike_page(similar, titles, _language(results)))
    write(Path(out, "index.html"), summary(results, exam, files, unsafe, notes, titles, similar))


def in_words(task):
    """What to tell a learner about a task that is not all right: [(中文, English), …]."""
    reasons = [_reason(where) for where in task["failed"]]
    if task["said"]:
        return [tuple(words) for words in task["said"]]
    return [OTHER_INPUTS, *reasons] if task.get("visible") else reasons


def _reason(where):
    kind = where.partition(" ")[2]
    return WORDS.get(where, (f"运行时出错（{kind}）。", f"It raises {kind}."))


def learner_page(result, titles=None):
    titles, exercise = titles or {}, name(result.get("exercise", ""))
    body = [f"<h1>{exercise or isolated(result['submission'])}</h1><p>{learner(result)}</p>"]
    if result["status"] == "failed":
        body.append(f'<p class="wrong">{both(("没有评分：", "Not graded: "))}{both(result["reason"])}</p>')
        return page(result["submission"], "\n".join(body), "en" if result["learner"].isascii() else "zh")
    points = f"<b>{shown(result['points'])} / {shown(result['of'])}</b>"
    body.append(f"<p>{both(('编程题', 'Programming'))}: {points}</p><table>")
    notes = below = cell_notes(result) if result["points"] < result["of"] else []
    for task_name, task in result["tasks"].items():
        right = task["points"] == task["of"]
        listed = in_words(task)
        if [*task["failed"]] == ["error NameError"]:
            listed, below = [*listed, *notes], []
        said = "".join(f"<li>{both(words)}</li>" for words in listed)
        cases = f'<p class="note">{both(_cases(task))}</p>' if task["cases"] and not right else ""
        body.append(
            f'<tr><td class="{"right" if right else "wrong"}">{"✓" if right else "✗"}</td>'
            f"<td>{_titled(titles, task_name)}{note(written(result.get('constants', {}).get(task_name, {})))}</td>"
            f'<td class="number">{shown(task["points"])} / {shown(task["of"])}</td>'
            f"<td>{_beside(f'<ul>{said}</ul>{cases}' if said else cases, result, task_name)}</td></tr>"
        )
    for essay, part in result["essays"].items():
        words = ("由老师批改。", "Marked by your teacher.") if part["characters"] else NO_ESSAY
        body.append(f'<tr><td></td><td>{_titled(titles, essay)}</td><td class="number">– / {part["of"]}</td>')
        body.append(f"<td>{both(words)}</td></tr>")
    body.append("</table>")
    body += [both(words, "p") for words in [*below, *([ALONE] if result.get("alone") else [])]]
    preferred = result["language"] or ("en" if result["learner"].isascii() else "zh")
    return page(f"{result['learner']} · {result['exercise']}", "\n".join(body), preferred)


def _titled(titles, task):
    """What an exercise calls a task, and the name in its code."""
    return f"{both(titles[task])}<br>{name(task)}" if task in titles else name(task)


def _beside(said, result, task):
    """What was said of an answer, and beside it the answer; folded up where there is nothing to say."""
    answer = code(result.get("code", {}).get(task, ()))
    if not (answer and said):
        words = both(("答案", "answer"))
        return said or (answer and f"<details><summary>{words}</summary>{answer}</details>")
    return f'<div class="beside"><div>{said}</div><div>{answer}</div></div>'


def cell_notes(result):
    """Which cells failed or were left out, in words: [(中文, English), …]."""
    said = []
    for kind, (zh, en) in NOTES.items():
        if numbers := [str(number) for number, what in result["notes"] if what == kind]:
            cells, kept = ("Cell", KEPT[0]) if len(numbers) == 1 else ("Cells", KEPT[1])
            said.append((zh.format("、".join(numbers)), en.format(f"{cells} {', '.join(numbers)}", kept)))
    python = ".".join(map(str, sys.version_info[:2]))
    for number, what in result["notes"]:
        if what.startswith("syntax "):
            said.append(tuple(words.format(number, what.partition(" ")[2], python) for words in SYNTAX))
    return said


def _cases(task):
    passed, cases = task["passed"], task["cases"]
    zh, en = f"{cases} 个隐藏情形，通过 {passed} 个。", f"{passed} of {cases} hidden cases pass."
    if 0 < passed < cases and not task["points"]:
        zh += "最基本的那个没有通过，所以没有分。"
        en += " The plain definition is not among them, so there are no points."
    return zh, en


def summary(results, exam, files, unsafe=False, notes=(), titles=None, similar=()):
    """The instructor's page: how many points in each task, the commonest mistakes, what to look at by hand, and what
    was not graded. files: names of those that it links to. notes: on importing them. titles: of tasks. similar: as
    `all_alike` returns it."""
    titles = titles or {}
    graded, counting = [result for result in results if result["status"] == "graded"], best(results)
    body = [f"<h1>{both(('评分总览', 'Summary of the grades'))}</h1>"]
    if unsafe:
        words = ("这次评分没有用沙箱：分数不可信。", "Graded without a sandbox: these scores prove nothing.")
        body.append(f'<p class="warning">{both(words)}</p>')
    words = f"{len(results)} 份，评了 {len(graded)} 份。", f"{len(results)} submissions, {len(graded)} graded."
    links = " · ".join(f'<a href="{name}">{name}</a>' for name in files)
    body.append(f"<p>{both(words)} seed {exam.seed} · {links}</p>")
    body.append(f'<p class="note">{both(BEST)}</p>')
    if notes:
        words = "导入前要知道的", "Before you import"
        body.append(f"<h2>{both(words)}</h2><ul>{''.join(f'<li>{both(note)}</li>' for note in notes)}</ul>")
    if similar:
        words = f"有 {len(similar)} 组值得并排看看：", f"{len(similar)} groups worth a look side by side: "
        body.append(f'<h2>{both(TITLE)}</h2><p>{both(words)}<a href="alike.html">alike.html</a></p>')
    for exercise, (tasks, _) in exam.exercises.items():
        own = [result for result in graded if result["exercise"] == exercise and is_counted(result, counting)]
        if own:
            body.append(f"<h2>{html.escape(exercise)}</h2><p>{both(_mean(own, *worth(exam, exercise)))}</p>")
            body += totals([result["points"] / result["of"] for result in own])
            body += [_task_picture(task, [r["tasks"][task] for r in own], titles.get(task)) for task in tasks]
    if ruled := [result for result in graded if any(map(_by_rules, result["tasks"].values()))]:
        body.append(f"<h2>{both(('违规扣分，请亲自看看', 'Points lost to the rules: have a look yourself'))}</h2>")
        body += _table((LEARNER, SUBMISSION, ("题", "tasks"), REASON), map(_ruled, ruled))
    if waiting := [result for result in graded if any("open" in task for task in result["tasks"].values())]:
        words = "待定：数对，合不合要求请你看", "Open: right numbers, but whether they keep the rules is yours to say"
        body.append(f"<h2>{both(words)}</h2><p>{both(HOW_TO_ACCEPT)}</p>")
        body += _table((LEARNER, SUBMISSION, ("待定的题", "open tasks"), REASON), map(_waiting, waiting))
    if failed := [result for result in results if result["status"] == "failed"]:
        body.append(f"<h2>{both(('没有评分', 'Not graded'))}</h2>")
        body += _table((LEARNER, SUBMISSION, REASON), ([*_whose(result), both(result["reason"])] for result in failed))
    body.append(f"<h2>{both(('全部', 'All'))}</h2>")
    heads = LEARNER, SUBMISSION, ("练习", "exercise"), ("编程题得分", "programming points"), ("计入", "counts")
    lines = []
    for result in results:
        of = f"{shown(result['points'])} / {shown(result['of'])}" if "of" in result else "–"
        mark = "✓" if is_counted(result, counting) else ""
        lines.append([*_whose(result), name(result.get("exercise", "")), f'<span class="number">{of}</span>', mark])
    body += _table(heads, lines)
    return page("NormCourse", "\n".join(body), _language(results))


def _language(results):
    return "zh" if any(not result["learner"].isascii() for result in results) else "en"


LEARNER, SUBMISSION, REASON = ("学生", "learner"), ("提交", "submission"), ("原因", "reason")
BEST = (
    "同一个练习交了几份，计入得分最高的那份（✓）；平均分和分布图只算这些。",
    "Of several submissions for one exercise the best counts (✓); means and pictures are of these.",
)


def _table(heads, lines):
    """Lines of a table. The first two cells are as `_whose` makes them."""
    yield f'<div class="wide"><table><tr>{"".join(f"<th>{both(words)}</th>" for words in heads)}</tr>'
    for whose, submission, *cells in lines:
        long = f'<td class="long">{whose}</td><td class="long">{submission}</td>'
        yield f"<tr>{long}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    yield "</table></div>"


def _whose(result):
    """The learner, and a link to the page about what they handed in."""
    return learner(result), f'<a href="reports/{result["report"]}">{isolated(result["submission"])}</a>'


def _mean(results, of, essays):
    mean = shown(round(sum(result["points"] for result in results) / len(results), 2))
    zh = f"编程题平均 {mean} / {shown(of)}（{len(results)} 份）。"
    en = f"Programming: mean {mean} of {shown(of)} (n = {len(results)})."
    if essays:
        zh += f"短文另有 {shown(essays)} 分，在 formgrader 里评阅后再加上。"
        en += f" Essays: {shown(essays)} more points, to be added in formgrader."
    return zh, en


def _by_rules(task):
    return "error ForbiddenCall" in task["failed"]


def _ruled(result):
    """Whose it is, the tasks that lost points to the rules, and each reason once."""
    tasks = {key: task for key, task in result["tasks"].items() if _by_rules(task)}
    reasons = dict.fromkeys(tuple(in_words(task)[0]) for task in tasks.values())
    return *_whose(result), name(", ".join(tasks)), "".join(both(words, "div") for words in reasons)


HOW_TO_ACCEPT = (
    "这些答案在自己的 notebook 里算对了，但其中有评分程序不认识的写法，所以还没有分。"
    "看过之后用 --accept 加上提交的路径再运行一次，就给分。",
    "These answers are right in their notebooks, but use what the judge does not understand, so they have no points "
    "yet. Have a look, and run the same command again with --accept and the path of the submission to give them.",
)


def _waiting(result):
    """Whose it is, the tasks that are open with their points, and what was not understood."""
    tasks = {key: task for key, task in result["tasks"].items() if "open" in task}
    names = ", ".join(f"{name(key)} ({shown(task['open'])})" for key, task in tasks.items())
    reasons = dict.fromkeys(tuple(task["reason"]) for task in tasks.values())
    return *_whose(result), names, "".join(both(words, "div") for words in reasons)


BINS = ("0", "< 25 %", "< 50 %", "< 75 %", "< 100 %", "100 %")
SHOWN = 5  # commonest mistakes


def _bin(task):
    share = task["points"] / task["of"]
    return 0 if share == 0 else 5 if share == 1 else 1 + min(int(4 * share), 3)


def _task_picture(key, tasks, title=None):
    """One task: a histogram of its points, and bars for the commonest mistakes. Its heading says what it shows."""
    counts = Counter(_bin(task) for task in tasks)
    mistakes = Counter(in_words(task)[0] for task in tasks if task["failed"])
    commonest = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    zh, en = (f"{words} · {key}" for words in title) if title else (key, key)
    full = f"{zh}：{len(tasks)} 份中 {counts[5]} 份满分", f"{en}: {counts[5]} of {len(tasks)} earn everything"
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
    return f'<h3>{both(full)}</h3><div class="wide">{"".join(parts)}</svg></div>'


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
