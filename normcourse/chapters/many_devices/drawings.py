"""The drawings of chapter 11: bytes on the wire."""

from ...canvas import BLUE, GREEN, GREY, VERMILLION, curve, finding, setup, text, theory

_WAYS = {
    "gather": (("凑齐特征", "gather features"), VERMILLION, "s"),
    "statistics": (("合并统计量", "merge statistics"), BLUE, "o"),
    "tokens": (("按词元切", "split by tokens"), GREEN, "D"),
}


def on_the_wire(frame, ax):
    """Bytes that a rank sends for one token, forward, against the hidden size; log scales, and nothing at the bottom.

    Columns: way, hidden_size, bytes (sent), theory, shown (bytes, or the bottom where it is none); ranks, here.
    """
    ranks, here = frame["ranks"].iloc[0], frame["here"].iloc[0]
    x, y = ("特征数 d", "features d"), ("每个进程发出的字节", "bytes sent by a rank")
    setup(ax, x, y, (55, 4700), (0.7, 3e5), "log", "log")
    sent = {}
    for way, rows in frame.groupby("way", sort=False):
        words, colour, marker = _WAYS[way]
        style = {"color": colour, "marker": marker, "markevery": 1}
        curve(ax, way, rows["hidden_size"], rows["bytes"].clip(lower=1), text(*words), **style)
        sent[way] = rows.loc[rows["hidden_size"] == here, "bytes"].iloc[0]
        if way == "gather":
            law = rows["theory"].to_numpy()
            theory(ax, "law", rows["hidden_size"].to_numpy(), law, "4 d (P − 1) / P", at=300)
    ax.axvline(here, color=GREY, linewidth=1.2)
    zh = f"{ranks} 个进程，d = {here}：凑齐发 {sent['gather']:.0f} 字节，合并发 {sent['statistics']:.0f}，按词元切 0"
    en = f"{ranks} ranks, d = {here}: {sent['gather']:.0f} bytes gathered, {sent['statistics']:.0f} merged, 0 by tokens"
    finding(ax, zh, en)
