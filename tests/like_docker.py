"""Runs a command as Docker's default does: without the right to mount, and without new namespaces.

    python like_docker.py COMMAND ...

Of root's capabilities those stay that Docker keeps. A filter of system calls (seccomp) refuses
unshare, mount and
setns with EPERM, as Docker's profile does. Standard library only: it is also run by Pythons that
have nothing else.
"""

import ctypes
import os
import platform
import struct
import sys

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 24, 38, 22, 2
# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
# SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP
KEPT_CAPABILITIES = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
REFUSED = {"x86_64": (272, 165, 308), "aarch64": (97, 40, 268)}  # unshare, mount, setns
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE_WITH_EPERM = 0x7FFF0000, 0x00050001


def filter_system_calls(libc):
    """Install the filter for this process and all that it starts."""
    numbers = REFUSED[platform.machine()]
    program = [(LOAD_NUMBER, 0, 0, 0)]
    for position, number in enumerate(numbers):
        program.append((JUMP_IF_EQUAL, len(numbers) - position, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE_WITH_EPERM)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in program))
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    )
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the filter was not accepted")


def main():
    """Give the rights away, then become the command."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        for capability in set(range(64)) - KEPT_CAPABILITIES:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    elif libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    filter_system_calls(libc)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
