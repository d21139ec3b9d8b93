"""Weights in huge pages: a network of 24 MB needs 12 entries of the processor's address cache, not 6,000.

Pages have 4 KiB unless a program asks for larger ones, and no engine does. A network's weights are then more pages than
a core remembers (1,024 to 2,048), so each page is looked up anew for every frame. In a virtual machine, where a look-up
goes through two tables, this takes 2 % of the time. See docs/decisions/0010-runtimes.md.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
MAPS = Path("/proc/self/maps")

MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25
"""Of linux/mman.h: in the background, later; and at once (since Linux 6.1)."""

FULL = 0.9
"""Share of a huge page's small pages that must be in use before it is made: the others take memory then, too."""


def use_huge_pages() -> int:
    """Put this process's memory into huge pages, if it fills them and the system does not say `never`.

    Takes some milliseconds for a network that was just built, so call it where nothing waits. If it is not possible,
    nothing changes.

    Returns:
        Bytes that are now in huge pages, as far as they were found; 0: none.
    """
    size = _huge_page_bytes()
    if not size:
        return 0
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        done = sum(_advise(libc, start, stop) for start, stop in _filled(libc, size))
    except (OSError, AttributeError, ValueError) as error:  # no such call, or the list of regions cannot be read
        log.debug("no huge pages: %s", error)
        return 0
    log.debug("%d MB in huge pages", done >> 20)
    return done


def _huge_page_bytes() -> int:
    """0: there are none, or the system's owner wants none."""
    if sys.platform != "linux":
        return 0
    try:
        if "[never]" in (SETTINGS / "enabled").read_text():
            return 0
        return int((SETTINGS / "hpage_pmd_size").read_text())
    except (OSError, ValueError):
        return 0


def _filled(libc: ctypes.CDLL, size: int) -> Iterator[tuple[int, int]]:
    """Address ranges of this process's own writable memory that is in use; multiples of `size`."""
    pages = size // mmap.PAGESIZE
    for low, high in _regions():
        start, stop = -(-low // size) * size, high // size * size
        if start >= stop:
            continue
        buffer = ctypes.create_string_buffer((stop - start) // mmap.PAGESIZE)
        if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), buffer) != 0:
            continue  # given back meanwhile
        present = buffer.raw
        began: int | None = None
        for block in range(0, len(present), pages):
            used = present.count(b"\x01", block, block + pages) >= FULL * pages
            at = start + block * mmap.PAGESIZE
            if used and began is None:
                began = at
            elif not used and began is not None:
                yield began, at
                began = None
        if began is not None:
            yield began, stop


def _regions() -> list[tuple[int, int]]:
    """Addresses of private, writable memory without a file."""
    found = []
    for line in MAPS.read_text().splitlines():
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights == "rw-p" and inode == "0" and (not name or name[0] == "[heap]"):
            start, stop = addresses.split("-")
            found.append((int(start, 16), int(stop, 16)))
    return found


def _advise(libc: ctypes.CDLL, start: int, stop: int) -> int:
    """Bytes of the range that are in huge pages now."""
    where, length = ctypes.c_void_p(start), ctypes.c_size_t(stop - start)
    if libc.madvise(where, length, MADV_COLLAPSE) == 0:
        return stop - start
    if ctypes.get_errno() == errno.EINVAL:  # an older kernel, which does it when it gets to it
        libc.madvise(where, length, MADV_HUGEPAGE)
    return 0
