"""Groups of classes that mean something to the user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spinn_stream.bundle import label_map, load_labels
from spinn_stream.errors import ConfigError

LABELS = ("tabby", "pug", "siamese", "espresso")


def test_classes_of_one_group_share_its_name_and_the_others_keep_theirs() -> None:
    found = label_map(LABELS, {"tabby": "cat", "siamese": "cat", "pug": "dog"})
    assert found.names == ("cat", "dog", "espresso") and found.group_of == (0, 1, 0, 2)


def test_no_map_is_every_class_for_itself() -> None:
    assert label_map(LABELS, {}).names == LABELS


@pytest.mark.parametrize(
    ("groups", "said"),
    [({"tabbi": "cat"}, "no class 'tabbi'; did you mean 'tabby'"), ({"tabby": ""}, "expected a name of 1 to 200"),
     ({"tabby": 3}, "expected a name of 1 to 200")],
)  # fmt: skip
def test_what_does_not_fit_the_bundle_is_told(groups: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        label_map(LABELS, groups)


@pytest.mark.parametrize(
    ("text", "said"), [("[]", "got a list"), ("{", "is not JSON"), (json.dumps({"x": "y"}), "no class 'x'")]
)
def test_a_file_that_is_no_map_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_labels(tmp_path / "map.json", LABELS)


def test_a_map_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ConfigError, match="cannot read the labels nowhere: No such file"):
        load_labels("nowhere", LABELS)
