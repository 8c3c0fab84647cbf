"""Wirings and norms as registered classes: what derives from them, checked against tables written out here."""

import itertools
import re
import tomllib

import pytest
import torch
from torch import nn

from normcourse import canvas, measure, theory
from normcourse.canvas import STYLES
from normcourse.chapters import FOLDER
from normcourse.headers import HEADERS
from normcourse.i18n import GLOSSARY, OF_CHAPTERS, TERMS, WORDS, header, set_language, term
from normcourse.models import deep_mlp
from normcourse.norms import NORMS, LayerNorm
from normcourse.registry import Look, Registry
from normcourse.residual import PLACEMENTS, PeriNorm, Placement, PreNorm
from normcourse.theory.laws import LAWS
from tools.build_notebooks import lessons, read

from .lessons import definitions
from .test_measure import agrees

# Okabe & Ito, "Color Universal Design" (2008), figure 16, without black and yellow; and a grey.
OKABE_ITO = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#888888",
    # and five farther from them than they are from each other, under simulated colour blindness too: test_pictures
    "violet": "#A100F2",
    "brown": "#8C5438",
    "mint": "#8CD098",
    "slate": "#596B7A",
    "sand": "#CDBB5E",
}
# What the prose of the chapters calls them, and how the course has drawn them from its first chapter on.
EXPECTED = {
    "plain": ("普通", "plain", "vermillion", "o", "-"),
    "residual": ("残差", "residual", "green", "s", "-"),
    "highway": ("高速", "highway", "purple", "^", "-"),
    "post_norm": ("后置归一化", "Post-Norm", "orange", "D", "-"),
    "pre_norm": ("前置归一化", "Pre-Norm", "blue", "v", "-"),
    "res_post_norm": ("残差后归一化", "Res-Post-Norm", "sky", "P", "--"),
    "peri_norm": ("双侧归一化", "Peri-Norm", "violet", "X", "-"),
    "deep_norm": ("DeepNorm", "DeepNorm", "brown", "p", "--"),
    "rezero": ("ReZero", "ReZero", "mint", "<", "--"),
    "layer_scale": ("LayerScale", "LayerScale", "sand", ">", "--"),
    "scaled_pre_norm": ("缩放前置归一化", "Scaled Pre-Norm", "slate", "h", "--"),
    "hyper_connection": ("超连接", "hyper-connection", "grey", "*", "-"),
    "layer_norm": ("层归一化", "LayerNorm", "blue", "o", "-"),
    "rms_norm": ("RMSNorm", "RMSNorm", "orange", "s", "-"),
    "batch_norm": ("批归一化", "BatchNorm", "green", "D", "--"),
    "dyt": ("DyT", "DyT", "purple", "v", "--"),
    "none": ("没有归一化", "no norm", "vermillion", "^", "-"),
}
# The usual translations, as Chinese textbooks have them (Qiu, "Neural Networks and Deep Learning", and Zhang et al.,
# "Dive into Deep Learning"); what only this course says is not here.
STANDARD = {
    "activation function": "激活函数",
    "batch normalisation": "批归一化",
    "closed form": "闭式解",
    "degradation": "退化",
    "exploding gradient": "梯度爆炸",
    "gate": "门控",
    "gradient": "梯度",
    "gradient norm": "梯度范数",
    "hidden state": "隐藏状态",
    "highway network": "高速网络",
    "initialisation": "初始化",
    "Jacobian": "雅可比矩阵",
    "layer normalisation": "层归一化",
    "learning rate": "学习率",
    "mean-field theory": "平均场理论",
    "Post-Norm": "后置归一化",
    "Pre-Norm": "前置归一化",
    "residual branch": "残差分支",
    "residual connection": "残差连接",
    "root mean square": "均方根",
    "singular value": "奇异值",
    "skip": "跳跃连接",
    "standard error": "标准误差",
    "vanishing gradient": "梯度消失",
    "variance": "方差",
    "warm-up": "预热",
    "weight": "权重",
}
REGISTERED = {**PLACEMENTS, **NORMS}
# A law is missing on purpose: several streams; statistics over the batch; a tanh, after which nothing is Gaussian.
WITHOUT_LAW = {"hyper_connection", "batch_norm", "dyt"}
each_pair = pytest.mark.parametrize(("placement", "norm"), [*itertools.product(PLACEMENTS, NORMS)])


@pytest.mark.parametrize("name", EXPECTED)
def test_titles_and_looks_are_those_of_the_course(name):
    zh, en, colour, marker, dash = EXPECTED[name]
    assert TERMS[name] == (zh, en) == REGISTERED[name].title
    assert STYLES[name] == (OKABE_ITO[colour], marker, dash)


@pytest.mark.parametrize("english", STANDARD)
def test_the_glossary_has_the_standard_translation(english):
    assert GLOSSARY[english] == STANDARD[english]


def test_a_chapter_names_its_own_controls_and_headers_and_takes_no_name_that_is_there():
    files = {path.parent.name: tomllib.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*/words.toml")}
    names = [name for words in files.values() for name in words.get("controls", {})]
    assert len(names) == len({*names} - {*WORDS} - {*REGISTERED}) and {*names} == {*OF_CHAPTERS}
    for words in files.values():
        assert set(words) <= {"controls", "headers"}
        for name, (zh, en) in words.get("controls", {}).items():
            assert TERMS[name] == (zh, en) and not re.search("[\u4e00-\u9fff]", en)
        for name, zh in words.get("headers", {}).items():
            assert header(name) == zh and name not in HEADERS and name not in TERMS


@pytest.mark.parametrize("name", REGISTERED)
def test_everything_registered_has_its_name_titles_look_and_formula(name):
    cls = REGISTERED[name]
    assert cls.name == name and cls.__doc__ and cls.formula
    zh, en = TERMS[name]
    assert zh and en and not re.search("[\u4e00-\u9fff]", en)
    assert re.search("[\u4e00-\u9fff]", zh) or zh == en, "a name that is no Chinese is the same in both languages"
    assert isinstance(STYLES[name], Look)
    assert name not in WORDS, "its title stands with its class"


def test_no_two_looks_are_the_same_and_colour_is_never_the_only_cue():
    assert set(OKABE_ITO.values()) >= {STYLES[name].colour for name in REGISTERED}
    assert not set(PLACEMENTS) & set(NORMS)
    assert len({STYLES[name] for name in REGISTERED}) == len(REGISTERED)
    for registry in (PLACEMENTS, NORMS):
        assert len({STYLES[name].marker for name in registry}) == len(registry)
        for one, other in itertools.combinations((STYLES[name] for name in registry), 2):
            assert one.colour != other.colour or (one.marker != other.marker and one.dash != other.dash)


@pytest.fixture
def sandwich():
    """A wiring that somebody adds, in one place; afterwards it is gone."""
    before = dict(PLACEMENTS), dict(TERMS), dict(STYLES), dict(LAWS)

    @PLACEMENTS.register
    class Sandwich(PeriNorm):
        """Sandwich-LN (Ding et al., "CogView" 2021) whose output norm starts small."""

        name, title, look = "sandwich", ("夹心归一化", "Sandwich-LN"), Look(OKABE_ITO["grey"], "d", "--")
        formula = "x + norm(f(norm(x))), γ = 0.1"

        def __init__(self, hidden_size, *args, **kwargs):
            super().__init__(hidden_size, *args, **kwargs)
            nn.init.constant_(self.norm_out.weight, 0.1)

    yield Sandwich
    del PLACEMENTS["sandwich"]
    LAWS.pop(Sandwich, None)
    assert before == (dict(PLACEMENTS), dict(TERMS), dict(STYLES), dict(LAWS))


def test_a_wiring_that_is_registered_is_everywhere_at_once(sandwich):
    assert PLACEMENTS["sandwich"] is sandwich and list(PLACEMENTS)[-1] == "sandwich"
    assert TERMS["sandwich"] == ("夹心归一化", "Sandwich-LN") and "sandwich" in set(TERMS)
    assert STYLES["sandwich"] == ("#888888", "d", "--")
    test_no_two_looks_are_the_same_and_colour_is_never_the_only_cue()
    try:
        set_language("zh")
        assert term("sandwich") == "夹心归一化"
    finally:
        set_language("both")
    model = deep_mlp(3, 8, "sandwich", "layer_norm")
    assert len(measure.gradient_norms(model)) == 4
    with pytest.raises(ValueError, match=r"unknown placement 'x'; known are plain, .*, sandwich"):
        deep_mlp(3, 8, "x")
    with pytest.raises(ValueError, match="no closed form for placement 'sandwich'; known are plain"):
        theory.mean_field("sandwich", 3)  # the law of Peri-Norm is not that of a class derived from it

    @theory.law(sandwich)
    def small_peri_norm(q, branch, norm, layer, depth):
        step = LAWS[PeriNorm](q, branch, norm, layer, depth)
        return step._replace(forward=q + 0.01, backward=1 + (step.backward - 1) / 100, reaches=step.reaches / 100)

    assert theory.has_law("sandwich")
    assert theory.mean_field("sandwich", 10)[0][-1] == pytest.approx(1.1)
    last = [measure.variances(deep_mlp(10, 128, "sandwich", seed=s), seed=s)["variance"].iloc[-1] for s in range(8)]
    start = [measure.variances(deep_mlp(10, 128, "sandwich", seed=s), seed=s)["variance"].iloc[0] for s in range(8)]
    assert sum(last) / sum(start) == pytest.approx(1.1, rel=0.02)


@pytest.mark.parametrize(
    ("number", "experiment", "drawing", "panels"),
    [
        ("06", "block", "block_diagram", 2),
        ("07", "stream_variance", "stream_variance", 1),
        ("07", "layer_updates", "layer_updates", 2),
    ],
)
def test_a_wiring_without_a_law_is_drawn_where_all_are_listed(sandwich, number, experiment, drawing, panels):
    lesson = definitions(number, *(["WIRINGS"] if number == "07" else []))
    assert "sandwich" in lesson.get("WIRINGS", PLACEMENTS)
    default = {"placement": "sandwich", **({} if number == "06" else {"depth": 5})}
    frame = lesson[experiment](**default)
    mine = frame[frame["placement"] == "sandwich"]
    expected = mine[[column for column in mine if column.startswith("theory")]]
    assert len(mine) and expected.isna().all(axis=None)
    figure, _ = canvas.new_figure(ncols=panels)
    canvas.redraw(figure, getattr(lesson["drawings"], drawing), frame)
    assert "Sandwich" in "".join(ax.get_title(loc="left") for ax in figure.axes)


def test_every_explorer_of_all_wirings_names_none_of_them():
    """Those that list all take them from the registry; a list in a lesson is a choice, and shorter."""
    for lesson in lessons():
        for cell in read(lesson.source).cells:
            listed = re.findall(r"placement=\[([^\]]*)\]", cell.source)
            assert all(choice.count('"') // 2 <= 4 for choice in listed), f"{lesson.name}: {listed}"


def test_what_cannot_be_registered_is_refused_in_words():
    registry = Registry("norm")

    class Nameless(nn.Module):
        title, look = ("无名", "nameless"), Look("#000000", "o")

    with pytest.raises(TypeError, match="Nameless has no name; a norm has a name, a title and a look"):
        registry.register(Nameless)
    registry["taken"] = LayerNorm
    Nameless.name = "taken"
    with pytest.raises(ValueError, match="'taken' belongs to LayerNorm; give Nameless its own"):
        registry.register(Nameless)
    Nameless.name = "mine"
    first = registry.register(Nameless)
    again = type("Nameless", (first,), {"__qualname__": first.__qualname__, "__module__": first.__module__})
    assert registry.register(again) is again and registry["mine"] is again  # a cell that is run twice
    assert registry.each("title")["mine"] == ("无名", "nameless") and len(registry.each("title")) == 2


def test_a_wiring_of_a_learner_without_a_name_is_not_registered():
    before = list(PLACEMENTS)

    class Mine(Placement):
        def forward(self, x):
            return x

    assert list(PLACEMENTS) == before and deep_mlp(2, 4, Mine)(torch.ones(4)).shape == (4,)


# --- what the classes say of themselves -------------------------------------------------------------------------------


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_a_wiring_is_additive_exactly_if_it_leaves_x_as_it_is_beside_a_branch_that_is_zero(name):
    x = 3 * torch.randn(4, 8, generator=torch.Generator().manual_seed(0)) + 1
    block = PLACEMENTS[name](8, Nothing(), "layer_norm")
    assert PLACEMENTS[name].additive == torch.equal(block(x), x)


@pytest.mark.parametrize("name", [name for name, cls in PLACEMENTS.items() if cls.uses_norm])
def test_a_branch_reads_a_normalised_state_exactly_if_what_it_reads_does_not_grow_with_the_input(name):
    read = []
    model = deep_mlp(2, 64, name, "layer_norm")
    model.blocks[1].sublayer.register_forward_pre_hook(lambda module, args: read.append(float(args[0].detach().std())))
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    model(x), model(10 * x)
    assert PLACEMENTS[name].reads_normalised == (read[1] == pytest.approx(read[0], rel=1e-3))


# --- laws -------------------------------------------------------------------------------------------------------------


@each_pair
def test_theory_has_a_law_that_the_measurement_follows_or_says_that_it_has_none(placement, norm):
    """Networks of infinite width against 8 of finite width; the bound is that of tests/test_measure.py."""
    without = not PLACEMENTS[placement].uses_norm
    if placement in WITHOUT_LAW or (norm in WITHOUT_LAW and not without):
        assert not theory.has_law(placement, norm)
        both = f"'{placement}'" if placement in WITHOUT_LAW else f"'{placement}' with norm '{norm}'"
        for call in (theory.mean_field, theory.updates, theory.amplification):
            with pytest.raises(ValueError, match=f"no closed form for placement {both}; known are"):
                call(placement, 5, norm=norm)
        with pytest.raises(ValueError, match=both):
            theory.weight_gradients(placement, 5, 64, norm=norm)
        return
    assert theory.has_law(placement, norm)
    if without:  # no norm is built, whichever is named
        assert theory.mean_field(placement, 5, norm=norm) == theory.mean_field(placement, 5)
        return
    depth, width, gain = 10, 192, 1.2
    forward, backward = theory.mean_field(placement, depth, gain, norm=norm)
    weights = theory.weight_gradients(placement, depth, width, gain, norm=norm)
    logs = []
    for seed in range(8):
        model = deep_mlp(depth, width, placement, norm, gain=gain, seed=seed)
        gradients = measure.gradient_norms(model, seed=seed)
        variances = measure.variances(model, seed=seed)["variance"]
        logs.append(
            (
                torch.tensor(gradients["gradient_norm"][0] / gradients["gradient_norm"][depth]).log(),
                torch.tensor(variances[depth]).log() / 2,
                torch.tensor(gradients["weight_gradient_norm"][depth]).log(),
            )
        )
    expected = [torch.tensor(value).log() for value in (backward[0], forward[-1] ** 0.5, weights[-1])]
    for measured, value in zip(zip(*logs), expected):
        agrees(measured, float(value), depth, width)


def test_without_a_norm_the_wirings_around_one_are_the_residual_stack():
    for placement in ("post_norm", "pre_norm", "res_post_norm", "peri_norm"):
        found = theory.mean_field(placement, 12, 1.3, "tanh", norm="none")
        for values, expected in zip(found, theory.mean_field("residual", 12, 1.3, "tanh")):
            assert values == pytest.approx(expected), placement


@pytest.mark.parametrize(("layers", "initial"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)])
def test_layer_scale_has_in_theory_the_scale_of_its_paper(layers, initial):
    """Each branch of ReLU has the variance 1/2 before the scale."""
    q, _ = theory.mean_field("layer_scale", layers)
    assert q[-1] - 1 == pytest.approx(layers * initial**2 / 2, rel=1e-3)


def test_laws_of_stale_and_merged_branches_need_a_norm_that_sets_the_variance():
    for norm in ("none", "dyt", "batch_norm"):
        with pytest.raises(ValueError, match=f"'pre_norm' with norm '{norm}'; known are layer_norm, rms_norm"):
            theory.stale_branches("pre_norm", 5, norm=norm)
        with pytest.raises(ValueError, match=f"'post_norm' with norm '{norm}'; known are layer_norm, rms_norm"):
            theory.merged("post_norm", 5, 2, norm=norm)
    assert theory.stale_branches("peri_norm", 5, norm="rms_norm") == theory.stale_branches("peri_norm", 5)
    with pytest.raises(ValueError, match="with norm 'LayerNorm'"):
        theory.mean_field(PreNorm, 3, norm=nn.LayerNorm)


def test_stale_branches_of_every_wiring_that_has_the_law_follow_it():
    depth, width = 12, 192
    for placement, cls in PLACEMENTS.items():
        if cls.reads_normalised and theory.has_law(placement):
            expected = theory.stale_branches(placement, depth)[-1]
            frames = [measure.stale_branches(deep_mlp(depth, width, placement, seed=s), seed=s) for s in range(8)]
            values = torch.tensor([frame["difference"].iloc[-1] for frame in frames], dtype=torch.float64)
            allowed = 4 * float(values.std()) / 8**0.5 + 5 * depth / (4 * width) * expected
            assert abs(float(values.mean()) - expected) <= allowed, placement
