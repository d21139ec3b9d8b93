"""The peer of a connection, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Front:
    """What stands before the server, and which web pages may begin sessions.

    path_prefix: left on the paths by a reverse proxy, such as "/spinn". proxies: networks whose X-Forwarded-For is
    believed.
    origins: of web pages that may begin sessions, such as "https://example.org"; other programs send no origin.
    """

    path_prefix: str = ""
    proxies: tuple[Network, ...] = ()
    origins: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.path_prefix and (not self.path_prefix.startswith("/") or self.path_prefix.endswith("/")):
            raise ValueError(f"the path prefix is {self.path_prefix!r}, expected one like /spinn")

    def path(self, path: str) -> str:
        """A request's path without query and prefix."""
        bare = path.partition("?")[0]
        if self.path_prefix and (bare == self.path_prefix or bare.startswith(self.path_prefix + "/")):
            return bare[len(self.path_prefix) :] or "/"
        return bare

    def refuses(self, origin: str) -> bool:
        """Whether a page of this origin may not begin a session."""
        return origin not in self.origins

    def peer(self, address: Any, forwarded: Sequence[str]) -> str:
        """The peer: HOST:PORT, or "HOST via PROXY:PORT" if a trusted proxy says so.

        Args:
            address: of the socket, as Python has it. forwarded: the values of X-Forwarded-For, in order.
        """
        if not isinstance(address, tuple):
            return "a peer without address"
        socket = f"{in_url(str(address[0]))}:{address[1]}"
        client = str(address[0])
        for hop in reversed([part.strip() for value in forwarded for part in value.split(",")]):
            if not self._is_proxy(client):
                break
            try:
                client = str(ip_address(hop))
            except ValueError:
                break
        return socket if client == str(address[0]) else f"{client} via {socket}"

    def _is_proxy(self, host: str) -> bool:
        try:
            found = ip_address(host)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks as 10.0.0.0/8, or single addresses.

    Raises:
        ValueError: a text is neither.
    """
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise ValueError(f"a trusted proxy: {error}, expected one like 10.0.0.0/8 or 10.0.0.1") from error


def in_url(host: str) -> str:
    """The host in a URL: an IPv6 address gets brackets."""
    return f"[{host}]" if ":" in host else host
