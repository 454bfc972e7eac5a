"""Addresses of Ray clusters: which is meant, and whether one answers there."""

import os
import socket
from pathlib import Path

from levelset.errors import RunError

__all__ = ["address_to_join", "check_answer"]

# Seconds for an address to answer. Ray itself waits half a minute.
_ANSWER = 4.0
# The first frames of HTTP/2, which gRPC speaks: a greeting, and empty settings.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS, _FRAME = 4, 9


def address_to_join(function: str, address: str | None) -> str | None:
    """Return the address to hand to `ray.init`, after seconds if no cluster answers there.

    `None` and `auto` mean the cluster that RAY_ADDRESS names, or the last one started on this
    machine, whose address Ray writes into a file, also after its death. Without one `None` starts
    a cluster.

    Raises:
        RunError: If none answers; the message says what was tried.
    """
    if address not in (None, "auto"):
        check_answer(function, str(address))
        return address
    named = os.environ.get("RAY_ADDRESS")
    if named:
        check_answer(function, named, "which RAY_ADDRESS names, ")
        return address
    file = _file()
    try:
        written = file.read_text().strip()
    except OSError:
        return address  # Ray looks for processes of clusters, which takes it three seconds
    try:
        check_answer(function, written, f"which {file} names, and RAY_ADDRESS names none, ")
    except RunError:
        if address is None:
            return "local"
        raise
    return address


def _file() -> Path:
    """Return the file that holds the address of the last cluster of this machine."""
    home = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(home) / "ray" / "ray_current_cluster"


def check_answer(function: str, address: str, why: str = "") -> None:
    """Refuse an address at which nothing speaks gRPC, after seconds and not after minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "local", or what Ray knows better
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER) as line:
            line.settimeout(_ANSWER)
            line.sendall(_GREETING)
            frame = line.recv(_FRAME)
        if len(frame) > 3 and frame[3] == _SETTINGS:
            return
        reason = "it does not speak Ray's language (gRPC)"
    except (OSError, OverflowError) as error:
        reason = str(error)
    message = (
        f"{function}: no Ray cluster answers at {address}, {why}connecting to {host} port {port} "
        f"for {_ANSWER:.0f} s: {reason}. Check the address (`ray status` there), and that this "
        "machine may reach it; without `address` Ray starts here."
    )
    raise RunError(message)
