"""What stands in a page in an explorer's place: its picture at the start, and all that the player needs to know."""

import html
import json

from .languages import TAGS, pick

MILLISECONDS = 250  # a step of ▶
INLINE = 60_000  # a first picture with more characters comes with the others; till then there is the stored one
WORDS = {
    "play": ("▶ 播放", "▶ Play"),
    "stop": ("■ 停止", "■ Stop"),
    "reset": ("恢复初始值", "Reset"),
    "loading": ("正在载入…", "Loading …"),
    "off": (
        "这个组合没有预先画好，图还是上一个位置的。",
        "This combination was not drawn ahead; the picture is still the last one.",
    ),
    "live": ("在 notebook 里可以走到每个位置", "In the notebook every position can be reached"),
}
STILL = (
    "这张图要训练好的模型，或者要算很久：在 notebook 里才能拖动。",
    "This picture needs a trained model or a long run: its sliders move in the notebook.",
)
OPEN = "打开 notebook", "open the notebook"
FEWER = "这里的滑块走 {} 个预先画好的位置。", "The sliders walk through {} positions drawn ahead."


def markup(page, code, frames, notebook, attributes="", png=None):
    """The HTML of an explorer that was drawn ahead.

    Args: page: its entry of `frames.known`. frames, notebook: addresses of its pictures and of the live notebook.
        attributes: of the element, besides. png: the stored picture (base64), if there is one.
    """
    first = page["first"][code]
    if png and len(first) > INLINE:
        first = f'<img src="data:image/png;base64,{"".join(png.split())}" alt="">'
    controls = [
        {key: c[key] for key in ("name", "kind")} | {"label": c["label"][code], "values": c["values"][code]}
        for c in page["controls"]
    ]
    given = {key: page[key] for key in ("name", "start", "play")} | {"controls": controls}
    given |= {"milliseconds": MILLISECONDS, "words": {name: pick(code, *words) for name, words in WORDS.items()}}
    config = json.dumps(given, ensure_ascii=False).replace("</", "<\\/")
    said = ""
    if page["controls"]:
        said = pick(code, FEWER[0].format(page["pictures"]), FEWER[1].format(page["pictures"]))
        said = f'<p class="nc-about">{said} <a href="{notebook}">{pick(code, *WORDS["live"])}</a></p>'
    return (
        f'<div class="nc-player" lang="{TAGS[code]}" data-frames="{frames}" data-notebook="{notebook}"{attributes}>'
        f'<script type="application/json">{config}</script><div class="nc-controls"></div>'
        f'<div class="nc-stage" role="img" aria-label="{html.escape(page["alt"][code])}">{first}</div>'
        f'<p class="nc-note" hidden></p><p class="nc-said" role="status"></p>{said}</div>'
    )


def still(png, alt, code, notebook):
    """The HTML of an explorer that is live only in the notebook: its stored picture (base64).

    Args: notebook: its address; None where no control moves the picture.
    """
    image = f'<img src="data:image/png;base64,{"".join(png.split())}" alt="{html.escape(alt)}">'
    said = f'{pick(code, *STILL)} <a href="{notebook}">{pick(code, *OPEN)}</a>' if notebook else ""
    caption = f"<figcaption>{said}</figcaption>" if said else ""
    return f'<figure class="nc-still" lang="{TAGS[code]}">{image}{caption}</figure>'
