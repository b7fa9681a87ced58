"""Where a request of ours may go: never into our own network, whatever a name resolves to today.

A customer chooses the address. So a name is resolved, every address it resolves to is checked, and the connection is
made to the address that was checked, not to the name again: a second answer of a name server changes nothing. That
happens for every new connection, so for every retry too. Redirects are not followed.

Refused are all addresses that are not public, and all that carry another address inside (mapped, 6to4, Teredo, NAT64).
Networks of your own are let through by `LEDGER_OUTBOUND_ALLOW`, and with them plain HTTP and any port.
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit

import httpcore

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Of addresses that are not in an allowed network.
PORTS: Final = frozenset({443, 8443})
URL_CHARACTERS_MAX: Final = 2_048
_RESOLVE_SECONDS_MAX: Final = 5.0
_ADDRESSES_MAX: Final = 16

#: Not public though the standard library's registry calls some of them so, or public but standing for another address.
_REFUSED: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/4",
            "240.0.0.0/4", "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23",
            "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
        ),
    )
)  # fmt: skip


#: All of IPv6 that has been given out to be reached from everywhere.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")


class Refused(Exception):
    """The address must not be called. The text says why, and names no address."""


class Unresolved(Exception):
    """The name has no address right now."""


class Resolve(Protocol):
    """Returns the addresses of a name, as the system would. Raises OSError."""

    async def __call__(self, host: str, port: int) -> Sequence[str]: ...


async def resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Guard:
    """Checks addresses before anything is sent to them."""

    def __init__(self, allowed: Iterable[Network] = (), resolve: Resolve = resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    def check_url(self, url: str) -> None:
        """Refuse what no later look can make good. Raises Refused."""
        if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise Refused(f"must be at most {URL_CHARACTERS_MAX} visible ASCII characters, without a backslash")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise Refused("is not a URL") from None
        if parts.scheme not in ("https", "http") or not host:
            raise Refused("must start with https:// and name a host")
        if parts.username is not None or parts.password is not None:
            raise Refused("must not contain a user name or password")
        if parts.fragment:
            raise Refused("must not contain a fragment")
        self._check_host(host, port, parts)

    def _check_host(self, host: str, port: int | None, parts: SplitResult) -> None:
        literal = _literal(host)
        inside = literal is not None and self._is_allowed(literal)
        if literal is not None and not inside and not _is_public(literal):
            raise Refused("must not name an address of a private or special network")
        if literal is None and not _is_name(host):
            raise Refused("must name a host by its full domain name")
        if self._allowed and (literal is None or inside):
            return  # where the name leads to decides, when it is called
        if parts.scheme != "https":
            raise Refused("must start with https://")
        if (port or 443) not in PORTS:
            raise Refused("must use port 443 or 8443")

    async def addresses(self, host: str, port: int, *, is_plain: bool) -> list[str]:
        """Resolve and check; return the addresses to connect to. Raises Refused and Unresolved."""
        literal = _literal(host)
        if literal is not None:
            found: Sequence[str] = [str(literal)]
        else:
            try:
                async with asyncio.timeout(_RESOLVE_SECONDS_MAX):
                    found = await self._resolve(host, port)
            except (OSError, UnicodeError, TimeoutError):
                raise Unresolved("the name has no address") from None
        if not found:
            raise Unresolved("the name has no address")
        for text in found:
            self._check(ip_address(text.partition("%")[0]), port, is_plain=is_plain)
        return list(found[:_ADDRESSES_MAX])

    def _check(self, address: Address, port: int, *, is_plain: bool) -> None:
        if self._is_allowed(address):
            return
        if not _is_public(address):
            raise Refused("leads into a private or special network")
        if is_plain:
            raise Refused("is not called without TLS")
        if port not in PORTS:
            raise Refused("leads to a port that is not called")

    def _is_allowed(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._allowed)


def networks(text: str) -> tuple[Network, ...]:
    """Read networks separated by commas. Raises ValueError."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be networks such as 10.0.0.0/8, separated by commas") from None


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not any(
        address.version == network.version and address in network for network in _REFUSED
    )


def _literal(host: str) -> Address | None:
    """Return the address that a host is written as, in any spelling that some resolver would take for one."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 017700000001, 2130706433
    except (OSError, ValueError, UnicodeError):
        return None


def _is_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return (
        len(host) <= 253
        and len(labels) > 1
        and not labels[-1].isdigit()
        and labels[-1] not in ("local", "localhost", "internal", "localdomain", "home", "lan")
        and all(0 < len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum() for label in labels)
    )


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the guard has checked, and to nothing else. TLS still asks for the name."""

    def __init__(self, guard: Guard, *, is_plain: bool) -> None:
        self._guard = guard
        self._is_plain = is_plain
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        error: Exception | None = None
        for address in await self._guard.addresses(host, port, is_plain=self._is_plain):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        assert error is not None  # noqa: S101  # there is at least one address
        raise error

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise Refused("is not called over a local socket")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
