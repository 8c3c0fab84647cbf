"""How many bytes each operation reads and writes, beside the fewest possible; counted in the interpreter by a test.

    print(traffic.table())

The fewest possible: each input is read once, each output written once. What a kernel does beyond that, and why:

forward, rows up to 32768 (fp64: 16384): nothing. The row is held in registers between its sums and y.

forward, wider rows: the row, or the sum, is read again for y, by the program that has just read it. On an H100 132 rows
of 131072 in bf16, 35 MB, are under way, less than the 50 MB of its cache: if that holds them, no more crosses the bus.

backward, rows up to 8192 (fp64: 4096): nothing but partial sums of dweight, 8 bytes per column and program.

backward, wider rows: x and dy are read twice, 5/3 of the fewest bytes (6/4 with an addition). First for the means of
the whole row, by a launch that has gone over all of the matrix when the second begins: the cache no longer has the row.

What stands in the way of reading wide rows once: dweight. Its sum over rows, 4 bytes a column (8 with dbias), has to be
kept somewhere while x and dy of a row are held for the means and for dx.

- In the registers of one program: compiled for sm_90 in bf16, 1024 threads have 64 registers each, and a row of 16384
  spills 70 to 128 times, one of 32768 over 300 times (a test compiles the first).
- In memory, a row of sums for each program: read and written for every row of x, 8 bytes a column, more than the 4
  bytes of x and dy that are read twice now. Only a cache that holds them all (for 132 programs 9 MB at 16384, 69 MB at
  131072) would make that cheaper, which no count of loads can show.
- In another launch, that reads x and dy for dweight alone: the same 5/3.
- In the registers of several programs that share a row and tell each other their parts of the means while they hold
  theirs: a cluster, or flags in memory. The interpreter runs one program after another, and one that waits for the next
  would wait for ever; and a protocol between programs that was never run on a GPU would not be worth its bytes.
"""

from .launch import ceil_div
from .tiles import backward_tile, forward_tile

SIZES = (128, 1024, 4096, 8192, 16384, 32768, 65536, 131072)
OPS = ("layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm")


def floor(op, direction, m, n, itemsize=2):
    """(bytes read, bytes written) that cannot be avoided: matrices, a statistic or two per row, weights."""
    add, two = op.startswith("add"), 2 if op.endswith("layer_norm") else 1
    matrix, weights, statistics = m * n * itemsize, n * itemsize, 4 * m * two
    if direction == "forward":
        return (1 + add) * matrix + two * weights, (1 + add) * matrix + statistics
    return (2 + add) * matrix + weights + statistics, matrix + two * weights


def moved(op, direction, m, n, itemsize=2, parts=264, **tile):
    """(bytes read, bytes written) by the loads and stores of the kernels; weights counted once for all programs.

    parts: programs that sum dweight side by side, two per multiprocessor of an H100.  tile: options of `tiles`.
    """
    read, written = floor(op, direction, m, n, itemsize)
    two = 2 if op.endswith("layer_norm") else 1
    matrix, statistics = m * n * itemsize, 4 * m * two
    if direction == "forward":
        return read + (0 if forward_tile(n, **tile).held else matrix), written
    shape = backward_tile(n, **tile)
    if not shape.held:  # x, dy and the statistics for the means; the means, written, and read by each block of columns
        blocks = ceil_div(n, shape.columns)
        read += 2 * matrix + n * itemsize + blocks * statistics + (blocks - 1) * statistics + statistics
        written += statistics
        parts = max(1, parts // blocks)
    partial = 4 * two * n * min(parts, ceil_div(m, shape.rows))
    return read + partial, written + partial


def ratio(op, direction, n, tensor_bytes=2**28, itemsize=2):
    """The bytes that the kernels move for tensors of this size, over the fewest that are possible."""
    m = tensor_bytes // (n * itemsize)
    moves = moved(op, direction, m, n, itemsize, interpreted=False)
    return sum(moves) / sum(floor(op, direction, m, n, itemsize))


def table(tensor_bytes=2**28, itemsize=2):
    """One line per operation, direction and N, as text: GB read, GB written, the fewest, and their ratio."""
    lines = [
        f"{'':24}{'N':>8}{'read':>8}{'written':>9}{'fewest':>8}{'ratio':>7}   GB, tensors of {tensor_bytes / 1e9:.2f}"
    ]
    for op in OPS:
        for direction in ("forward", "backward"):
            for n in SIZES:
                m = tensor_bytes // (n * itemsize)
                read, written = moved(op, direction, m, n, itemsize, interpreted=False)
                fewest = sum(floor(op, direction, m, n, itemsize))
                over = ratio(op, direction, n, tensor_bytes, itemsize)
                numbers = f"{read / 1e9:8.3f}{written / 1e9:9.3f}{fewest / 1e9:8.3f}{over:7.2f}"
                lines.append(f"{op:15}{direction:9}{n:8}{numbers}")
    return "\n".join(lines)
