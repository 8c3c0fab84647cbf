"""The docket as a notebook shows it: a table to sort, filter and search, and any claim of it opened, with its picture
and its code."""

import html
import inspect
from importlib import import_module

from ..cells import close_when_run_again, close_widgets
from ..chapters import chapters
from ..i18n import language, on_language_change, term, text, widget_bundle
from ..theme import look, on_look_change
from .cards import Card, condition, marked, number
from .verdicts import VERDICTS

ALL = "*"
ORDERS = {
    "chapter": ("按章", "by chapter"),
    "id": ("按编号", "by id"),
    "verdict": ("按判决", "by verdict"),
    "sources": ("按出处", "by source"),
}
LABELS = {
    "source": ("出处", "source"),
    "chapter": ("章", "chapter"),
    "verdict": ("判决", "verdict"),
    "order": ("排序", "sort"),
    "search": ("搜索", "search"),
    "open": ("打开", "open"),
}
HEADS = {
    "zh": ("编号", "说法", "判决", "量到的数，和规则", "章"),
    "en": ("id", "claim", "verdict", "measured, and the rule", "chapter"),
}
SIGNS = {True: "✓", False: "✗", None: "?"}


class Court:
    """See `court`. `shown` are the ids of the claims in the table, in its order."""

    def __init__(self, docket):
        import ipywidgets

        self.docket, self.closed, self._renaming, self._drawn = docket, False, False, ((), "")
        self.by_id = {claim.id: (claim, measured) for claim, measured in docket.heard}
        self.numbers = {chapter.folder.name: chapter for chapter in chapters()}
        table = docket.claims
        self.choices = {
            "source": [ALL, *sorted({s for sources in table["sources"] for s in sources.split(", ")})],
            "chapter": [ALL, *sorted(set(table["chapter"]))],
            "verdict": [ALL, *(kind for kind in VERDICTS if kind in set(table["verdict"]))],
            "order": [*ORDERS],
        }
        size = {"width": "max-content", "min_width": "9em"}
        self.controls = {name: ipywidgets.Dropdown(layout=size) for name in self.choices}
        self.search = ipywidgets.Text(continuous_update=True, layout={"width": "16em"})
        self.opened = ipywidgets.Dropdown(layout=size)
        self.page, self.card = ipywidgets.HTML(), ipywidgets.HTML()
        row = [*self.controls.values(), self.search]
        self.widget = ipywidgets.VBox(
            [ipywidgets.Box(row, layout={"flex_flow": "row wrap"}), self.page, self.opened, self.card]
        )
        self.follow()
        for control in (*self.controls.values(), self.search):
            control.observe(self._chosen, names="value")
        self.opened.observe(self._open, names="value")
        on_language_change(self.follow)
        on_look_change(self.follow)
        close_when_run_again(self)

    def close(self):
        """Take it off the screen; it follows no further changes."""
        if not self.closed:
            self.closed = True
            close_widgets(self.widget)

    def follow(self):
        """Word everything anew, in the language in force."""
        if self.closed:
            return
        self._renaming = True
        for name, control in self.controls.items():
            kept = control.value if control.value is not None else self.choices[name][0]
            control.options = [(self._word(name, choice), choice) for choice in self.choices[name]]
            control.value, control.description = kept, text(*LABELS[name], between=" ")
        self.search.description = text(*LABELS["search"], between=" ")
        self.opened.description = text(*LABELS["open"], between=" ")
        self._renaming = False
        self._show()

    def _word(self, name, choice):
        if choice == ALL:
            return text("全部", "all", " ")
        if name == "chapter":
            return f"{choice:02d}"
        if name == "source":
            return term(choice)
        return text(*{"verdict": VERDICTS, "order": ORDERS}[name][choice], between=" ")

    @property
    def shown(self):
        table = self.docket.claims
        chosen = {name: control.value for name, control in self.controls.items()}
        if chosen["source"] != ALL:
            table = table[[chosen["source"] in sources.split(", ") for sources in table["sources"]]]
        for name in ("chapter", "verdict"):
            if chosen[name] != ALL:
                table = table[table[name] == chosen[name]]
        words = self.search.value.lower().split()
        table = table[[all(word in self._said(name) for word in words) for name in table["id"]]]
        order = [*VERDICTS].index if chosen["order"] == "verdict" else str
        if chosen["order"] == "id":
            return sorted(table["id"], key=lambda name: (name[0], int(name[1:])))
        if chosen["order"] != "chapter":  # sorting is stable: within it by chapter
            table = table.sort_values(chosen["order"], key=lambda column: column.map(order), kind="stable")
        return table["id"].tolist()

    def _said(self, name):
        claim, _ = self.by_id[name]
        parts = [name, claim.source, claim.chapter, *claim.statement.values(), *claim.conditions.values()]
        parts += [words for setting in claim.settings.values() for words in (setting.zh, setting.en)]
        return " ".join(parts).lower()

    def _chosen(self, change):
        if not self._renaming:
            self._show()

    def _show(self):
        shown, kept = self.shown, self.opened.value
        self.page.value = self.html(shown)
        self._renaming = True
        self.opened.options = [("—", ""), *((name, name) for name in shown)]
        self.opened.value = kept if kept in shown else ""
        self._renaming = False
        self._open(None)

    def _open(self, change):
        if not self._renaming:
            name = self.opened.value
            key = name, language(), look()
            if name and self._drawn[0] != key:  # a picture takes longer than a key that is pressed in the search
                self._drawn = key, self.opened_html(name)
            self.card.value = self._drawn[1] if name else ""

    def opened_html(self, name):
        """The card of a claim and its picture, from the numbers of this docket, and the code of its evidence."""
        from .pictures import page as drawn  # matplotlib, which the table needs not

        claim, measured = self.by_id[name]
        page = Card(claim, measured).html() + drawn(claim, measured)
        if claim.evidence:
            module = import_module(claim.code.rpartition(".")[0])
            page += f"<pre>{html.escape(inspect.getsource(getattr(module, claim.evidence)))}</pre>"
        return page

    def html(self, shown=None):
        """The table in the language in force, for a reader without a kernel, too."""
        codes = ("zh", "en") if language() == "both" else (language(),)

        def cell(words, tag="td", style="text-align: left; vertical-align: top; padding: 0.3em 1em 0.3em 0"):
            said = "".join(f'<div lang="{code}">{words[code]}</div>' for code in codes if words[code])
            return f'<{tag} style="{style}">{said}</{tag}>'

        heads = [cell(dict(zip(HEADS, pair)), "th") for pair in zip(*HEADS.values())]
        rows = [self._row(name, cell) for name in (self.shown if shown is None else shown)]
        count = len(rows), len(self.by_id)
        total = cell({"zh": f"{count[0]} / {count[1]} 条", "en": f"{count[0]} of {count[1]} claims"}, "caption")
        table = f"<table>{total}<tr>{''.join(heads)}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
        return f'<div class="nc-card" style="line-height: 1.4; white-space: normal; overflow-x: auto">{table}</div>'

    def _row(self, name, cell):
        claim, measured = self.by_id[name]
        kind, chapter = self.docket.verdicts[name].kind, self.numbers[claim.chapter]
        link = f'<a href="{chapter.name}.ipynb">{chapter.number:02d}</a>'
        numbers = {"zh": marked(claim.conditions["zh"]), "en": marked(claim.conditions["en"])}  # what is not measured
        if claim.settings:
            held = [measured[key].holds(*setting.holds_between) for key, setting in claim.settings.items()]
            lines = {"zh": [], "en": []}
            for (key, setting), side in zip(claim.settings.items(), held):
                seen = f"{SIGNS[side]} {marked(number(setting, measured[key]))} ({marked(condition(setting))})"
                lines["zh"].append(f"{seen} {marked(setting.zh)}")
                lines["en"].append(f"{seen} {marked(setting.en)}")
            count = f"{held.count(True)} / {len(held)}"
            for code, said in (("zh", f"{count} 种设置"), ("en", f"{count} settings")):
                numbers[code] = f"<details><summary>{said}</summary>{'<br>'.join(lines[code])}</details>"
        ids = {"zh": f"<strong>{name}</strong>", "en": "" if language() == "both" else f"<strong>{name}</strong>"}
        verdicts = dict(zip(("zh", "en"), VERDICTS[kind]))
        where = {"zh": link, "en": "" if language() == "both" else link}
        said = {code: marked(claim.statement[code]) for code in ("zh", "en")}
        return "".join(map(cell, (ids, said, verdicts, numbers, where)))

    def _repr_mimebundle_(self, **kwargs):
        lines = [f"{name:4} {VERDICTS[self.docket.verdicts[name].kind][1]}" for name in self.shown]
        bundle, metadata = widget_bundle(None if self.closed else self.widget, "\n".join(lines))
        return {**bundle, "text/html": self.html()}, metadata


def court(docket):
    """A docket as a table with controls: source, chapter and verdict, search in the words of the claims, an order; and
    any claim opened, with its card, its picture and the code of its evidence.

    Without a kernel the whole table is there to read."""
    return Court(docket)
