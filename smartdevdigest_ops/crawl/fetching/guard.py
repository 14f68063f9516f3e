"""Which URLs and addresses the crawl may talk to.

A page, a redirect or a name server decides where the next request goes, so none of them may point it at services
behind the firewall: loopback, the private networks, a cloud's metadata service. A name is resolved once per connection,
every address it has is checked, and the connection goes to the very address that was checked: a name that answers
differently the second time (DNS rebinding) gains nothing.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.crawl.fetching.errors import Refused

if TYPE_CHECKING:
    import httpcore
    import httpx

Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host name for a port, best first; raises `socket.gaierror`."""

_MAX_URL_CHARACTERS = 8192

# Our own table and not `ipaddress.is_global`, whose answers changed between 3.11.7 and 3.11.10.
# Source: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates).
_REFUSED_V4 = {
    IPv4Network("0.0.0.0/8"): "this network, unspecified",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "shared by carrier-grade NAT",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("168.63.129.16/32"): "a cloud's metadata service",
    IPv4Network("169.254.0.0/16"): "link-local, where clouds keep their metadata service",
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "reserved for protocols",
    IPv4Network("192.0.2.0/24"): "reserved for documentation",
    IPv4Network("192.88.99.0/24"): "a 6to4 relay",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("198.18.0.0/15"): "reserved for benchmarks",
    IPv4Network("198.51.100.0/24"): "reserved for documentation",
    IPv4Network("203.0.113.0/24"): "reserved for documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved or broadcast",
}
_REFUSED_V6 = {
    IPv6Network("2001::/23"): "reserved for protocols, such as Teredo",
    IPv6Network("2001:db8::/32"): "reserved for documentation",
    IPv6Network("2002::/16"): "6to4, which hides an IPv4 address",
    IPv6Network("3fff::/20"): "reserved for documentation",
    IPv6Network("::1/128"): "loopback",
    IPv6Network("fc00::/7"): "private (unique local)",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("ff00::/8"): "multicast",
}
_PUBLIC_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def check_url(text: str) -> "httpx.URL":
    """The URL without its fragment, in its normal form.

    Raises:
        Refused: it is not http or https, carries credentials, or is no URL with a host.
    """
    import httpx

    if len(text) > _MAX_URL_CHARACTERS:
        raise Refused("url", f"the URL has {len(text)} characters, more than {_MAX_URL_CHARACTERS}")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise Refused("url", f"this is no URL ({error})") from None
    if url.scheme not in ("http", "https"):
        raise Refused("scheme", f"the scheme is {url.scheme[:20]!r}; only http and https pages are fetched")
    if url.userinfo:
        raise Refused(
            "credentials", f"a URL of {url.host} carries a user name or password; pages behind one are no crawl's"
        )
    if not url.host or b"%" in url.raw_host:  # httpx escapes what cannot stand in a host's name
        raise Refused("url", "the URL names no host")
    if url.port is not None and not 0 < url.port < 2**16:
        raise Refused("url", f"there is no port {url.port}")
    return url.copy_with(fragment=None)


def refusal(address: str, allowed: Sequence[Network] = ()) -> str | None:
    """Why an IP address may not be talked to; None where it may.

    An IPv4 address inside an IPv6 one (IPv4-mapped, NAT64) is judged as the IPv4 address that packets end up at.
    """
    outer = ipaddress.ip_address(address)
    inner = _embedded_v4(outer)
    if any(one.version == network.version and one in network for network in allowed for one in (outer, inner)):
        return None
    for network, name in (_REFUSED_V4 if isinstance(inner, IPv4Address) else _REFUSED_V6).items():
        if inner in network:
            return f"{name} ({network})"
    if isinstance(inner, IPv6Address) and inner not in _PUBLIC_V6:
        return f"outside the public IPv6 addresses ({_PUBLIC_V6})"
    return None


def _embedded_v4(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


async def resolve_name(host: str, port: int) -> list[str]:
    """Addresses of a host by the system's resolver, best first.

    Whatever the system takes for an address (`127.1`, `0x7f.1`, `2130706433`) comes back as the address it stands for.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class GuardedNetwork:
    """A network for httpcore's connection pool that connects to checked addresses alone."""

    def __init__(self, allowed: Sequence[Network], resolve: Resolve = resolve_name) -> None:
        import httpcore

        self._allowed = tuple(allowed)
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> "httpcore.AsyncNetworkStream":
        """A connection to the first address of the host that answers.

        Raises:
            Refused: one of the host's addresses may not be talked to, or the name does not exist.
            httpcore.ConnectError: no address answers, or the name server does not.
            httpcore.ConnectTimeout: name server and addresses took longer than `timeout` seconds.
        """
        import httpcore

        until = None if timeout is None else time.monotonic() + timeout
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._checked_addresses(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"the name server took longer than {timeout:g} s for {host}") from None
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for index, address in enumerate(addresses):
            # An address that swallows packets must leave time for the next one.
            share = None if until is None else max(until - time.monotonic(), 0.01) / (len(addresses) - index)
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _checked_addresses(self, host: str, port: int) -> list[str]:
        import httpcore

        try:
            addresses = list(await self._resolve(host, port))
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise httpcore.ConnectError(f"the name server has no answer for {host} at the moment") from None
            raise Refused("name", f"there is no host {host} ({error.strerror})") from None
        except UnicodeError:
            raise Refused("name", f"{host[:80]!r} cannot be a host's name") from None
        # One private address among public ones is no accident that deserves the benefit of the doubt.
        for address in addresses:
            why = refusal(address, self._allowed)
            if why is not None:
                where = f"{host} is at {address}, which" if host != str(address) else host
                raise Refused(
                    "private_address",
                    f"{where} is {why} and not public. If it belongs to your intranet, add its network to "
                    "crawl.allowed_private_networks",
                )
        return addresses

    async def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        """Never: a crawl has no business with sockets of this machine."""
        raise Refused("private_address", f"{path} is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Pause, for httpcore."""
        await asyncio.sleep(seconds)
