"""What a device learns of its own encoding, and what that does to a plan's figures."""

from __future__ import annotations

import numpy as np
import pytest

from spinn_client.device.encoding_times import FRAMES, EncodingTimes
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import Conditions, LinkState, build_table, predict
from spinn_stream.profile import Profile

JPEG, PNG = CodecSetting("jpeg", 85), CodecSetting.parse("png")


def test_the_median_of_the_first_frames_stays(bundle: Bundle) -> None:
    times = EncodingTimes(bundle)
    usual = JPEG.kind.cost.ms(bundle.cut_points[0].elements)[0]
    for n in range(FRAMES):
        assert times.factors == {} and times.expected_ms(JPEG, 0) is None
        ms = usual * (50.0 if n % 5 == 0 else 4.0)
        times.learn(JPEG if n % 2 else CodecSetting("jpeg", 30), 0, 2 * ms, load=2.0)
    assert times.factors == {"jpeg": pytest.approx(4.0)} and times.expected_ms(PNG, 0) is None
    known = times.factors
    times.learn(JPEG, 0, 1e3, load=1.0)
    assert times.factors is known and times.expected_ms(JPEG, 0) == pytest.approx(4 * usual)


def test_a_plan_takes_so_much_longer(bundle: Bundle, profile: Profile) -> None:
    now = Conditions(LinkState(20.0, 20.0), fps=30.0, deadline_ms=150.0)
    plain, slow = (predict(build_table(bundle, profile, profile, encoding), now) for encoding in (None, {"jpeg": 9.0}))
    jpeg = [n for n, setting in enumerate(plain.table.settings) if setting.codec == "jpeg"]
    sends_all = np.isin(plain.table.setting, jpeg) & (plain.table.sent > 0.999)
    longer = (slow.of("latency_ms") - plain.of("latency_ms"))[sends_all]
    assert len(longer) and longer == pytest.approx(8 * JPEG.kind.cost.ms(bundle.cut_points[0].elements)[0], rel=0.2)
    others = plain.table.split > 0
    assert (slow.of("latency_ms") == plain.of("latency_ms"))[others].all()
