"""Makes NormCourseSans.otf, the subset of Noto Sans SC that the figures are set in.

apt-get install fonts-noto-cjk && pip install fonttools && python -m tools.make_font
"""

from fontTools import subset
from fontTools.ttLib import TTCollection

from . import ROOT

SOURCE = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
SYMBOLS = "−×·÷±∞≈≠≤≥∂∇∑∏‖∥→←↑↓↔⇒…—–‘’“”•°½¼¾⊙⊕⊗∈ℓ①②③④⑤⑥⑦⑧⑨○●△▲□■◇◆★"
LEVEL_1 = [bytes([row, cell]).decode("gb2312", "ignore") for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)]
PUNCTUATION = [bytes([row, cell]).decode("gb2312", "ignore") for row in (0xA1, 0xA3) for cell in range(0xA1, 0xFF)]
TEXT = SYMBOLS + "".join(LEVEL_1 + PUNCTUATION)
CODES = {
    *range(0x20, 0x7F),
    *range(0xA0, 0x100),
    *range(0x391, 0x3A2),
    *range(0x3A3, 0x3AA),
    *range(0x3B1, 0x3CA),
    *map(ord, TEXT),
}
CODES -= set(map(ord, "¹²³√"))  # superscripts come from one fallback font; its root stands close to what is under it

font = next(f for f in TTCollection(SOURCE) if f["name"].getDebugName(1) == "Noto Sans CJK SC")
options = subset.Options(
    layout_features=[], hinting=False, desubroutinize=False, name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14]
)
subsetter = subset.Subsetter(options)
subsetter.populate(unicodes=CODES)
subsetter.subset(font)
for record in font["name"].names:  # a name of its own: an installed Noto Sans must not be taken in its place
    if record.nameID in (1, 3, 4, 6):
        record.string = "NormCourseSans" if record.nameID == 6 else "NormCourse Sans"
missing = sorted(chr(c) for c in CODES if c not in font.getBestCmap())
target = ROOT / "normcourse/data/font/NormCourseSans.otf"
font.save(target)
print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, {len(font.getBestCmap())} characters")
print(f"not in Noto Sans SC: {missing or 'nothing'}")
