"""A flight from above, in letters: trees, the way that was flown, and where it ended."""

from __future__ import annotations

from spinn_drone.flight.referee import Flight
from spinn_drone.world.scene import Scene

WIDE, HIGH = 100, 21
"""Of the picture, in letters; 1 m across is half a letter down."""

ACROSS_M = 0.6
DOWN_M = 1.2

ENDS = {"crashed": "X", "arrived": ">"}


def top_view(flight: Flight) -> str:
    """Forward is to the right. o: a tree. dots: the way that was flown. X: a crash. >: it arrived."""
    grid = [[" "] * WIDE for _ in range(HIGH)]
    middle = sum(y for _, y, _ in flight.track) / max(1, len(flight.track))

    def put(x: float, y: float, letter: str) -> None:
        column, row = round(x / ACROSS_M), round(HIGH / 2 - (y - middle) / DOWN_M)
        if 0 <= column < WIDE and 0 <= row < HIGH:
            grid[row][column] = letter

    for x, y, _ in Scene(flight.seed).forest().trees:
        put(float(x), float(y), "o")
    for x, y, _ in flight.track:
        put(x, y, ".")
    if flight.track:
        x, y, _ = flight.track[-1]
        put(x, y, ENDS.get(flight.ending, "?"))
    return "\n".join("".join(row).rstrip() for row in grid)
