"""One small training loop: Adam, cross-entropy, a progress bar with a stop button, and the history as a DataFrame."""

import time

import torch
import torch.nn.functional as F

from .measure import euclidean_norms


def train(model, batches, *, steps, learning_rate, warmup=0, clip=None, progress=True, every=1, **labels):
    """Train `model` to predict integer targets.

    Args:
        model: from the inputs to logits (..., classes).
        batches: iterator of (inputs, targets), targets int64 of shape (...).
        steps: number of batches.  learning_rate: Adam's, after `warmup` steps of linear rise.
        clip: largest gradient norm; None for no clipping.
        progress: show a bar with a stop button in a notebook. Interrupting the kernel (■) also ends the run early; what
            was recorded until then is returned.
        every: record one step in so many.

    Returns: columns `step`, `loss` (nats per target, of that step's batch), `gradient_norm` (all parameters, before
        clipping), and the labels. A loss that is not finite ends the run; its row
        is the last, and the model stays as it was before that step.
    """
    if steps < 1 or learning_rate <= 0:
        raise ValueError(
            f"steps is {steps} and learning_rate is {learning_rate}; expected steps >= 1 and learning_rate > 0"
        )
    import pandas

    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    rows, bar = [], Progress(steps) if progress else None
    model.train()
    try:
        for step, (inputs, targets) in zip(range(1, steps + 1), batches):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * min(1.0, step / max(1, warmup))
            logits = model(inputs)
            loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
            optimiser.zero_grad()
            loss.backward()
            norm = euclidean_norms([p.grad for p in model.parameters() if p.grad is not None]).norm()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            finite = bool(torch.isfinite(loss))
            if finite:
                optimiser.step()
            if step % every == 0 or step == steps or not finite:
                rows.append((step, float(loss.detach()), float(norm)))
            if not finite or (bar and bar.stopped(step, f"loss {float(loss.detach()):.3f}")):
                break
    except KeyboardInterrupt:
        pass
    finally:
        if bar:
            bar.close()
    return pandas.DataFrame(rows, columns=["step", "loss", "gradient_norm"]).assign(**labels)


class Progress:
    """A bar, a few words, and a stop button. The button works while the cell runs where the front end talks to the
    kernel beside the running cell (JupyterLab 4.4 and later); elsewhere interrupt the kernel."""

    def __init__(self, steps):
        import ipywidgets
        from IPython.display import display

        self.steps, self.pressed, self.shown = steps, False, 0.0
        self.bar = ipywidgets.IntProgress(max=steps, layout={"width": "20em"})
        self.words = ipywidgets.Label()
        self.button = ipywidgets.Button(description="停止 stop", icon="stop", layout={"width": "8em"})
        self.button.on_click(lambda _: setattr(self, "pressed", True))
        self.row = ipywidgets.HBox([self.bar, self.words, self.button])
        display(self.row)

    def stopped(self, step, words=""):
        """Show that `step` steps are done; True once the button was pressed."""
        if time.monotonic() - self.shown > 0.1 or step == self.steps:
            self.shown = time.monotonic()
            self.bar.value = step
            self.words.value = f"{step} / {self.steps}   {words}"
        return self.pressed

    def close(self):
        self.button.disabled = True
