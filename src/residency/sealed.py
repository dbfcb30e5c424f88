"""Nothing leaves: in a sealed process Python opens no connection that leaves this machine.

`python -m residency.sealed SCRIPT ARGUMENT...` runs a script that is not ours under the seal that
the environment asks for.

An audit hook (PEP 578) sees each call of Python's `socket` module, by whichever library, and cannot
be taken away again. What it does not see: sockets opened by native code, which are those of a
native `llama-server`, of a library written in C or Rust, and of other programs that we start; and
the look-up of a name that is given to `socket.connect` itself, which precedes the refusal. Where
that matters, take the network from the whole process: `unshare -rn`, with loopback up.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import runpy
import socket
import sys
import threading
from types import FrameType
from typing import Any

from residency.errors import SealedError

VARIABLE = "RESIDENCY_SEALED"
_log = logging.getLogger(__name__)

_CONNECTS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_FORWARD = {"socket.getaddrinfo", "socket.gethostbyname"}
_REVERSE = {"socket.gethostbyaddr", "socket.getnameinfo"}
# Who calls these is who tried.
_PLUMBING = {"aiohttp", "aiohappyeyeballs", "anyio", "httpcore", "httpx", "requests", "urllib3"}


def seal() -> None:
    """Refuse from now on, in this process and in children that call `seal_from_environment`,
    every connection and look-up beyond this machine with a `SealedError`."""
    os.environ |= {VARIABLE: "1", "HF_HUB_OFFLINE": "1"}
    _install()


def seal_from_environment() -> None:
    """Seal this process if the one that started it is sealed."""
    if os.environ.get(VARIABLE) == "1":
        seal()


def is_local(host: str) -> bool:
    """Whether `host` is a loopback address or `localhost`. No name is looked up."""
    address = address_of(host)
    return host == "localhost" if address is None else address.is_loopback


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """`host` as an address, an IPv4 one where it stands inside an IPv6 one; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@functools.cache
def _install() -> None:
    told: set[str] = set()

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket.") or (where := _beyond(event, arguments)) is None:
            return
        message = f"sealed: {_who()} tried to reach {where}"
        if where not in told:
            told.add(where)
            _log.warning(message)
        raise SealedError(message, hint="sealed = true in residency.toml forbids it")

    sys.addaudithook(refuse)


def _beyond(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The destination, if the event leaves this machine."""
    if event in _CONNECTS:
        connection, address = arguments[:2]
        if connection.family == socket.AF_UNIX or address is None:
            return None
        inet = connection.family in (socket.AF_INET, socket.AF_INET6)
        stays = inet and is_local(_text(address[0]))
        return None if stays else ":".join(map(_text, address[:2]))
    if event in _FORWARD:
        host = _text(arguments[0] or "")
        # An address is not looked up; whoever goes on to connect to it is met there.
        return None if not host or is_local(host) or address_of(host) else f"the name {host}"
    if event in _REVERSE:
        host = _text(arguments[0] if isinstance(arguments[0], str) else arguments[0][0])
        return None if is_local(host) else f"the name of {host}"
    return None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)


def _who() -> str:
    """The module that the call came from, past the standard library and the HTTP libraries."""
    best = f"a thread ({threading.current_thread().name})"
    frame: FrameType | None = sys._getframe(1)
    while frame := frame.f_back if frame else None:
        name = str(frame.f_globals.get("__name__", "?"))
        top = name.partition(".")[0]
        if top in _PLUMBING:
            best = name
        elif top not in sys.stdlib_module_names:
            return name
    return best


def main() -> None:
    """Run the script that the arguments name."""
    seal_from_environment()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
