"""What takes the power away from a submission's process: namespaces, limits, no capabilities, a system call filter.

The fork server calls `enter_namespaces` in the process that will watch over a submission, and `give_up_everything` in
its child, the one that runs the submission.
"""

import contextlib
import ctypes
import os
import platform
import re
import resource
import signal
import struct
from pathlib import Path

NOBODY = 65534
MEMORY = 3 << 30  # bytes that a submission may allocate on top of what the server has
DISK = 64 << 20  # bytes of its private /tmp, and of /dev/shm
PROCESSES = 32  # threads count
CPU_SECONDS = 120

NEW_USER, NEW_PID, NEW_NS, NEW_NET = 0x10000000, 0x20000000, 0x00020000, 0x40000000
NEW_IPC, NEW_UTS, NEW_CGROUP, NEW_TIME = 0x08000000, 0x04000000, 0x02000000, 0x00000080
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 16384, 1 << 19
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
CAPABILITY_VERSION_3 = 0x20080522

# What no notebook needs: other ways to memory that no limit counts, to other processes, to mounts and to the kernel's
# rarely used corners. Numbers: (x86-64, AArch64).
FORBIDDEN_CALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "vfork": (58, 1079),  # (not on arm) its parent neither runs nor sleeps; Python forks where there is none
    "flock": (73, 32),  # of a file of the system it would stop others
    "utimensat": (280, 88),  # the devices are the system's own: their times would change
    "utimes": (235, 88),
    "utime": (132, 88),
    "futimesat": (261, 88),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "inotify_init": (253, 26),
    "inotify_init1": (294, 26),
    "preadv2": (
        327,
        286,
    ),  # with fadvise64, mincore and cachestat: what is cached would tell the next process something
    "fadvise64": (221, 223),
    "mincore": (27, 232),
    "cachestat": (451, 451),
    "readahead": (187, 213),
    "vmsplice": (278, 75),
    "fanotify_init": (300, 262),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "reboot": (169, 142),
}
CLONE, CLONE3, SOCKET, MMAP, PRCTL = (56, 220), (435, 435), (41, 198), (9, 222), (157, 167)
SHARED_MEMORY = 0x21  # MAP_SHARED | MAP_ANONYMOUS: pages that count for nobody
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
FAMILIES = (1, 2, 10, 16)  # unix, IPv4, IPv6, netlink; a virtual machine's vsock, say, knows no network namespace
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    """A function of libc. Raises: OSError."""
    if getattr(_libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def prctl(option, value=0):
    _call("prctl", option, ctypes.c_ulong(value), 0, 0, 0)


def become_nobody():
    """From root to a user without rights, with a /proc of this process namespace. Its children can still enter
    namespaces of their own."""
    mount_proc()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(PR_SET_DUMPABLE, 1)  # else /proc/self stays root's and the uid map cannot be written


def die_with_parent():
    prctl(PR_SET_PDEATHSIG, 9)


def enter_namespaces():
    """Move into namespaces of one's own; the next fork is process 1 there. The user's number stays, and is not 0."""
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", NEW_USER | NEW_PID | NEW_NS | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP)
    Path("/proc/self/setgroups").write_text(
        "deny"
    )  # before the maps: without them tmpfs refuses to be written (errno 75)
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def give_up_everything(memory=MEMORY):
    """In process 1 of the new namespaces: private /tmp, /dev/shm and /proc, then limits, and no way back."""
    _call("unshare", NEW_NS)  # its mounts are not those of the process that watches it, which needs its own /proc
    _call("mount", b"none", b"/", None, MS_REC | MS_SLAVE, None)
    for place in (b"/tmp", b"/dev/shm"):
        options = f"size={DISK},nr_inodes=4096,mode=0700".encode()
        _call("mount", b"tmpfs", place, b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    mount_proc()
    Path("/proc/sys/user/max_user_namespaces").write_text("0")  # in a namespace of its own it could mount again
    Path("/proc/self/oom_score_adj").write_text("1000")
    set_limits(memory)
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) == -1:
            break  # beyond the last one this kernel knows
    _call("capset", struct.pack("<Ii", CAPABILITY_VERSION_3, 0), struct.pack("<6I", *[0] * 6))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    filter_calls()


def mount_proc():
    _call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def set_limits(memory=MEMORY):
    """Those of the operating system that hold without namespaces, too."""
    try:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + memory,) * 2)
    except OSError:
        pass  # not Linux
    wanted = {"CORE": 0, "FSIZE": DISK, "NOFILE": 256, "CPU": CPU_SECONDS, "MEMLOCK": 1 << 16, "MSGQUEUE": 0}
    if platform.system() == "Linux":
        wanted |= {"NPROC": PROCESSES, "SIGPENDING": 256, "NICE": 0, "RTPRIO": 0}
    for name, value in wanted.items():
        if hasattr(resource, f"RLIMIT_{name}"):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def stay_alone():
    """From here on process 1 is the only one, and starts no process or thread: nobody else helps it to answer."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def filter_calls():
    """Install the system call filter, for this process and all it starts. Nothing on an unknown architecture."""
    if platform.machine() not in ARCHITECTURES:
        return
    column, architecture = ARCHITECTURES[platform.machine()]
    load = lambda offset: (0x20, 0, 0, offset)  # noqa: E731  a word of: number, architecture, address, arguments
    unless_equal = lambda value, skip: (0x15, 0, skip, value)  # noqa: E731
    refuse = lambda error: (0x06, 0, 0, 0x00050000 | error)  # noqa: E731
    program = [load(4), (0x15, 1, 0, architecture), refuse(EPERM), load(0)]
    program += [(0x35, 0, 1, 0x40000000), refuse(EPERM)]  # the x32 numbers of x86-64
    for numbers in FORBIDDEN_CALLS.values():
        program += [unless_equal(numbers[column], 1), refuse(EPERM)]
    program += [unless_equal(CLONE3[column], 1), refuse(ENOSYS)]  # its flags cannot be seen; glibc falls back to clone
    spaces = NEW_USER | NEW_PID | NEW_NS | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP
    program += [unless_equal(CLONE[column], 4), load(16), (0x45, 0, 1, spaces), refuse(EPERM), load(0)]
    program += [unless_equal(MMAP[column], 5), load(40), (0x54, 0, 0, SHARED_MEMORY)]
    program += [(0x15, 0, 1, SHARED_MEMORY), refuse(EPERM), load(0)]
    kept = (PR_SET_PDEATHSIG, PR_SET_DUMPABLE)  # it dies with its keeper, who can look at it
    program += [unless_equal(PRCTL[column], len(kept) + 3), load(16)]
    program += [(0x15, len(kept) - i, 0, option) for i, option in enumerate(kept)]
    program += [(0x05, 0, 0, 1), refuse(EPERM), load(0)]
    program += [unless_equal(SOCKET[column], len(FAMILIES) + 3), load(16)]
    program += [(0x15, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)]
    program += [refuse(EAFNOSUPPORT), load(0), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in program))
    pointer = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    _call("prctl", PR_SET_SECCOMP, ctypes.c_ulong(2), pointer, 0, 0)


class Usage:
    """What the processes of a submission use: all of the namespace whose process 1 is `pid` here; without namespaces,
    those of its session. Its methods raise OSError where that cannot be seen."""

    def __init__(self, pid, confined):
        self.pid, self.confined, self.most, self.seen = pid, confined, 0.0, {}
        self.proc = Path(f"/proc/{pid}/root/proc" if confined else "/proc")

    def memory(self):
        """Bytes of anonymous memory, without what process 1 shares with this process since the fork."""
        if (self.proc / "self").exists():  # still the one of this process: it has none of its own yet
            return 0
        total = -anonymous(Path("/proc/self/status"))
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # gone meanwhile
                total += anonymous(entry / "status")
        return total

    def time(self):
        """(seconds of CPU time so far, whether all processes sleep). Where there is no /proc: (0, True)."""
        if self.confined and (self.proc / "self").exists():
            return 0.0, False
        alive, asleep = 0.0, True
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                _, session, begun, own, waited_for = stat(entry / "stat")
                if self.confined or session == self.pid:
                    alive += own + waited_for
                    self.seen[entry.name, begun] = own
                    asleep = asleep and not any(stat(task / "stat")[0] in b"RD" for task in (entry / "task").iterdir())
        # Those who have gone are seen in their parent, if that waited for them, or were seen before, if they lived.
        self.most = max(self.most, alive, sum(self.seen.values()))
        return self.most, asleep

    def _entries(self):
        return [self.proc / name for name in os.listdir(self.proc) if name.isdigit()] if self.proc.exists() else []


def anonymous(status):
    sizes = re.findall(rb"^Rss(?:Anon|Shmem):\s*(\d+) kB", status.read_bytes(), re.M)
    return sum(map(int, sizes)) * 1024


def stat(path):
    """(state, session, start, seconds of CPU time, those of children that it has waited for) of a process or thread."""
    fields = path.read_bytes().rpartition(b")")[2].split()
    own, waited_for = (int(fields[i]) + int(fields[i + 1]) for i in (11, 13))
    tick = os.sysconf("SC_CLK_TCK")
    return fields[0], int(fields[3]), fields[19], own / tick, waited_for / tick
