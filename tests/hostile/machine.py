"""Those that attack the machine, the judge's process or the other submissions."""

from . import HONEST, IDLE, IMPORTS, all_four, attack

attack(
    "exit_in_a_cell",
    "ends the process in a cell; the rest is honest",
    IMPORTS,
    "import os; os._exit(0)",
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "exit_in_a_call",
    "ends the process when called; another task is honest",
    IMPORTS,
    "# EXERCISE: layer_norm\ndef layer_norm(*a):\n    import os; os._exit(0)",
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "leaves_by_exceptions",
    "raises SystemExit, KeyboardInterrupt and a BaseException of its own",
    "raise SystemExit",
    "raise KeyboardInterrupt",
    "class E(BaseException): pass\nraise E",
    *all_four("    raise SystemExit(0)"),
)
attack(
    "quits_the_shell",
    "quit(), exit, %reset and deletes everything",
    IMPORTS,
    "quit()",
    "exit",
    "%reset -f",
    "for name in list(globals()):\n    if not name.startswith('_'): del globals()[name]",
    "import torch",
    HONEST["welford"],
    earned=3.0,
)
attack(
    "kills_its_parents",
    "sends SIGKILL to its parent, its group and everybody",
    "import os, signal\nfor pid in (os.getppid(), 0, -1, 1, 2, *range(3, 400)):\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass",
    *IDLE,
)
attack(
    "stops_its_parents",
    "sends SIGSTOP and SIGTERM all around",
    "import os, signal\nfor pid in (os.getppid(), -1, *range(1, 400)):\n    for s in (signal.SIGSTOP, signal.SIGTERM):\n        try: os.kill(pid, s)\n        except OSError: pass",
    *IDLE,
)
attack(
    "ptrace",
    "attaches to other processes and writes into their memory",
    "import ctypes, os\nlibc = ctypes.CDLL(None)\nfor pid in range(1, 300):\n    libc.ptrace(16, pid, 0, 0)\nfor pid in os.listdir('/proc'):\n    if pid.isdigit():\n        try: open(f'/proc/{pid}/mem', 'r+b')\n        except OSError: pass",
    *IDLE,
)
attack(
    "proc",
    "looks through /proc for other roots, descriptors and environments",
    "import os, glob\nfor path in glob.glob('/proc/*/root/*') + glob.glob('/proc/*/cwd/*') + glob.glob('/proc/*/fd/*') + glob.glob('/proc/*/environ'):\n    try: open(path).read(1000)\n    except Exception: pass\nopen('/proc/sysrq-trigger', 'w').write('b')",
    *IDLE,
)
attack(
    "proc_sys",
    "writes kernel parameters",
    "import os\nfor name in ('kernel/core_pattern', 'user/max_user_namespaces', 'vm/overcommit_memory'):\n    try: open(f'/proc/sys/{name}', 'w').write('1')\n    except OSError: pass",
    *IDLE,
)
attack(
    "devices",
    "opens and makes devices",
    "import os, stat\nfor name in ('mem', 'kmem', 'kmsg', 'sda', 'vda', 'kvm', 'fuse', 'net/tun', 'tty', 'console'):\n    try: open(f'/dev/{name}', 'r+b').read(10)\n    except OSError: pass\nos.mknod('/tmp/vda', 0o600 | stat.S_IFBLK, os.makedev(254, 0))",
    *IDLE,
)
attack(
    "becomes_root",
    "setuid, new namespaces, mounts, setuid programs",
    "import os, ctypes, subprocess\nlibc = ctypes.CDLL(None)\nfor call in (lambda: os.setuid(0), lambda: libc.unshare(0x10000000), lambda: libc.unshare(0x00020000), lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0), lambda: os.chroot('/tmp')):\n    try: call()\n    except OSError: pass\nsubprocess.run('su -c id; mount -t tmpfs x /tmp; unshare -rm id', shell=True)",
    *IDLE,
)
attack("fork_bomb", "forks for ever", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", *IDLE)
attack(
    "fork_bomb_in_a_call",
    "forks for ever when called",
    "# EXERCISE: layer_norm\ndef layer_norm(*a):\n    import os\n    while True:\n        try: os.fork()\n        except OSError: pass",
)
attack(
    "thread_bomb",
    "starts threads that spin",
    "import threading\ndef spin():\n    while True: pass\nwhile True:\n    try: threading.Thread(target=spin, daemon=True).start()\n    except RuntimeError: pass",
    *IDLE,
)
attack(
    "memory_bomb",
    "allocates for ever",
    "a = []\nwhile True:\n    a.append(bytearray(b'x') * (1 << 26))",
    IMPORTS,
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "memory_bomb_in_pieces",
    "allocates in twenty processes, each below its limit",
    "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        a = [bytearray(b'x') * (1 << 20) for _ in range(1500)]\n        time.sleep(60)\ntime.sleep(60)",
    *IDLE,
)
attack(
    "memory_without_limits",
    "memfd, System V shared memory and message queues, which no address space limit counts",
    "import ctypes, os\nlibc = ctypes.CDLL(None)\nfor n in range(64):\n    try:\n        fd = os.memfd_create('x')\n        for _ in range(64): os.write(fd, b'x' * (1 << 20))\n    except OSError: pass\n    libc.shmget(0, ctypes.c_size_t(1 << 30), 0o1600)",
    *IDLE,
)
attack(
    "disk_bomb",
    "fills /tmp and /dev/shm",
    "for n in range(100):\n    for place in ('/tmp', '/dev/shm', '/var/tmp', '.'):\n        try:\n            with open(f'{place}/{n}', 'wb') as f:\n                for _ in range(100): f.write(b'x' * (1 << 20))\n        except OSError: pass",
    *IDLE,
)
attack(
    "file_bomb",
    "makes as many empty files as it can",
    "import os\nfor n in range(200_000):\n    try: os.close(os.open(f'/tmp/{n}', os.O_CREAT))\n    except OSError: break",
    *IDLE,
)
attack(
    "floods_stdout",
    "prints without end",
    "import os, sys\nfor _ in range(300):\n    os.write(1, b'x' * (1 << 20)); os.write(2, b'x' * (1 << 20))\nfor _ in range(20_000): print('x' * 1000)\ndisplay('x' * 10_000_000)",
    *IDLE,
)
attack(
    "sleeps_in_a_cell",
    "sleeps in a cell; the rest is honest",
    IMPORTS,
    "import time; time.sleep(10**6)",
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "sleeps_in_a_call",
    "sleeps when called; another task is honest",
    IMPORTS,
    "# EXERCISE: layer_norm\ndef layer_norm(*a):\n    import time; time.sleep(10**6)",
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "swallows_interrupts",
    "loops for ever, blocks all signals and catches everything",
    "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
    *IDLE,
)
attack(
    "many_slow_cells",
    "a thousand cells that each stay just below the limit",
    *["import time; time.sleep(1.5)"] * 1000,
    *IDLE,
)
attack(
    "daemons",
    "leaves processes behind in sessions of their own",
    "import os, time\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            while True: time.sleep(1)\n        os._exit(0)",
    IMPORTS,
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "loopback",
    "listens and connects on loopback, by TCP, UDP and abstract sockets",
    "import socket\ns = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen()\nfor port in (22, 80, 8888, 5432, *range(9000, 9100)):\n    try: socket.create_connection(('127.0.0.1', port), 0.05)\n    except OSError: pass\nu = socket.socket(socket.AF_UNIX); u.bind('\\0normcourse')",
    *IDLE,
)
attack(
    "network",
    "connects to the outside and to the virtual machine's host",
    "import socket, urllib.request\ns = socket.socket(40, socket.SOCK_STREAM)",
    "import urllib.request\nurllib.request.urlopen('http://example.org', timeout=1)",
    "import socket\nsocket.create_connection(('1.1.1.1', 53), 1)",
    *IDLE,
)
attack(
    "links_out",
    "makes links to files outside and writes through them",
    "import os\nfor target in ('/etc/passwd', '/root', '/home', '/work', '/proc/1/root'):\n    os.symlink(target, '/tmp/' + target.replace('/', '_'))\nopen('/tmp/_etc_passwd', 'a').write('root::0:0::/:/bin/sh')",
    *IDLE,
)
attack(
    "writes_into_the_package",
    "changes the package and site-packages for those who come after",
    "import normcourse, torch, os, sys\nfor folder in (*sys.path, os.path.dirname(normcourse.__file__), os.path.dirname(torch.__file__), '/usr/lib', '/dev', '/'):\n    try: open(os.path.join(folder or '.', 'sitecustomize.py'), 'w').write('raise SystemExit')\n    except OSError: pass\n    try: os.remove(os.path.join(folder, '__init__.py'))\n    except OSError: pass",
    *IDLE,
)
attack(
    "deletes_everything",
    "rm -rf / by magic and by hand",
    "!rm -rf --no-preserve-root / 2>/dev/null",
    "%%bash\nrm -rf /root /home /tmp/* $HOME",
    *IDLE,
)
attack(
    "leaves_a_note",
    "leaves files for the next submission, and looks for some",
    "import os\nfor place in ('/tmp', '/dev/shm', '/var/tmp', os.path.expanduser('~')):\n    try:\n        if os.path.exists(f'{place}/note'): layer_norm_from_before = open(f'{place}/note').read()\n        open(f'{place}/note', 'w').write('the answer')\n    except OSError: pass",
    *IDLE,
)
attack(
    "crashes",
    "reads address 0",
    "import ctypes; ctypes.string_at(0)",
    *all_four("    import ctypes\n    return ctypes.string_at(0)"),
)
attack(
    "overflows_the_stack",
    "recurses without a limit",
    "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    IMPORTS,
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "reads_stdin",
    "waits for input that never comes",
    "input('?')",
    "import sys; sys.stdin.read()",
    "import getpass; getpass.getpass()",
    IMPORTS,
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "closes_everything",
    "closes all descriptors, its connection too",
    "import os\nos.closerange(0, 1000)",
    IMPORTS,
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "steals_descriptors",
    "tries to receive other submissions' connections on every descriptor",
    "import socket, os\nfor fd in range(0, 300):\n    try:\n        s = socket.socket(fileno=os.dup(fd)); s.settimeout(0.005); socket.recv_fds(s, 10, 4)\n    except (OSError, ValueError): pass",
    *IDLE,
)
attack(
    "odd_system_calls",
    "bpf, keyctl, userfaultfd, io_uring, perf, kexec, new time and clone3",
    "import ctypes\nlibc = ctypes.CDLL(None)\nfor number in (321, 250, 323, 425, 298, 246, 435, 56, 0x40000000 + 101):\n    libc.syscall(number, 0x10000000, 0, 0, 0, 0, 0)",
    *IDLE,
)
attack(
    "alarm",
    "sets timers and limits for the processes around",
    "import signal, resource, os\nsignal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\nfor pid in range(1, 300):\n    try: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))\n    except OSError: pass\nresource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))",
    *IDLE,
)
HIDES = """import ctypes, time
libc = ctypes.CDLL(None)
libc.prctl(1, 0, 0, 0, 0)
libc.prctl({})
end = time.monotonic() + 1000
while time.monotonic() < end: pass"""
attack(
    "hides_its_name",
    "gives itself a name that is no text, so that its keeper stumbles, and stays",
    HIDES.format("15, b'\\xff\\xfe', 0, 0, 0"),
    *IDLE,
)
attack("cannot_be_looked_at", "shuts its keeper out and stays", HIDES.format("4, 0, 0, 0, 0"), *IDLE)
attack(
    "hard_to_read",
    "ends its processes with a cell that takes minutes to parse unless it is read as the child reads it",
    *["import os; os._exit(0)"] * 6,
    "x = \uff02\uff02\uff02\n" + "%a\n" * 20000 + "\uff02\uff02\uff02\n",
    HONEST["merge_statistics"].replace("def", "import torch\ndef", 1),
    earned=3.0,
)
attack(
    "many_small_processes",
    "starts processes of which each has a little less than what is not counted",
    "import subprocess, sys\nfor _ in range(20):\n"
    "    subprocess.Popen([sys.executable, '-S', '-c', 'import time; b = bytearray(b\"x\") * (240 << 20); time.sleep(900)'])\n"
    "import time; time.sleep(5)\nwith open('alive', 'w') as f: f.write('1')",
    *IDLE,
)
