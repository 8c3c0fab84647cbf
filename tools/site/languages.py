"""A text or a notebook of the course in one language, or with both side by side."""

import re

from ..build_colab import BLOCK, HEADING

PAIR = re.compile(r'<div lang="zh">\n\n(.*?)\n\n</div>\n+<div lang="en">\n\n(.*?)\n\n</div>', re.S)
OUTPUT = re.compile(r'<div lang="(zh|en)">(.*?)</div>', re.S)
HEADER = re.compile(r'<span lang="(zh|en)">(.*?)</span>', re.S)
TAGS = {"zh": "zh-CN", "en": "en", "both": "zh-CN"}  # of pages


def prose(text, code):
    """Markdown with `<div lang="…">` blocks and headings 中文 · English, in "zh" or "en"; "both" lays pairs of blocks
    beside each other."""
    if code == "both":
        side = '<div class="nc-pair"><div lang="zh">\n\n{}\n\n</div><div lang="en">\n\n{}\n\n</div></div>'
        return PAIR.sub(lambda m: side.format(m[1], m[2]), text)
    text = BLOCK.sub(lambda m: m[2] + "\n\n" if m[1] == code else "", text)
    return HEADING.sub(lambda m: m[1] + m[2 if code == "zh" else 3], text).strip()


def output(page, code):
    """The HTML of an output in one language; "both" keeps it."""
    if code == "both":
        return OUTPUT.sub(lambda m: f'<div lang="{TAGS[m[1]]}">{m[2]}</div>', page)
    page = OUTPUT.sub(lambda m: f"<div>{m[2]}</div>" if m[1] == code else "", page)
    return HEADER.sub(lambda m: m[2] if m[1] == code else "", page)


def pick(code, zh, en):
    """The words in a page's own language; those beside others begin with Chinese."""
    return {"zh": zh, "en": en, "both": f"{zh} {en}" if zh.endswith("。") else f"{zh} · {en}"}[code]
