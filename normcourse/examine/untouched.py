"""A model is examined and afterwards is what it was, bit for bit, also where the examination fails."""

import contextlib
import random
import sys

import torch


@contextlib.contextmanager
def untouched(model):
    """Put back whatever a run changes: buffers, attributes of modules (mode included), gradients, random states.

    Parameters are put back too where a run writes to them. What was set on a module anew goes away again.
    """
    modules = list(model.modules())
    attributes = [dict(vars(module)) for module in modules]
    tables = [(table, dict(table)) for module in modules for table in (module._parameters, module._buffers)]
    tensors = {id(t): t for _, before in tables for t in before.values() if t is not None}.values()
    kept = [(t, t._version, t.detach().clone(), t.requires_grad, t.grad) for t in tensors if not t.is_inference()]
    generators = _random_states()
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, version, values, requires_grad, grad in kept:
                if tensor._version != version:
                    tensor.copy_(values)
                if tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)
                tensor.grad = grad
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
