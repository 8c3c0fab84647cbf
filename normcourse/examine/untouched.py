"""A model is examined and afterwards is what it was, bit for bit, also where the examination fails."""

import contextlib
import random
import sys

import torch

from ..models import one_at_a_time


@contextlib.contextmanager
def untouched(model):
    """Put back whatever a run changes: buffers, attributes of modules (mode included), gradients, random states; for
    one thread at a time, as the random states are those of all.

    What was set on a module anew goes away again. The values of parameters are not copied, as a large model would need
    its memory twice: a model that writes to its own parameters in `forward` keeps what it wrote.
    """
    with one_at_a_time:
        modules = list(model.modules())
        attributes = [dict(vars(module)) for module in modules]
        tables = [(table, dict(table)) for module in modules for table in (module._parameters, module._buffers)]
        parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
        buffers = [(b, b.detach().clone()) for b in model.buffers() if not b.is_inference()]
        generators = _random_states()
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, values in buffers:
                    if not torch.equal(buffer, values):  # batch norm writes without counting a new version
                        buffer.copy_(values)
                for parameter, requires_grad, grad in parameters:
                    parameter.requires_grad_(requires_grad)
                    parameter.grad = grad
            for table, before in tables:
                table.clear()
                table.update(before)
            for module, before in zip(modules, attributes):
                now = vars(module)
                for name in [name for name in now if name not in before]:
                    del now[name]
                now.update(before)
            _put_back(generators)


def _random_states():
    numpy = sys.modules.get("numpy")
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return random.getstate(), torch.get_rng_state(), numpy and numpy.random.get_state(), cuda


def _put_back(states):
    python, cpu, numpy, cuda = states
    random.setstate(python)
    torch.set_rng_state(cpu)
    if numpy is not None:
        sys.modules["numpy"].random.set_state(numpy)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
