"""What a process that decodes can do no more, where the kernel takes it away: Landlock and seccomp, on Linux.

    Landlock   opens, makes, changes and removes no file, whatever descriptors it may have; no TCP
    seccomp    starts no program and no process; no socket, no debugging, no signal to others

Both are a process's own choice, need no privileges, and cannot be undone. Where the kernel lacks one,
the limits of :mod:`device_agent.media.worker` hold alone: a process can open nothing for want of descriptors,
and memory and time end it. Numbers are those of the kernel's headers (landlock.h, seccomp.h, filter.h,
audit.h).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
#: Highest bit of the rights to files that each version of Landlock knows, less one.
_FILE_RIGHTS = MappingProxyType({1: 13, 2: 14, 3: 15, 4: 15, 5: 16})
_TCP_SINCE, _TCP_RIGHTS = 4, 0b11
_SCOPES_SINCE, _SCOPES = 6, 0b11

_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16


@dataclass(frozen=True)
class _Calls:
    """System calls of an architecture.

    Attributes:
        architecture: as the kernel tells a filter.
        refused: those that a decoder does not need, by name.
        clone: starts a thread or a process.
        clone3: the same, its arguments where no filter can look.
    """

    architecture: int
    refused: Mapping[str, int]
    clone: int
    clone3: int = 435


_X86_64 = _Calls(
    0xC000003E,
    MappingProxyType(
        {
            **{"socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53},
            **{"fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "execveat": 322},
            **{"process_vm_readv": 310, "process_vm_writev": 311, "pidfd_send_signal": 424},
            **{"io_uring_setup": 425, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298, "keyctl": 250},
            **{"mount": 165, "unshare": 272, "setns": 308},
        }
    ),
    clone=56,
)
_AARCH64 = _Calls(
    0xC00000B7,
    MappingProxyType(
        {
            **{"socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203},
            **{"execve": 221, "kill": 129, "ptrace": 117, "execveat": 281, "process_vm_readv": 270},
            **{"process_vm_writev": 271, "pidfd_send_signal": 424, "io_uring_setup": 425, "bpf": 280},
            **{"userfaultfd": 282, "perf_event_open": 241, "keyctl": 219, "mount": 40, "unshare": 97},
            **{"setns": 268},
        }
    ),
    clone=220,
)
_CALLS = MappingProxyType({"x86_64": _X86_64, "aarch64": _AARCH64})


def confine() -> tuple[str, ...]:
    """Give up, for good, what decoding does not need; call it while there is one thread.

    Returns:
        What the kernel had: of ``landlock`` and ``seccomp``.
    """
    if platform.system() != "Linux" or struct.calcsize("P") != 8:
        return ()
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ()
    found = {"landlock": _landlock(kernel), "seccomp": _seccomp(kernel)}
    return tuple(name for name, there in found.items() if there)


def _landlock(kernel: ctypes.CDLL) -> bool:
    version = kernel.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    handled = [files]
    if version >= _TCP_SINCE:
        handled.append(_TCP_RIGHTS)
    if version >= _SCOPES_SINCE:
        handled.append(_SCOPES)
    # Everything that is handled is refused, as no rule allows any of it.
    rules = ctypes.create_string_buffer(struct.pack(f"={len(handled)}Q", *handled))
    size = ctypes.c_size_t(8 * len(handled))
    ruleset = kernel.syscall(_LANDLOCK_CREATE_RULESET, rules, size, 0)
    if ruleset < 0:
        return False
    restricted = kernel.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    kernel.close(ruleset)
    return bool(restricted)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp(kernel: ctypes.CDLL) -> bool:
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return False
    instructions = _filter(calls)
    program = _Program(len(instructions), b"".join(instructions))
    return bool(kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(calls: _Calls) -> list[bytes]:
    """The program that the kernel runs at each system call (struct sock_filter)."""
    refuse, missing = _FAIL | errno.EPERM, _FAIL | errno.ENOSYS
    made = [
        _instruction(_LOAD_WORD, _AT_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, calls.architecture, 1, 0),
        _instruction(_RETURN, refuse),
        _instruction(_LOAD_WORD, _AT_NUMBER),
        _instruction(_JUMP_IF_SET, _X32, 0, 1),
        _instruction(_RETURN, refuse),
    ]
    for number in calls.refused.values():
        made += [_instruction(_JUMP_IF_EQUAL, number, 0, 1), _instruction(_RETURN, refuse)]
    # The C library does without, and calls the one whose flags can be looked at.
    made += [_instruction(_JUMP_IF_EQUAL, calls.clone3, 0, 1), _instruction(_RETURN, missing)]
    made += [
        _instruction(_JUMP_IF_EQUAL, calls.clone, 0, 3),
        _instruction(_LOAD_WORD, _AT_FIRST_ARGUMENT),
        _instruction(_JUMP_IF_SET, _CLONE_THREAD, 1, 0),
        _instruction(_RETURN, refuse),
        _instruction(_RETURN, _ALLOW),
    ]
    return made


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
