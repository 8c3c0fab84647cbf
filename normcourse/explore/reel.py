"""The reel: pictures drawn ahead lie in the browser, where a control steps through them without the kernel.

A `Tab` without its bar has an image for each number of a control, and the browser links the one it shows to the control
that moved last. It keeps those it does not show, so that a step makes no new element. They lie on the live `Image` that
the kernel fills: at a position whose picture was not sent one sees that, with the picture shown last, and where this
lasts, because the kernel is busy, the browser says by itself that it is computing. The images stay the same ones and
get new pictures: with other children, a `Tab` loses which one it shows.
"""

import base64
import itertools

import ipywidgets
import traitlets

from ..i18n import text

BYTES_SENT = 6_000_000  # the pictures of one explorer in the browser
NUMBERS = 200  # a control with more of them goes through the kernel
NOTHING = b"data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="  # one transparent pixel
SIGN = """<svg xmlns="http://www.w3.org/2000/svg" width="220" height="26"><rect width="220" height="26" fill="#eee"/>
<text x="10" y="18" font-size="14" font-family="sans-serif" fill="#333">{}</text></svg>"""

# ipywidgets leaves its pictures without an alternative text, and the handles of its sliders and the buttons of its Play
# without a name: they get them in the browser, again whenever a word changes. Where such a script may not run, pictures
# keep their words as titles, and nothing else is missing.
NAMES = """const box = this.closest('.nc-explorer'), buttons = ['播放 play', '停止 stop', '重复 repeat'];
const name = () => {
  for (const image of box.querySelectorAll('img[title]')) { image.alt = image.title; image.removeAttribute('title') }
  for (const handle of box.querySelectorAll('.noUi-handle')) {
    const label = handle.closest('.widget-inline-hbox')?.querySelector('.widget-label');
    if (label && handle.ariaLabel !== label.textContent) handle.ariaLabel = label.textContent }
  for (const play of box.querySelectorAll('.widget-play'))
    play.querySelectorAll('button').forEach((button, i) => { button.ariaLabel = buttons[i] });
  const images = [...box.querySelectorAll('.nc-reel img')];
  const shown = images.findIndex(image => !image.classList.contains('lm-mod-hidden'));
  images.forEach((image, i) => image.toggleAttribute('data-near', i !== shown && Math.abs(i - shown) < 3)) };
const watched = { subtree: true, childList: true, characterData: true, attributeFilter: ['title', 'class'] };
if (box) { name(); new MutationObserver(name).observe(box, watched) }"""

# The images of the reel without the bar of tabs over them; and controls that a phone has room for. Of the explorer that
# is at hand, the two images before the one shown and the two after it (`NAMES` says which) are laid out and not seen,
# each with a layer of its own: so the browser has decoded and drawn a picture before it gets there. Not by `:has`, for
# which the browser would look through the whole notebook at each step.
STYLE = (
    f"""<style onload="{NAMES}">"""
    + """@keyframes nc-wait { 0%, 99% { opacity: 0 } 100% { opacity: 1 } }
.jupyter-widgets.nc-reel > .widget-tab-bar { display: none }
.jupyter-widgets.nc-reel > .widget-tab-contents {
  display: grid; grid-template-columns: minmax(0, 1fr); padding: 0; border: 0; overflow: hidden; background: none }
.nc-reel img { display: block; grid-area: 1 / 1 }
.nc-explorer:is(:hover, :focus-within) .nc-reel img { will-change: transform }
.nc-explorer:is(:hover, :focus-within) .nc-reel img[data-near][src^="data:image/png"] {
  display: block !important; visibility: hidden }
.nc-reel img[src^="data:image/gif"] { height: 0; visibility: hidden }
.nc-reel img[src^="data:image/svg"] {
  animation: nc-wait .6s; height: 26px; object-fit: none !important; object-position: 0 0 }
@media (max-width: 600px) {
  .nc-controls > .widget-hbox { flex-flow: row wrap; width: 100%; margin: 0 !important }
  .nc-controls .widget-inline-hbox { flex: 1 1 12em; width: 12em !important; height: auto; align-items: center }
  .nc-controls .widget-inline-hbox > .widget-label {
    width: 6em !important; height: auto; white-space: normal; line-height: 1.2 }
}</style>"""
)


class Picture(bytes):
    """PNG bytes, and in `alt` what they show in words."""

    def __new__(cls, png, alt):
        picture = super().__new__(cls, png)
        picture.alt = alt
        return picture


class Image(ipywidgets.Image):
    """An image that says what it shows: as its title, of which the browser makes the alternative text (`NAMES`)."""

    description = traitlets.Unicode("").tag(sync=True)  # without one, ipywidgets sets no title

    def show(self, value, alt):
        with self.hold_sync():
            self.value, self.tooltip = value, alt


class Reel:
    """The pictures along one control, with the others as they stand: its `star`.

    Args:
        live: the Image that the kernel fills.
        controls: those that the browser can follow, see `Control.follow`; the first is linked first.
    """

    def __init__(self, live, controls):
        self.live, self.control, self.star = live, controls[0], None
        self.sent, self.bytes = {}, 0  # position along the control: (address of its picture, what it shows)
        self.there = None  # the position whose picture the live image has
        self.waiting = _sign()
        numbers = range(max(len(control.stops) for control in controls))
        self.pictures = [Image(value=NOTHING, format="url", layout=live.layout) for _ in numbers]
        place = {"grid_area": "1 / 1", "overflow": "hidden", "margin": "0"}
        self.tab = ipywidgets.Tab(self.pictures, selected_index=getattr(*self.control.source), layout=place)
        self.tab.add_class("nc-reel")
        live.layout.grid_area = place["grid_area"]
        columns = {"grid_template_columns": "minmax(0, 1fr)", "overflow": "hidden"}
        self.widget = ipywidgets.GridBox([live, self.tab], layout=columns)
        self.link = ipywidgets.jsdlink(self.control.source, (self.tab, "selected_index"))

    def turn(self, control, star, there):
        """Follow this control. In a new star the browser holds no picture yet; the live image may have that of the
        position `there`."""
        if star == self.star and there in (None, self.there, *self.sent):
            return
        if star != self.star:
            self.sent, self.bytes, self.star, self.waiting = {}, 0, star, _sign()
        self.there = there
        if control is not self.control:
            self.control, self.link.source = control, control.source
        for picture, index in itertools.zip_longest(self.pictures, control.stops):
            here = (NOTHING, "") if index in (None, self.there) else self.waiting
            picture.show(*self.sent.get(index, here))

    def takes(self, star, index):
        return star == self.star and index not in self.sent and self.bytes < BYTES_SENT

    def send(self, index, picture):
        """Send the picture of a position: as a data URL, which browsers have at once, and not the address of bytes,
        which they have only after asking another process."""
        url = b"data:image/png;base64," + base64.b64encode(picture)
        self.sent[index] = url, picture.alt
        self.bytes += len(url)
        self.pictures[self.control.stops.index(index)].show(*self.sent[index])


def _sign():
    words = text("计算中 …", "computing …", between=" ")
    return b"data:image/svg+xml;base64," + base64.b64encode(SIGN.format(words).encode()), words
