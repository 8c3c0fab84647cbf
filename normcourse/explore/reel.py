"""The reel: pictures drawn ahead lie in the browser, where a control steps through them without the kernel.

A `Stack` shows the child at its `selected_index`, which the browser links to the control that moved last. It lies on
the live `Image` that the kernel fills. For the moment that the browser takes to decode a picture the stack is empty:
then one sees the live image, with the picture shown last. So it is at a position whose picture was not sent, and where
that lasts, because the kernel is busy, the browser says by itself that it is computing.
"""

import base64
import time

import ipywidgets

from ..cells import close_widgets
from ..i18n import text

BYTES_SENT = 6_000_000  # the pictures of one explorer in the browser
BATCH = 0.2  # seconds
NUMBERS = 500  # a control with more of them goes through the kernel
WAITING = """<style>@keyframes nc-wait {{ 0%, 99% {{ opacity: 0 }} 100% {{ opacity: 1 }} }}
.nc-wait {{ animation: nc-wait .6s; display: inline-block; padding: 0 .6em; color: #333; background: #eee }}</style>
<span class="nc-wait">{}</span>"""


class Reel:
    """The pictures along one control, with the others as they stand: its `star`.

    Args:
        live: the Image that the kernel fills.
        controls: those that the browser can follow, see `Control.follow`; the first is linked first.
    """

    def __init__(self, live, controls):
        self.live, self.control, self.star = live, controls[0], None
        self.sent, self.bytes = {}, 0  # position along the control: Image
        self.unlaid, self.laid = False, 0.0
        self.there = None  # the position whose picture the live image has
        self.length = max(len(control.stops) for control in controls)
        self.waiting, self.empty = ipywidgets.HTML(), ipywidgets.Box()
        number = getattr(*self.control.source)
        place = {"grid_area": "1 / 1", "overflow": "hidden"}
        self.stack = ipywidgets.Stack([self.empty] * self.length, selected_index=number, layout=place)
        live.layout.grid_area = place["grid_area"]
        columns = {"grid_template_columns": "minmax(0, 1fr)", "overflow": "hidden"}
        self.widget = ipywidgets.GridBox([live, self.stack], layout=columns)
        self.link = ipywidgets.jsdlink(self.control.source, (self.stack, "selected_index"))

    def turn(self, control, star, there):
        """Follow this control. In a new star the browser holds no picture yet; the live image may have that of the
        position `there`."""
        if star == self.star:
            if there not in (None, self.there, *self.sent):
                self.there = there
                self._lay()
            return
        old, self.sent, self.bytes, self.star, self.there = self.sent, {}, 0, star, None
        self.waiting.value = WAITING.format(text("计算中 …", "computing …", between=" "))
        if old:
            self._lay()
            for image in old.values():
                image.close()
        if control is not self.control:
            self.control, self.link.source = control, control.source
        self.there = there
        self._lay()

    def takes(self, star, index):
        return star == self.star and index not in self.sent and self.bytes < BYTES_SENT

    def send(self, index, picture):
        """Send the picture of a position. The browser finds it after the next `lay`.

        As a data URL: browsers have that at once, and the address of bytes only after asking another process.
        """
        address = b"data:image/png;base64," + base64.b64encode(picture)
        self.sent[index] = ipywidgets.Image(value=address, format="url", layout=self.live.layout)
        self.bytes += len(address)
        self.unlaid = True

    def lay(self, at_once=True):
        """Have the browser find what was sent: once for several pictures where they come fast."""
        if self.unlaid and (at_once or time.monotonic() - self.laid > BATCH):
            self._lay()

    def close(self):
        self.link.close()
        for image in self.sent.values():
            image.close()
        close_widgets(self.waiting)
        close_widgets(self.empty)

    def _lay(self):
        self.unlaid, self.laid = False, time.monotonic()
        places = {self.there: self.empty, **self.sent}
        children = [places.get(index, self.waiting) for index in self.control.stops]
        self.stack.children = children + [self.empty] * (self.length - len(children))
