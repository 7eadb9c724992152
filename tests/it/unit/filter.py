"""Writes what systemd would make of a unit's restrictions as seccomp programs for `bwrap --add-seccomp-fd`.

filter.py ALLOW RESTRICT FAMILY...: reads the allowed system calls from standard input, one a line. A call outside
ALLOW, or with arguments that systemd would answer with EPERM, kills the process: a test must not miss it.
"""

import errno
import socket
import sys

from seccomp import ALLOW, EQ, ERRNO, GT, KILL_PROCESS, MASKED_EQ, Arch, Arg, Attr, SyscallFilter, resolve_syscall

PROT_WRITE, PROT_EXEC, SHM_EXEC = 0x2, 0x4, 0o100000
O_CREAT, S_ISUID, S_ISGID = 0o100, 0o4000, 0o2000
NAMESPACES = [0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
FAMILIES_MAX = 64


def write(program, path):
    program.set_attr(Attr.CTL_NNP, 0)
    with open(path, "wb") as file:
        program.export_bpf(file)


def allow(names):
    """SystemCallFilter=, SystemCallArchitectures=native"""
    program = SyscallFilter(KILL_PROCESS)
    known = [name for name in names if resolve_syscall(Arch(), name) >= 0]
    assert len(known) > 100, known
    for name in known:
        program.add_rule(ALLOW, name)
    return program


def restrict(families):
    program = SyscallFilter(ALLOW)

    def kill(name, *args):
        program.add_rule(KILL_PROCESS, name, *args)

    # MemoryDenyWriteExecute=
    write_execute = PROT_WRITE | PROT_EXEC
    kill("mmap", Arg(2, MASKED_EQ, write_execute, write_execute))
    kill("mprotect", Arg(2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
    kill("pkey_mprotect", Arg(2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
    kill("shmat", Arg(2, MASKED_EQ, SHM_EXEC, SHM_EXEC))
    # RestrictNamespaces=: clone3 takes its flags by reference, where no filter sees them
    for flag in NAMESPACES:
        kill("clone", Arg(0, MASKED_EQ, flag, flag))
    kill("unshare")
    kill("setns")
    program.add_rule(ERRNO(errno.ENOSYS), "clone3")
    # RestrictSUIDSGID=
    for bit in (S_ISUID, S_ISGID):
        for name, at in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("creat", 1)):
            kill(name, Arg(at, MASKED_EQ, bit, bit))
        kill("openat", Arg(2, MASKED_EQ, O_CREAT, O_CREAT), Arg(3, MASKED_EQ, bit, bit))
    # LockPersonality=
    kill("personality")
    # RestrictAddressFamilies=
    for family in range(FAMILIES_MAX):
        if family not in families:
            program.add_rule(ERRNO(errno.EAFNOSUPPORT), "socket", Arg(0, EQ, family))
    program.add_rule(ERRNO(errno.EAFNOSUPPORT), "socket", Arg(0, GT, FAMILIES_MAX))
    return program


if __name__ == "__main__":
    write(allow(sys.stdin.read().split()), sys.argv[1])
    write(restrict({getattr(socket, name) for name in sys.argv[3:]}), sys.argv[2])
