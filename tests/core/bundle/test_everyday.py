"""The shipped map from the classes of ImageNet to everyday words."""

from __future__ import annotations

import json
from collections import Counter

from spinn_stream.bundle.manifest import BUNDLES

MAP = json.loads((BUNDLES / "everyday.json").read_text("utf-8"))


def test_the_map_covers_a_thousand_classes_with_sixty_groups_or_more() -> None:
    assert len(MAP) == 1000
    assert len(set(MAP.values())) >= 60
    assert all(0 < len(name) <= 40 for name in (*MAP, *MAP.values()))


def test_no_group_but_dogs_has_more_than_sixty_classes() -> None:
    large = [group for group, count in Counter(MAP.values()).items() if count > 60]
    assert large == ["dog"]
