"""The references, and what is done with a frame: repeat an answer, audit that, or run the network.

The change of a frame is the distance of its thumbnail from a reference's, over the reference's margin: the difference
of its two likeliest probabilities. So a picture may change more if the network was sure, and an answer that was nearly
another one is hardly ever repeated.

Only answers of the network become references, never repeats. So a slow drift adds up until a frame is run again.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from spinn_stream.frame import Pixels
from spinn_stream.runtime.exits import Answer

from .agreement import DEFAULT_MOST_LOST, Agreement, lost_by
from .thumbnail import Thumbnail, distance, thumbnail

EXIT = "repeat"
"""Its name in results."""

DEFAULT_AUDIT_RATE = 0.05
"""Share of the repeats that are audited."""

REFERENCES = 8
"""The newest answers: 100 kB of thumbnails. On clips, 4 and 16 repeat as often."""

OLDEST_S = 60.0
"""No answer is repeated for longer: a still scene costs a frame a minute for that."""

MOST_LOOKS = 64
"""Frames that were looked at and may still be answered; the oldest is forgotten then."""

SHARE_FRAMES = 300
"""The share of repeats is a mean over about this number of frames, as the other exits' shares are."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A frame that was answered. at: when it was looked at, in seconds."""

    frame: int
    thumbnail: Thumbnail
    at: float
    answer: Answer

    @property
    def margin(self) -> float:
        """Difference of the two likeliest probabilities."""
        top = self.answer.top
        return top[0][1] - top[1][1] if len(top) > 1 else top[0][1]


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen of a frame.

    at: seconds. nearest: the reference with the least change; None: there is none. answer: to be repeated; None: the
    network must be run. audit: it is run all the same, to compare.
    """

    thumbnail: Thumbnail
    at: float
    nearest: Reference | None
    change: float
    answer: Answer | None = None
    audit: bool = False


class Repeats:
    """The repeat exit of one camera.

    Looks must not overlap. Any thread may tell answers; they count from the next look on.

    Args:
        audit_rate: share of the repeats that are audited, 0 to 1. most_lost: accuracy that repeats may cost, 0 to 1;
            may be changed while it runs.
    """

    def __init__(
        self, *, audit_rate: float = DEFAULT_AUDIT_RATE, most_lost: float = DEFAULT_MOST_LOST,
        rng: random.Random | None = None,
    ) -> None:  # fmt: skip
        self._audit_rate = audit_rate
        self.most_lost = most_lost
        self._rng = rng or random.Random(0)  # nothing secret; the same run gives the same audits
        self._references: deque[Reference] = deque(maxlen=REFERENCES)
        self._looks: OrderedDict[int, Look] = OrderedDict()  # of frames that the network is to answer
        self._told: deque[tuple[int, Answer]] = deque()  # answers that were told since the last look
        self._agreement = Agreement()
        self._share: tuple[float, float] = 0.0, 0.0  # frames, and repeats among them
        self.audits = 0
        self.disagreed = 0

    @property
    def limit(self) -> float:
        """Changes below this one are repeated; 0.0: nothing is."""
        return self._agreement.limit(self.most_lost)

    @property
    def share(self) -> float:
        """Share of the last frames that were repeated, not counting audits; 0.0 as long as nothing is known."""
        frames, repeated = self._share
        return repeated / frames if frames else 0.0

    @property
    def loss(self) -> float:
        """The accuracy that the repeats of the largest changes cost, as estimated: others cost less."""
        return self._agreement.loss(math.nextafter(self.limit, 0.0)) if self.limit else 0.0

    def look(self, frame: int, picture: Pixels, now: float) -> Look:
        """Compare a frame with the references.

        Args:
            frame: its number. picture: as `frame.crop` gives it. now: seconds, never falling.
        """
        small = thumbnail(picture)
        self._hear_all()
        look = self._compare(small, now)
        self._count(look.answer is not None and not look.audit)
        if look.answer is None or look.audit:
            self._looks[frame] = look
            if len(self._looks) > MOST_LOOKS:
                self._looks.popitem(last=False)
        return look

    def look_again(self, frame: int, now: float) -> Look | None:
        """Compare a frame that the network is to answer with what was answered since.

        None: it was never looked at, has its answer, or is an audit.
        Such a repeat does not count in `share`: the frame was prepared to be sent, and may have waited.
        """
        self._hear_all()
        before = self._looks.get(frame)
        if before is None or before.audit:
            return None
        look = self._compare(before.thumbnail, now)
        if look.answer is None or look.audit:
            self._looks[frame] = look
        else:
            del self._looks[frame]
        return look

    def nearest_of(self, frame: int, under_way: Iterable[int]) -> int | None:
        """The nearest frame under way whose answer this one is expected to repeat; None: there is no such frame.

        Its answer is expected to have the margin of the reference that it was nearest to itself.
        """
        own, limit, found = self._looks.get(frame), self.limit, list[tuple[float, int]]()
        for other in under_way:
            look = self._looks.get(other)
            if own is None or look is None or look.nearest is None or other == frame:
                continue
            away = distance(own.thumbnail, look.thumbnail)
            if away < limit * look.nearest.margin:
                found.append((away, other))
        return min(found)[1] if found else None

    def answered(self, frame: int, answer: Answer) -> None:
        """The network answered a frame: with its final exit, or with one that passed. Only the first answer counts."""
        self._told.append((frame, answer))

    def _compare(self, small: Thumbnail, now: float) -> Look:
        nearest, change = None, math.inf
        for reference in self._references:
            if now - reference.at > OLDEST_S or not reference.margin > 0:
                continue
            found = distance(small, reference.thumbnail) / reference.margin
            if found < change:
                nearest, change = reference, found
        repeats = nearest is not None and change < self.limit
        audit = repeats and self._rng.random() < self._audit_rate
        answer = _again(nearest.answer) if nearest is not None and repeats else None
        return Look(small, now, nearest, change, answer, audit)

    def _hear_all(self) -> None:
        while self._told:
            self._hear(*self._told.popleft())

    def _hear(self, frame: int, answer: Answer) -> None:
        look = self._looks.pop(frame, None)
        if look is None:  # it was never looked at, or has its answer
            return
        if look.nearest is not None:
            repeated = look.nearest.answer.label
            self._agreement.observe(look.change, lost_by(repeated, answer))
            if look.audit:
                self.audits += 1
                self.disagreed += answer.label != repeated
                if answer.label != repeated and look.nearest in self._references:
                    self._references.remove(look.nearest)  # the answer that follows takes its place
        self._references.append(Reference(frame, look.thumbnail, look.at, answer))

    def _count(self, repeated: bool) -> None:
        frames, before = self._share
        kept = 1 - 1 / SHARE_FRAMES
        self._share = kept * frames + 1, kept * before + repeated


def _again(answer: Answer) -> Answer:
    """The same answer, of the repeat exit."""
    return Answer(EXIT, answer.label, answer.confidence, answer.top)
