"""Memory in use goes to huge pages and keeps its numbers; what is not in use takes none."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.runtime.machine import huge_pages
from spinn_stream.runtime.machine.huge_pages import use_huge_pages

MB = 1 << 20
Floats = npt.NDArray[np.float64]


def own_memory(size: int) -> Floats:
    """Zeros in memory that the system gave for them alone; numpy's own large arrays ask for huge pages themselves."""
    return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.float64)


def in_huge_pages(array: Floats) -> int:
    """Bytes of the mapping that the array begins in."""
    start = array.ctypes.data
    regions = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    for region in regions[1:]:
        low, high = (int(n, 16) for n in region.split()[0].split("-"))
        if low <= start < high:
            found = re.search(r"AnonHugePages:\s+(\d+) kB", region)
            assert found is not None
            return int(found[1]) * 1024
    raise AssertionError("the array lies nowhere")


@pytest.fixture
def huge() -> int:
    """Bytes of a huge page; skips where there are none, or none at once."""
    size = huge_pages._huge_page_bytes()
    if not 0 < size <= 4 * MB or use_huge_pages() == 0:
        pytest.skip("this system has no huge pages that are made at once (Linux 6.1, not `never`)")
    return size


def test_what_is_in_use_goes_to_huge_pages_and_stays_what_it_is(huge: int) -> None:
    array = own_memory(32 * MB)
    array[:] = np.arange(len(array))
    before = in_huge_pages(array)
    done = use_huge_pages()
    assert in_huge_pages(array) >= max(before, 32 * MB - 2 * huge), "all but its ends"
    assert done >= 32 * MB - 2 * huge
    assert np.array_equal(array, np.arange(len(array)))


def test_memory_that_nobody_has_used_is_left_alone(huge: int) -> None:
    array = own_memory(64 * MB)  # a page of it is there once it is written
    array[:: 16 * MB // 8] = 1
    before = in_huge_pages(array)
    use_huge_pages()
    assert in_huge_pages(array) == before


@pytest.mark.parametrize("enabled", ["always madvise [never]\n", None])
def test_where_the_system_says_never_or_nothing_nothing_is_done(
    enabled: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if enabled is not None:
        (tmp_path / "enabled").write_text(enabled)
        (tmp_path / "hpage_pmd_size").write_text("2097152\n")
    monkeypatch.setattr(huge_pages, "SETTINGS", tmp_path)
    assert use_huge_pages() == 0


def test_regions_that_cannot_be_read_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "MAPS", tmp_path / "gone")
    assert use_huge_pages() == 0
