"""Who may talk to the server: loopback alone, or whoever has the key.

Without a key a request must name a loopback host. A page in a browser of this machine could otherwise reach the server
under a name of its own that it lets point to 127.0.0.1 (DNS rebinding).
"""

import hmac
import ipaddress
import os
import socket
from urllib.parse import urlsplit

from smartdevdigest_ops.serving.errors import ServingError

API_KEY_VARIABLE = "SMARTDEVDIGEST_API_KEY"
_LEAST_KEY_CHARACTERS = 16
_BACKLOG = 1024


def read_api_key() -> str | None:
    """The key of the environment; None where it is not set.

    Raises:
        ServingError: it is too short, or holds what an HTTP header cannot.
    """
    key = os.environ.get(API_KEY_VARIABLE)
    if key is None:
        return None
    if len(key) < _LEAST_KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
        raise ServingError(
            f"{API_KEY_VARIABLE} holds {len(key)} characters; needed are at least {_LEAST_KEY_CHARACTERS} printable "
            "ASCII characters without spaces, or others could guess it. `openssl rand -hex 32` makes one; without the "
            "variable the server answers this machine alone."
        )
    return key


def is_authorized(authorization: str | None, key: str) -> bool:
    """Whether an Authorization header holds the key as a bearer token, in a time that does not tell how much of it."""
    scheme, _, given = (authorization or "").partition(" ")
    # Headers are latin-1; compare_digest takes non-ASCII as bytes only.
    return hmac.compare_digest(given.strip().encode("utf-8"), key.encode()) and scheme.lower() == "bearer"


def names_loopback(host_header: str | None) -> bool:
    """Whether a Host header names this machine."""
    try:
        name = urlsplit(f"//{host_header or ''}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def open_socket(host: str, port: int, api_key: str | None) -> socket.socket:
    """A listening socket.

    Raises:
        ServingError: the address is not loopback and there is no key, or cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise ServingError(f"serving.host: {host!r} is no address of this machine ({error}).") from None
    if api_key is None and not _is_loopback(str(address[0])):
        raise ServingError(
            f"serving.host is {host}, which others can reach, and {API_KEY_VARIABLE} is not set: whoever finds the "
            f"port could use the model. Set {API_KEY_VARIABLE} to a key that clients send as `Authorization: Bearer "
            "KEY`, or listen on 127.0.0.1. The server was not started."
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ServingError(
            f"{host} port {port} cannot be listened on: {error.strerror}. Choose another one with --port, or 0 for one "
            "that is free."
        ) from None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
