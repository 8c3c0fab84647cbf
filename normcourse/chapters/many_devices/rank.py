"""What one rank runs, as a process of its own: `python rank.py RANK WORLD FOLDER`. Started by `ranks.Ranks`.

Work comes over standard input and results go to standard output, each a length and a pickle. A thread of its own reads
the input: where it ends, because whoever started the rank is gone, however that came, the process ends at once, even
while it waits for another rank. So none is ever left behind.
"""

import io
import math
import os
import pickle
import queue
import struct
import sys
import threading
import traceback
from datetime import timedelta

SECONDS = 300  # to wait for another rank; whoever gave the work waits less


def send(file, value):
    body = pickle.dumps(value)
    file.write(struct.pack("<q", len(body)) + body)
    file.flush()


def receive(file):
    """The next value; EOFError where the other side is gone."""
    head = file.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(file.read(struct.unpack("<q", head)[0]))


class Comm:
    """What a function that runs on a rank gets first. rank, world: which one it is, of how many. messages: what it
    sent, as (round, to whom, bytes)."""

    def __init__(self, rank, world, group):
        self.rank, self.world, self.messages, self._group, self._round = rank, world, [], group, 0

    def all_reduce(self, value, merge=None):
        """Every rank gets all ranks' values, merged (added up without `merge(one, other)`), in log₂ world rounds: in
        round k each exchanges what it has with the rank whose number differs in bit k (recursive doubling)."""
        import torch

        merge = merge or torch.add
        for bit in range(self.world.bit_length() - 1):
            partner = self.rank ^ (1 << bit)
            other = self.exchange(value, partner)
            # both compute the same expression, so that all ranks end with the same bits
            value = merge(value, other) if self.rank < partner else merge(other, value)
        return value

    def exchange(self, value, partner):
        """Send a tensor to another rank and return what that one sends, which has the same shape and dtype."""
        import torch
        import torch.distributed as dist

        value, other = value.contiguous(), torch.empty_like(value)
        sent = dist.isend(value, partner, group=self._group)
        dist.irecv(other, partner, group=self._group).wait()
        sent.wait()
        self.messages.append((self._round, partner, value.numel() * value.itemsize))
        self._round += 1
        return other


def main(rank, world, folder):
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the replies
    incoming, jobs = os.fdopen(os.dup(0), "rb"), queue.Queue()

    def read():
        try:
            while True:
                jobs.put(receive(incoming))
        finally:
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    store = dist.FileStore(os.path.join(folder, "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=SECONDS))
    groups = {2**k: dist.new_group(list(range(2**k))) for k in range(world.bit_length())}
    send(replies, ("ready", os.getpid()))
    while True:
        source, name, size, arguments = jobs.get()
        try:
            space = {"torch": torch, "dist": dist, "math": math, "os": os}
            exec(source, space)
            comm = Comm(rank, size, groups[size])
            result = space[name](comm, *pickle.load(io.BytesIO(arguments)))
            send(replies, ("done", (result, comm.messages)))
        except Exception as error:
            send(replies, ("error", "".join(traceback.format_exception_only(error)).strip()))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
