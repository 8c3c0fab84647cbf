"""A page in both languages, of which it shows one; two buttons switch."""

import html

from .text import isolated, visible

STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; max-width: 72em; margin: 2em auto;
  padding: 0 1em; color: #1a1a1a; background: #fff; overflow-wrap: break-word }
table { border-collapse: collapse; width: 100%; margin: 1em 0 } td, th { text-align: left; vertical-align: top;
  padding: .4em .8em; border-bottom: 1px solid #ccc } th, .number { white-space: nowrap }
td.number { text-align: right }
.right { color: #00664b } .wrong { color: #b04a00 } .note { color: #555 } .warning { background: #b00; color: #fff;
  padding: 1em; font-weight: bold } .wide { overflow-x: auto } .long { overflow-wrap: anywhere; min-width: 7em }
svg { display: block; width: 960px }
ul { margin: 0; padding-left: 1.2em }
svg text { font: 13px system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; fill: #1a1a1a }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19em, 100%), 1fr)); gap: 1em }
pre { font: 13px/1.4 ui-monospace, monospace; background: #f6f6f6; padding: .6em; margin: .3em 0; overflow: auto;
  max-height: 30em; white-space: pre-wrap }
.totals td { padding: .1em .8em; border: 0 } .bar { background: #0072b2; height: 1.1em }
#zh:checked ~ main [lang=en], #en:checked ~ main [lang=zh] { display: none }
"""


def page(title, body, language):
    chosen = {code: " checked" if code == language else "" for code in ("zh", "en")}
    return (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{html.escape(visible(title))}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
        f'<input type="radio" name="language" id="zh"{chosen["zh"]}><label for="zh" lang="zh">中文</label>\n'
        f'<input type="radio" name="language" id="en"{chosen["en"]}><label for="en" lang="en">English</label>\n'
        f"<main>\n{body}\n</main></body></html>\n"
    )


def note(text):
    return f'<p class="note">{html.escape(text)}</p>' if text else ""


def both(words, tag="span"):
    """Text in both languages, of which the page shows one. It may quote a learner's code, so it is escaped."""
    zh, en = (html.escape(visible(text)).replace("\n", "<br>") for text in words)
    return f'<{tag} lang="zh">{zh}</{tag}><{tag} lang="en">{en}</{tag}>'


def name(text):
    """The name of a task or an exercise, which may break after its underscores."""
    return html.escape(text).replace("_", "_<wbr>")


def code(cells):
    """An answer as it was written: [(cell number, source), …]."""
    parts = []
    for number, source in cells:
        parts.append(both((f"第 {number} 个单元格", f"Cell {number}"), "div"))
        parts.append(f'<pre dir="ltr">{html.escape(visible(source))}</pre>')
    return "".join(parts)


def learner(result):
    return isolated(result["learner"])
