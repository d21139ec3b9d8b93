"""A TCP connection to a name: the first of its addresses that answers (Happy Eyeballs, RFC 8305)."""

from __future__ import annotations

import asyncio
import socket

import aiohappyeyeballs

STAGGER_S = 0.25
"""From one address to the next, as RFC 8305 recommends: the one before goes on meanwhile."""

TRY_S = 1.5
"""The kernel repeats a lost first packet after 1 s and again after 3 s (RFC 6298). A new try comes sooner than that."""


async def connect_tcp(host: str, port: int) -> socket.socket:
    """A connected socket, non-blocking.

    Raises:
        TimeoutError: no address answers within TRY_S. OSError: every address refuses, or the name is not known.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    async with asyncio.timeout(TRY_S):
        return await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=STAGGER_S, interleave=1)
