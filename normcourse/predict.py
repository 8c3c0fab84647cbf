"""Predict first: a question to commit to, and later the measured number with the learner's guess beside it.

    predict("01-first-layer")              choose and commit
    answer("01-first-layer", measured)     what was measured, which choice that is, and the guess
    finished("01")                         at the end of a chapter: tick it off
    overview()                             all of it in one table, with a reset

Questions stand in the questions.toml of the chapters:

    ["01-first-layer"]
    question.zh, question.en     the question
    measured.zh, measured.en     a sentence with {} for the measured number
    format                       how it is printed, "{:.0%}" say; without it `canvas.number` does
    choices                      [{zh, en, between}]: the choice is right if low <= the measured number < high. One that
                                 no number of this measurement speaks for has no `between`.

What is chosen is kept as `normcourse.progress` says.
"""

import functools
import html
import re
import tomllib
from dataclasses import dataclass

import ipywidgets

from . import progress
from .canvas import number
from .cells import close_when_run_again, close_widgets
from .chapters import chapters
from .check import recorded
from .i18n import language, on_language_change, text, widget_bundle

LETTERS = "ABCDEF"
READ = "这一章读完了", "I have read this chapter"


@dataclass(frozen=True)
class Question:
    """An entry of a questions.toml, see the module. chapter: its number."""

    name: str
    chapter: int
    question: dict
    measured: dict
    choices: tuple
    format: str | None = None

    def right(self, measured):
        """The letter of the choice that a measured number bears out, None if it is none of them."""
        for letter, choice in zip(LETTERS, self.choices):
            low, high = choice.get("between", (0, 0))
            if low <= measured < high:
                return letter
        return None

    def printed(self, measured):
        return self.format.format(measured) if self.format else number(measured)

    def choice(self, letter, code):
        return self.choices[LETTERS.index(letter)][code]


@functools.cache
def questions():
    """{name: Question} of all chapters. Raises: ValueError naming the file that is wrong."""
    found = {}
    for chapter in chapters():
        path = chapter.folder / "questions.toml"
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            found |= {name: Question(name, chapter.number, **entry) for name, entry in entries.items()}
        except (TypeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{chapter.folder.name}/questions.toml: {error}") from None
    return found


def _find(name):
    if name not in questions():
        known = ", ".join(questions())
        raise ValueError(text(f"没有问题 {name!r}，有的是 {known}", f"no question {name!r}; known are {known}"))
    return questions()[name]


class Shown:
    """What a cell shows: a widget whose words follow language and progress, and HTML for a reader without a kernel.

    A subclass has `widget`, `html(code)`, which says it in one language, and `follow()`, which words the widget anew.
    """

    def __init__(self):
        self.closed = False
        on_language_change(self._changed)
        progress.on_progress(self._changed)
        close_when_run_again(self)
        self._changed()

    def close(self):
        """Take it off the screen; it follows no further changes."""
        if not self.closed:
            self.closed = True
            close_widgets(self.widget)

    def _changed(self):
        if not self.closed:
            self.follow()

    def framed(self):
        """Its HTML in the language in force."""
        codes = ("zh", "en") if language() == "both" else (language(),)
        parts = "".join(f'<div lang="{code}">{self.html(code)}</div>' for code in codes)
        return f'<div class="nc-card" style="max-width: 52em; line-height: 1.5; white-space: normal">{parts}</div>'

    def _repr_mimebundle_(self, **kwargs):
        words = text(*(_plain(self.html(code)) for code in ("zh", "en")))
        bundle, metadata = widget_bundle(None if self.closed else self.widget, words)
        return {**bundle, "text/html": self.framed()}, metadata


def _plain(page):
    """The words of a little HTML."""
    lines = page.replace("</p>", "\n").replace("</tr>", "\n").replace("</td>", "  ").replace("</th>", "  ")
    return html.unescape(re.sub(r" *\n", "\n", re.sub("<[^>]+>", "", lines))).strip()


class Prediction(Shown):
    """See `predict`."""

    def __init__(self, question):
        self.question, self._renaming = question, False
        letters = LETTERS[: len(question.choices)]
        self.words, self.note = ipywidgets.HTML(), ipywidgets.HTML()
        layout = {"width": "auto", "max_width": "52em"}
        self.choice = ipywidgets.RadioButtons(options=[(a, a) for a in letters], value=None, layout=layout)
        self.commit = ipywidgets.Button(disabled=True, layout={"width": "max-content"})
        self.widget = ipywidgets.VBox([self.words, self.choice, self.commit, self.note])
        self.choice.observe(self._chosen, names="value")
        self.commit.on_click(self._commit)
        super().__init__()

    def _chosen(self, change):
        if not self._renaming:
            self.commit.disabled = change["new"] is None

    def _commit(self, _):
        if self.choice.value is not None:
            progress.record("guess", self.question.name, self.choice.value)

    def follow(self):
        guess = progress.recorded("guess").get(self.question.name)
        chosen = guess or (None if self.choice.disabled else self.choice.value)
        asked = [self.question.question[code] for code in ("zh", "en")]
        self.words.value = (
            f'<div style="max-width: 52em; line-height: 1.5"><p>{text(*asked, between="</p><p>")}</p></div>'
        )
        self._renaming = True  # new options put the choice back, which is no choice
        self.choice.options = [
            (f"{letter}. {text(choice['zh'], choice['en'], between=' · ')}", letter)
            for letter, choice in zip(LETTERS, self.question.choices)
        ]
        self.choice.value = chosen
        self._renaming = False
        self.choice.disabled, self.commit.disabled = guess is not None, guess is not None or chosen is None
        self.commit.description = text("就猜这个", "Commit", between=" · ")
        self.note.value = "" if guess is None else f"<p>{text(*_committed(guess), between='<br>')}</p>"

    def html(self, code):
        items = "".join(f"<p>{a}. {choice[code]}</p>" for a, choice in zip(LETTERS, self.question.choices))
        return f"<p>{self.question.question[code]}</p>{items}"


def _committed(guess):
    zh, en = (
        f"记下了，你猜 {guess}。往下读，这一章会量出来。",
        f"Your guess is {guess}. Read on: this chapter measures it.",
    )
    if progress.place() is None:
        zh += "（这里没有课程的文件夹，内核停了就忘了。）"
        en += " (There is no course folder here, so it is forgotten when the kernel ends.)"
    return zh, en


class Outcome(Shown):
    """See `answer`."""

    def __init__(self, question, measured):
        self.question, self.measured = question, question.printed(measured)
        self.right = question.right(measured)
        progress.record("answer", question.name, self.right)
        self.widget = ipywidgets.HTML()
        super().__init__()

    def follow(self):
        self.widget.value = self.framed()

    def html(self, code):
        question, guess = self.question, progress.recorded("guess").get(self.question.name)
        said = f"<strong>{question.measured[code].format(self.measured)}</strong>"
        right = self.right and f"{self.right} ({question.choice(self.right, code)})"
        yours = guess and f"{guess} ({question.choice(guess, code)})"
        if code == "zh":
            said += f"，答案是 {right}。" if right else "，几个选项都不对。"
            if guess:
                said += f"你猜的也是 {guess}，猜对了。" if guess == self.right else f"你猜的是 {yours}。"
            said = said.replace(" (", "（").replace(")", "）")
        else:
            said += f": the answer is {right}." if right else ": none of the choices."
            if guess:
                said += f" You guessed {guess}, too." if guess == self.right else f" You guessed {yours}."
        return f'<p style="border-left: 4px solid currentColor; padding-left: 1em">{said}</p>'


class Finished(Shown):
    """See `finished`."""

    def __init__(self, chapter):
        self.chapter = chapter
        self.widget = self.box = ipywidgets.Checkbox(indent=False, layout={"width": "auto"})
        self._following = False
        self.box.observe(self._ticked, names="value")
        super().__init__()

    def _ticked(self, change):
        if not self._following:
            progress.record("read", self.chapter, "yes" if change["new"] else None)

    def follow(self):
        self._following = True
        self.box.value = self.chapter in progress.recorded("read")
        self.box.description = text(*READ, between=" · ")
        self._following = False

    def html(self, code):
        return f"<p>☐ {READ[code == 'en']}</p>"


class Overview(Shown):
    """See `overview`."""

    def __init__(self):
        self.table = ipywidgets.HTML()
        layout = {"width": "max-content"}
        self.reset, self.sure, self.keep = (ipywidgets.Button(layout=layout) for _ in range(3))
        self.widget = ipywidgets.VBox([self.table, ipywidgets.HBox([self.reset, self.sure, self.keep])])
        self.reset.on_click(lambda _: self._ask(True))
        self.keep.on_click(lambda _: self._ask(False))
        self.sure.on_click(self._clear)
        self._ask(False)
        super().__init__()

    def _ask(self, asking):
        for button, shown in ((self.reset, not asking), (self.sure, asking), (self.keep, asking)):
            button.layout.display = None if shown else "none"

    def _clear(self, _):
        progress.reset()
        self._ask(False)

    def follow(self):
        self.table.value = self.framed()
        self.reset.description = text("全部清除", "Clear everything", between=" · ")
        self.sure.description = text("确定清除", "Yes, clear it", between=" · ")
        self.keep.description = text("不清除", "No, keep it", between=" · ")

    def html(self, code):
        kept = {kind: progress.recorded(kind) for kind in ("guess", "answer", "read", "passed")}
        heads = ("章", "读完", "猜测", "通过的练习") if code == "zh" else ("chapter", "read", "guesses", "tasks passed")
        rows = []
        for chapter in chapters():
            tasks = _tasks().get(chapter.name, ())
            if not chapter.lesson and not tasks:
                continue
            asked = [name for name, question in questions().items() if question.chapter == chapter.number]
            guesses = ", ".join(filter(None, (_guess(code, kept, name) for name in asked)))
            cells = (
                f"{chapter.number:02d} {chapter.title[code]}",
                "✓" if f"{chapter.number:02d}" in kept["read"] else "",
                guesses or ("–" if asked else ""),
                f"{len(kept['passed'].keys() & set(tasks))} / {len(tasks)}" if tasks else "",
            )
            rows.append("".join(f'<td style="text-align: left; padding: 0 1.5em 0 0">{cell}</td>' for cell in cells))
        head = "".join(f'<th style="text-align: left; padding: 0 1.5em 0 0">{name}</th>' for name in heads)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table><p>{_where(code)}</p>"


def _guess(code, kept, name):
    """What became of one guess: "C ✓", or "B, measured C"."""
    guess, right = kept["guess"].get(name), kept["answer"].get(name)
    if guess is None or right is None:
        return guess
    measured = f"{guess}，量到 {right}" if code == "zh" else f"{guess}, measured {right}"
    return f"{guess} ✓" if guess == right else measured


def _where(code):
    path = progress.place()
    if path is None and code == "zh":
        return "这里没有课程的文件夹，内核停了就忘了。用 <code>python -m normcourse lab</code> 打开课程，就一直留着。"
    if path is None:
        return (
            "There is no course folder here, so this is forgotten when the kernel ends. "
            "Open the course with <code>python -m normcourse lab</code> and it is kept."
        )
    place = f"<code>{html.escape(str(path))}</code>"
    return f"只存在这台机器上：{place}" if code == "zh" else f"Kept on this machine only: {place}"


@functools.cache
def _tasks():
    """{exercise: names of its tasks}."""
    return {path.stem: [task.name for task in recorded.read(path)] for path in sorted(recorded.FOLDER.glob("*.gz"))}


def predict(name):
    """The question with this name and its choices: choose one, commit, and read on. A guess that was committed stays.

    Raises: ValueError for an unknown name, listing the known ones.
    """
    return Prediction(_find(name))


def answer(name, measured):
    """The measured number, the choice that it bears out, and the learner's guess beside it.

    Raises: ValueError for an unknown name, listing the known ones.
    """
    return Outcome(_find(name), float(measured))


def finished(chapter):
    """A box to tick at the end of a chapter, by its number: finished("01")."""
    return Finished(chapter)


def overview():
    """The chapters read, the guesses beside what was measured, the tasks passed; where that is kept, and a reset."""
    return Overview()
