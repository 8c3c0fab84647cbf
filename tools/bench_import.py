"""`make bench-import`: what `import normcourse` adds to `import torch`, measured inside one process, median of 11."""

import platform
import statistics
import subprocess
import sys

CODE = "import time, torch; start = time.perf_counter(); import normcourse; print(time.perf_counter() - start)"

times = [
    float(subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout)
    for _ in range(11)
]
print(
    f"import normcourse adds {1e3 * statistics.median(times):.1f} ms to import torch (Python {platform.python_version()}; goal: 150 ms)"
)
