"""Chapter 11: real processes find what one process finds, messages are counted, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import torch
import torch.nn.functional as F

from normcourse import i18n
from normcourse.chapters.many_devices import evidence, signature
from normcourse.chapters.many_devices.ranks import RankError, Ranks
from normcourse.chapters.many_devices.statistics import merge, normalise, of_slice

EXACT = {"dtype": torch.float64}


def running(pids):
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}") or not sys.platform.startswith("linux")]


@pytest.fixture(scope="module")
def ranks():
    found = Ranks(4)
    yield found
    pids = found.pids
    found.close()
    assert len(pids) == 4 and not running(pids) and not os.path.exists(found._folder)


# functions that run on the ranks


def together(comm, part):
    return normalise(part, comm.all_reduce(of_slice(part), merge))


def alone(comm, part):
    return normalise(part, of_slice(part))


def backward(comm, part, dy, gamma):
    count, mean, squares = comm.all_reduce(of_slice(part), merge)[:, :, None]
    rstd = torch.rsqrt(squares / count + 1e-5)
    x_hat, g = (part - mean) * rstd, dy * gamma
    sums = comm.all_reduce(torch.stack([g.sum(-1), (g * x_hat).sum(-1)])) / count[0]
    return rstd * (g - sums[0][:, None] - x_hat * sums[1][:, None])


def summed(comm, value):
    return comm.all_reduce(value), value.clone() if dist.all_reduce(value, group=comm._group) is None else value  # noqa: F821


def raises(comm):
    raise ValueError("on purpose")


def dies(comm):
    if comm.rank == 1:
        os._exit(3)
    return comm.all_reduce(torch.ones(2))


def waits(comm):
    return comm.all_reduce(torch.ones(2)) if comm.rank else __import__("time").sleep(60)


# numbers


@pytest.mark.parametrize("sizes", [(3, 5), (1, 1), (700, 2)])
def test_merged_statistics_are_those_of_all_numbers(sizes):
    x = 40 + torch.randn(6, sum(sizes), generator=torch.Generator().manual_seed(0), **EXACT)
    count, mean, squares = merge(*(of_slice(part) for part in x.split(sizes, -1)))
    assert (count == sum(sizes)).all() and torch.allclose(mean, x.mean(-1), rtol=1e-14)
    assert torch.allclose(squares, x.var(-1, unbiased=False) * sum(sizes), rtol=1e-12)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_split_features_with_merged_statistics_are_layer_norm(ranks, world):
    x = 5 + torch.randn(7, 32, generator=torch.Generator().manual_seed(world), **EXACT)
    given = [(part,) for part in x.chunk(world, -1)]
    parts, messages = ranks.run(together, given, uses=[of_slice, merge, normalise])
    assert torch.allclose(torch.cat(parts, -1), F.layer_norm(x, (32,)), rtol=1e-12, atol=1e-12)
    rounds = world.bit_length() - 1
    assert len(messages) == world * rounds and all(size == 3 * 7 * 8 for *_, size in messages)
    assert {(to, rank) for rank, _, to, _ in messages} == {(rank, to) for rank, _, to, _ in messages}


def test_the_backward_pass_is_that_of_autograd(ranks):
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(9, 16, generator=generator, **EXACT) for _ in range(2))
    gamma = torch.randn(16, generator=generator, **EXACT)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(F.layer_norm(x, (16,), gamma), x, dy)
    given = list(zip(*(t.detach().chunk(4, -1) for t in (x, dy, gamma))))
    parts, messages = ranks.run(backward, given, uses=[of_slice, merge])
    assert torch.allclose(torch.cat(parts, -1), expected, rtol=1e-11, atol=1e-12)
    assert sum(size for rank, _, _, size in messages if rank == 2) == 2 * (3 + 2) * 9 * 8


def test_all_reduce_gives_every_rank_the_same_bits_and_the_sum_of_gloos_own(ranks):
    values = torch.randn(4, 33, generator=torch.Generator().manual_seed(0))
    results, _ = ranks.run(summed, [(row,) for row in values])
    ours, gloos = zip(*results)
    assert all(torch.equal(ours[0], other) for other in ours[1:])
    assert torch.allclose(ours[0], gloos[0], rtol=0, atol=4 * 2**-24 * values.abs().sum(0).max().item())


def test_the_evidence_is_what_real_processes_find(ranks):
    x = evidence.features(3)
    parts, messages = ranks.run(alone, [(part,) for part in x.chunk(4, -1)], uses=[of_slice, normalise])
    right = F.layer_norm(x.double(), (evidence.WIDTH,))
    error = ((torch.cat(parts, -1) - right).square().mean() / right.square().mean()).sqrt().item()
    found = evidence.without_communication()
    row = found[(found["setting"] == "features_layer") & (found["seed"] == 3)]
    assert row["value"].item() == pytest.approx(error, rel=1e-4) and not messages


def test_the_signature_ends_with_layer_norm_and_begins_with_group_norm():
    frames = [signature.exchange(moment, skew=2.0, seed=1) for moment in range(0, signature.STEPS + 1, 6)]
    x = torch.tensor(frames[0]["value"].to_numpy())[None]
    assert torch.allclose(torch.tensor(frames[-1]["output"].to_numpy()), F.layer_norm(x, (16,))[0], atol=1e-10)
    assert torch.allclose(torch.tensor(frames[0]["output"].to_numpy()), F.group_norm(x, 4)[0], atol=1e-10)
    assert frames[-1]["bytes"].iloc[0] == 24 and frames[-1]["error"].iloc[0] < 1e-10 < frames[1]["error"].iloc[0]
    assert (frames[2]["count"] == 16).all() and (frames[1]["count"] == 8).all()


# endings


@pytest.mark.slow
def test_an_error_on_a_rank_is_told_and_all_are_ended_then_a_second_set_works():
    first = Ranks(2)
    pids = first.pids
    with pytest.raises(RankError, match="(?s)Error on rank .*ValueError: on purpose"):
        first.run(raises, [()] * 2)
    assert not running(pids) and not first.pids
    with pytest.raises(RankError, match="run the cell with Ranks"):
        first.run(raises, [()] * 2)
    second = Ranks(2)  # twice in one kernel
    pids = second.pids
    i18n.set_language("zh")
    try:
        with pytest.raises(RankError, match="第 1 号进程死了"):
            second.run(dies, [()] * 2)
    finally:
        i18n.set_language("both")
    assert not running(pids)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_ends_the_ranks():
    ranks = Ranks(2)
    pids = ranks.pids
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
    try:
        threading.Timer(1.0, signal.raise_signal, [signal.SIGINT]).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ranks.run(waits, [()] * 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < 40 and not running(pids)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit()", "del ranks; time.sleep(0.1); gone()"])
def test_ranks_end_with_whoever_started_them(end):
    """Killed outright, at an ordinary end, and where the variable is given another value."""
    code = f"""
        import gc, os, sys, time
        from normcourse.chapters.many_devices.ranks import Ranks
        def gone():
            gc.collect()
            assert not any(os.path.exists(f"/proc/{{pid}}") for pid in pids)
        ranks = Ranks(2)
        pids = ranks.pids
        print(*pids, flush=True)
        {end}
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    pids, until = [int(pid) for pid in run.stdout.split()], time.monotonic() + 30
    while running(pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(pids) == 2 and not running(pids), run.stderr
    assert run.returncode == (-9 if "kill" in end else 0), run.stderr


def test_impossible_numbers_of_ranks_are_refused(ranks):
    with pytest.raises(ValueError, match="world is 3; expected 1, 2, 4 or 8"):
        Ranks(3)
    with pytest.raises(ValueError, match="there are 3 arguments for 4 ranks"):
        ranks.run(alone, [()] * 3)
