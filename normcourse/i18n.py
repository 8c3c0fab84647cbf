"""Two languages: the switch, the glossary, and text that follows the switch."""

import os
import re
import sys
import tomllib
import weakref
from collections import ChainMap
from pathlib import Path

from .headers import HEADERS
from .norms import NORMS
from .residual import PLACEMENTS
from .theme import LOOKS, look, on_look_change, set_look

LANGUAGES = {"zh": "中文", "en": "English", "both": "并排 Side by side"}

# English term -> Chinese term, as the prose uses them. A test checks that no other translation slips in.
GLOSSARY = {
    "activation": "激活值",
    "activation function": "激活函数",
    "batch normalisation": "批归一化",
    "cell": "单元格",
    "closed form": "闭式解",
    "degradation": "退化",
    "exploding gradient": "梯度爆炸",
    "gain": "增益",
    "gate": "门控",
    "gradient": "梯度",
    "gradient norm": "梯度范数",
    "hidden state": "隐藏状态",
    "highway network": "高速网络",
    "identity path": "恒等路径",
    "initialisation": "初始化",
    "Jacobian": "雅可比矩阵",
    "layer normalisation": "层归一化",
    "learning rate": "学习率",
    "mean-field theory": "平均场理论",
    "Post-Norm": "后置归一化",
    "Pre-Norm": "前置归一化",
    "orthogonal": "正交",
    "precomputed": "预先跑好",
    "Peri-Norm": "双侧归一化",
    "Res-Post-Norm": "残差后归一化",
    "residual branch": "残差分支",
    "residual connection": "残差连接",
    "residual stream": "残差流",
    "root mean square": "均方根",
    "Scaled Pre-Norm": "缩放前置归一化",
    "scale γ": "缩放 γ",
    "shift β": "平移 β",
    "singular value": "奇异值",
    "skip": "跳跃连接",
    "standard error": "标准误差",
    "stream": "主干",
    "vanishing gradient": "梯度消失",
    "variance": "方差",
    "warm-up": "预热",
    "weight": "权重",
    "weight norm": "权重范数",
}

# What controls and their values are called: name in code -> (中文, English); `TERMS` adds the wirings and norms, and
# what a chapter alone needs stands in its words.toml: [controls] name = [中文, English], [headers] name = 中文.
WORDS = {
    "activation": ("激活函数", "activation"),
    "bias": ("偏置 b", "bias b"),
    "branch": ("分支", "branch"),
    "best": ("各取最好的", "best for each"),
    "branch_scale": ("分支 a", "branch a"),
    "columns": ("每行的个数", "numbers per row"),
    "compare": ("比较", "compare with"),
    "depth": ("层数", "depth"),
    "dropped_layer": ("去掉的层", "left out"),
    "gain": ("增益 g", "gain g"),
    "learning_rate": ("学习率", "learning rate"),
    "optimiser": ("优化器", "optimiser"),
    "placement": ("接法", "wiring"),
    "seed": ("随机种子", "seed"),
    "width": ("宽度", "width"),
    "random": ("随机", "random"),
    "adam": ("Adam，步长随权重", "Adam, relative step"),
    "adam_one_rate": ("Adam，同一学习率", "Adam, one rate"),
    "linear": ("线性（无激活）", "linear (none)"),
    "relu": ("ReLU", "ReLU"),
    "tanh": ("tanh", "tanh"),
    "gelu": ("GELU", "GELU"),
    "angle": ("夹角", "angle"),
    "back": ("往回走几层", "layers back"),
    "cut": ("切断第几层", "layer cut"),
    "axis": ("纵轴", "y axis"),
    "azimuth": ("方位角", "azimuth"),
    "batch": ("样本", "sample"),
    "direction": ("步的方向", "step"),
    "drop": ("去掉一层", "leave one out"),
    "dtype": ("数据类型", "dtype"),
    "elevation": ("仰角", "elevation"),
    "edit": ("改动", "change"),
    "eps": ("ε", "ε"),
    "feature": ("特征", "feature"),
    "hidden_size": ("特征数 d", "features d"),
    "input_variance": ("输入方差", "input variance"),
    "layer": ("第几层", "layer"),
    "layers": ("层数", "layers"),
    "listing": ("代码", "listing"),
    "linear_axis": ("线性", "linear"),
    "log_axis": ("对数", "logarithmic"),
    "mean": ("均值 μ", "mean μ"),
    "merge": ("并联相邻两层", "merge two"),
    "norm": ("归一化", "norm"),
    "position": ("位置", "position"),
    "progress": ("进度", "progress"),
    "shape": ("分布的形状", "shape"),
    "std": ("标准差 σ", "std σ"),
    "step": ("训练步数", "step"),
    "swap": ("交换相邻两层", "swap two"),
    "to_input": ("与输入", "to the input"),
    "to_layer_before": ("与上一层", "to the layer before"),
    "trained_as": ("原来的接法", "trained as"),
    "warmup": ("预热步数", "warm-up steps"),
    "weight_decay": ("权重衰减", "decay"),
    "group_norm": ("组归一化（2 组）", "GroupNorm (2 groups)"),
    "instance_norm": ("实例归一化", "InstanceNorm"),
    "sequence_and_feature": ("层归一化，选错了轴", "LayerNorm, wrong axes"),
    "normal": ("正态", "normal"),
    "outlier": ("一个离群值", "one outlier"),
    "skewed": ("偏斜", "skewed"),
    "two_valued": ("只取两个值", "two values"),
    "gamma": ("缩放 γ", "scale γ"),
    "mean_shift": ("均值 m", "mean m"),
    "recentre": ("减去均值", "subtract the mean"),
    "tensor_shape": ("行数 × d", "rows × d"),
    "all_ones": ("全为 1", "all 1"),
    "equal_pairs": ("每对相同", "equal within pairs"),
    "all_different": ("各不相同", "all different"),
    "measure": ("量什么", "measure"),
    "shift": ("各特征的均值", "means of the features"),
    "scale": ("整层的尺度", "scale of the layer"),
    "rows": ("行数", "rows"),
    "update": ("每层加上的数", "added per layer"),
    "absmax": ("整数格式的最大值", "absmax of integers"),
    "bits": ("比特数", "bits"),
    "loss_scale": ("缩放 2 的几次方", "loss × 2 to the"),
    "mean_over_std": ("均值 / 标准差", "mean / std"),
    "method": ("算法", "method"),
    "numbers": ("几个数", "numbers"),
    "outlier_size": ("离群通道的倍数", "size of the outlier"),
    "scales": ("一个尺度管", "one scale per"),
    "tokens": ("词元数 2 的几次方", "tokens: 2 to the"),
    "value": ("数值", "value"),
    "window": ("窗口 ±", "window ±"),
    "in_fp32": ("先转成 fp32", "in fp32"),
    "pairwise": ("两遍，两两相加", "two passes, pairwise"),
    "textbook": ("E[x²] − E[x]²", "E[x²] − E[x]²"),
    "two_pass": ("两遍", "two passes"),
    "welford": ("Welford", "Welford"),
    "per_channel": ("每个通道", "channel"),
    "per_tensor": ("整个张量", "tensor"),
    "per_token": ("每个词元", "token"),
    "longest": ("第四句的长度", "length of the fourth"),
    "length": ("句子长度 T", "length T"),
    "batch_size": ("批量 B", "batch size B"),
    "by_length": ("按长度分批", "batched by length"),
    "upper_case": ("全部大写", "all capitals"),
    "way": ("交换两维用", "exchanged by"),
    "trained_in": ("训练的批量", "trained in batches of"),
}
_CHAPTERS = [
    tomllib.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "chapters").glob("*/words.toml"))
]
OF_CHAPTERS = {name: tuple(pair) for words in _CHAPTERS for name, pair in words.get("controls", {}).items()}
TERMS = ChainMap(WORDS, OF_CHAPTERS, PLACEMENTS.each("title"), NORMS.each("title"))
_HEADERS = ChainMap(HEADERS, *(words.get("headers", {}) for words in _CHAPTERS))

_state = {"language": "both"}
_listeners = []


def language():
    """The language in force: "zh", "en" or "both"."""
    return _state["language"]


def set_language(code):
    """Switch to "zh", "en" or "both" and tell everything that shows text."""
    if code not in LANGUAGES:
        raise ValueError(f"unknown language {code!r}; known are {', '.join(LANGUAGES)}")
    if code != _state["language"]:
        _state["language"] = code
        for listener in list(_listeners):
            if call := listener():
                call()


def on_language_change(listener):
    """Call a method, `listener()`, after every change of language for as long as its object lives."""
    _listeners.append(weakref.WeakMethod(listener, _listeners.remove))


def text(zh, en, between="\n"):
    """The text in the language in force; side by side gives both, Chinese first, unless they are the same."""
    if language() == "both":
        return zh if zh == en else f"{zh}{between}{en}"
    return zh if language() == "zh" else en


def term(name, between=" "):
    """The bilingual name of a control or of one of its values; what is not in `TERMS` is its own name."""
    zh, en = TERMS.get(name, (str(name), str(name)))
    return text(zh, en, between)


# One rule per language, scoped to the notebook that holds the marker, so that other open notebooks keep their own. What
# they hide or place is named by tag or attribute: a rule for any element (`:not([lang])`) has the browser style the
# whole notebook again for each widget that comes or goes, 40 ms a step of a slider. And `:has` has it look through the
# notebook each time, 3 ms: where a script may run, an attribute of the notebook takes its place.
_MARK = """const book = this.closest('.jp-Notebook'), code = this.dataset.code, has = `:has(.nc-${code})`;
if (book && this.textContent.includes(has)) {
  book.dataset.ncLanguage = code;
  this.textContent = this.textContent.replaceAll(has, `[data-nc-language=${code}]`) }"""
_HIDE = """
.jp-Notebook:has(.nc-{on}) .jp-RenderedMarkdown [lang={off}] {{ display: none }}
.jp-Notebook:has(.nc-{on}) .nc-card [lang={off}]:not(:only-child) {{ display: none }}
.jp-Notebook:has(.nc-{on}) .dataframe [lang={off}] {{ display: none }}
.jp-Notebook:has(.nc-{on}) .jp-RenderedMarkdown [lang={on}] {{ max-width: 52em }}
"""
_SIDE_BY_SIDE = """
.jp-Notebook:has(.nc-both) .jp-RenderedMarkdown:has(> [lang=zh]):has(> [lang=en]) {
  display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.25fr); column-gap: 2.5em; align-items: start }
.jp-Notebook:has(.nc-both) .jp-RenderedMarkdown:has(> [lang=zh]):has(> [lang=en]) > :is(
  h1, h2, h3, h4, h5, h6, p, ul, ol, table, pre, blockquote, hr) { grid-column: 1 / -1 }
"""
_STYLES = {"zh": _HIDE.format(on="zh", off="en"), "en": _HIDE.format(on="en", off="zh"), "both": _SIDE_BY_SIDE}


class LanguageSwitch:
    """See `language_switch`."""

    def __init__(self):
        import ipywidgets

        from .cells import close_when_run_again

        style = {"button_width": "max-content"}
        options = [(label, code) for code, label in LANGUAGES.items()]
        self.buttons = ipywidgets.ToggleButtons(options=options, value=language(), style=style)
        looks = [(" ".join(names), name) for name, names in LOOKS.items()]
        self.looks = ipywidgets.ToggleButtons(options=looks, value=look(), style=style)
        row = ipywidgets.Box([self.buttons, self.looks], layout={"flex_flow": "row wrap"})
        self.style = ipywidgets.HTML()
        self.widget, self.closed = ipywidgets.VBox([row, self.style]), False
        self.buttons.observe(self._chosen, names="value")  # bound methods: the buttons keep the switch alive
        self.looks.observe(self._look_chosen, names="value")
        on_language_change(self._follow)
        on_look_change(self._follow)
        close_when_run_again(self)
        self._follow()

    def close(self):
        """Take it off the screen; it follows no further changes."""
        from .cells import close_widgets

        if not self.closed:
            self.closed = True
            self.buttons.unobserve(self._chosen, names="value")
            self.looks.unobserve(self._look_chosen, names="value")
            close_widgets(self.widget)

    def _chosen(self, change):
        set_language(change["new"])

    def _look_chosen(self, change):
        set_look(change["new"])

    def _follow(self):
        if self.closed:
            return
        self.buttons.value, self.looks.value = language(), look()
        code = language()
        style = f'<style data-code="{code}" onload="{_MARK}">{_STYLES[code]}</style>'
        self.style.value = f'<span class="nc-{code}"></span>{style}'

    def _repr_mimebundle_(self, **kwargs):
        return widget_bundle(None if self.closed else self.widget, "中文 | English | 并排 Side by side")


def language_switch(code=None):
    """The buttons 中文 / English / 并排 Side by side, and 浅色 light / 深色 dark for the pictures. In JupyterLab
    the language hides the other one's prose in this notebook or lays both out in two columns; the labels of all
    explorers follow everywhere. From here on the headers of DataFrames have their Chinese names beside them.

    Args: code: the language to begin with: "zh", "en" or "both"; by default the one in force, which at first is
        the environment variable NORMCOURSE_LANGUAGE, or else "both".
    """
    if code is not None:
        set_language(code)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "display_formatter"):
        for module in ("pandas.core.frame", "pandas"):  # where a DataFrame says it is from, before pandas 3 and since
            shell.display_formatter.formatters["text/html"].for_type_by_name(module, "DataFrame", table)
    return LanguageSwitch()


def header(name):
    """What a table's header is called in Chinese, None where it has no other name."""
    zh = _HEADERS.get(name) or TERMS.get(name, (None,))[0]
    return None if zh == name else zh


def table(frame):
    """A DataFrame as HTML, its headers in Chinese too; the names in code stay, they are what one types."""
    page = frame._repr_html_()
    if page is None or language() == "en":
        return page

    def both(found):
        zh = header(found[2])
        return f'{found[1]}{found[2]}<span lang="zh"><br>{zh}</span>{found[3]}' if zh else found[0]

    return re.sub(r"(<th[^>]*>)([^<]+)(</th>)", both, page)


def widget_bundle(widget, alt, png=None):
    """What a cell shows: the live widget (None once it is closed), and for a reader without a kernel the picture
    (base64) with its alt text."""
    bundle, metadata = {}, {}
    if widget is not None:
        view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        bundle["application/vnd.jupyter.widget-view+json"] = view
    bundle["text/plain"] = alt
    if png is not None:
        bundle["image/png"], metadata["image/png"] = png, {"alt": alt}
    return bundle, metadata


if os.environ.get("NORMCOURSE_LANGUAGE"):
    set_language(os.environ["NORMCOURSE_LANGUAGE"])
