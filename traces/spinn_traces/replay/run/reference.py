"""The whole network's answer for each frame: the truth to compare with if a source has no labels."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

from spinn_client.sources.base import pixels_of
from spinn_client.sources.registry import open_source
from spinn_stream.bundle import Bundle
from spinn_stream.errors import SourceError
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime import Engine

from .material import Material


def whole_network(
    material: Material,
    bundle: Bundle,
    engine: Engine,
    *,
    count: int,
    kept: Path,
    progress: Callable[[int], None] | None = None,
) -> tuple[str, ...]:
    """The final exit's label of each frame of a round, at most of `count` frames.

    kept: a file where the labels stay for the next time. progress: called with the frames done.

    Raises:
        SourceError: the source has no frame, or one that cannot be read.
    """
    key = {"content": material.content, "bundle": bundle.hash, "engine": engine.name, "count": count}
    try:
        found = json.loads(kept.read_text())
        if found["key"] == key:
            return tuple(map(str, found["labels"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    source, labels = open_source(material.source), []
    try:
        for frame in itertools.islice(pixels_of(source), count):
            x = normalise(crop(frame, bundle.input.size), bundle.input)
            logits, _ = engine.run(0, bundle.last, x)
            labels.append(bundle.labels[int(logits[0].argmax())])
            if progress is not None:
                progress(len(labels))
    finally:
        source.close()
    if not labels:
        raise SourceError(f"{material.name} has no frame that can be read")
    kept.write_text(json.dumps({"key": key, "labels": labels}))
    return tuple(labels)
