"""Codec settings: what a user writes, and what goes with which split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.codec import (
    SUPPORTED,
    CodecSetting,
    PayloadReceiver,
    PayloadSender,
    cnn_co,
    decode_payload,
    default_setting,
    encode_payload,
    max_payload_bytes,
    transform,
)
from spinn_stream.codec.basis import basis_of
from spinn_stream.errors import CodecError
from spinn_stream.frame import crop, normalise
from spinn_stream.plan import Plan

SPLIT = 9
NO_PICTURE = np.empty((0, 0, 3), np.uint8)
FINEST = transform.BITS[-1]


@pytest.mark.parametrize(
    "text", ["transform:2", f"transform:{FINEST}", "cnn-co:2", "cnn-co:8", "jpeg:1", "jpeg:100", "png"]
)
def test_a_setting_is_what_its_text_says_and_says_it_again(text: str) -> None:
    setting = CodecSetting.parse(text)
    codec, _, quality = text.partition(":")
    assert setting == CodecSetting(codec, int(quality) if quality else None) and str(setting) == text
    assert setting.of_frames == (codec in ("jpeg", "png")) and codec in SUPPORTED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "codec '', expected one of transform, cnn-co, jpeg, png"),
        ("zip", "codec 'zip', expected one of transform"),
        ("Transform:7", "codec 'Transform', expected one of"),
        ("x" * 1000, "codec 'xxx"),
        ("transform", f"transform, expected transform:2 to transform:{FINEST}"),
        ("transform:1", "transform:1, expected transform:2 to"),
        (f"transform:{FINEST + 1}", f"transform:{FINEST + 1}, expected transform:2 to"),
        ("cnn-co:9", "cnn-co:9, expected cnn-co:2 to cnn-co:8"),
        ("jpeg", "jpeg, expected jpeg:1 to jpeg:100"),
        ("jpeg:0", "jpeg:0, expected jpeg:1 to"),
        ("jpeg:101", "jpeg:101, expected jpeg:1 to"),
        ("png:9", "png has no quality, got 9"),
        ("jpeg:", "a whole number behind the colon"),
        ("jpeg:high", "a whole number behind the colon"),
        ("jpeg:-5", "a whole number behind the colon"),
        ("jpeg:8.5", "a whole number behind the colon"),
        ("jpeg:85:85", "a whole number behind the colon"),
        ("jpeg:\u0663", "a whole number behind the colon"),
        ("jpeg:" + "9" * 5000, "a whole number behind the colon"),
    ],
)
def test_what_is_no_setting_is_refused_with_what_would_be(text: str, said: str) -> None:
    with pytest.raises(CodecError, match=said) as caught:
        CodecSetting.parse(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("codec", SUPPORTED)
def test_any_setting_of_a_codec_is_one(codec: str) -> None:
    assert CodecSetting.any_of(codec).codec == codec
    with pytest.raises(CodecError):
        CodecSetting.any_of("zip")


@pytest.mark.parametrize("codec", SUPPORTED)
@pytest.mark.parametrize("split", [0, 1, SPLIT])
def test_frames_are_for_split_0_and_activations_for_the_others(codec: str, split: int) -> None:
    setting = CodecSetting.any_of(codec)
    if (codec in ("jpeg", "png")) == (split == 0):
        setting.check_split(split)
        assert Plan(1, split, None, setting).codec == setting
        return
    for refused in (setting.check_split, lambda s: Plan(1, s, None, setting)):
        with pytest.raises(CodecError, match=f"{codec}.* does not go with split {split}, expected one of"):
            refused(split)


def test_the_default_fits_split_and_bundle_and_what_is_asked_for_goes_first(bundle: Bundle) -> None:
    bare = dataclasses.replace(bundle, codec_path=None)
    assert default_setting(bundle, 0).codec == default_setting(bare, 0).codec == "jpeg"
    assert {default_setting(bundle, split).codec for split in range(1, bundle.last)} == {"transform"}
    assert {str(default_setting(bare, split)) for split in range(1, bundle.last)} == {"cnn-co:8"}
    asked = CodecSetting.parse("cnn-co:4")
    assert default_setting(bundle, SPLIT, asked) == asked


def test_a_bundle_without_bases_says_what_to_do(bundle: Bundle) -> None:
    bare = dataclasses.replace(bundle, codec_path=None)
    with pytest.raises(CodecError, match=f"has no basis at split {SPLIT}; use cnn-co, or `spinn calibrate` it"):
        basis_of(bare, SPLIT)
    with pytest.raises(CodecError, match="has no basis"):
        decode_payload(bare, SPLIT, "transform", b"\0\7" + bytes(8))
    for split in (0, bundle.last):
        assert not bundle.has_basis(split)
        with pytest.raises(CodecError, match=f"has no basis at split {split}"):
            basis_of(bundle, split)


def activation_at(bundle: Bundle, split: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, *bundle.cut_points[split].shape)).astype(np.float32)


@pytest.mark.parametrize("split", [1, SPLIT, 22])
@pytest.mark.parametrize("text", ["transform:7", "cnn-co:8", "cnn-co:4"])
def test_every_codec_of_activations_goes_through_both_ends(bundle: Bundle, split: int, text: str) -> None:
    setting = CodecSetting.parse(text)
    sender, receiver = PayloadSender(bundle), PayloadReceiver(bundle)
    for request in range(3):
        x = activation_at(bundle, split)
        payload = sender.encode(request, split, setting, x, NO_PICTURE)
        found = receiver.decode(request, split, setting.codec, payload)
        assert found.shape == x.shape and found.dtype == np.float32
        assert len(payload) <= max_payload_bytes(bundle, split)
        assert (receiver.held_bytes > 0) == (setting.codec == "transform")
        sender.acknowledge(request)
    receiver.clear()
    assert receiver.held_bytes == 0
    alone = decode_payload(bundle, split, setting.codec, encode_payload(bundle, split, setting, x, NO_PICTURE))
    assert alone.shape == x.shape


def test_frames_go_through_both_ends(bundle: Bundle, photographs: list[np.ndarray]) -> None:
    picture = crop(photographs[0], bundle.input.size)
    whole = normalise(picture, bundle.input)
    receiver = PayloadReceiver(bundle)
    for text, most in (("png", 0.0), ("jpeg:95", 0.05), ("jpeg:30", 0.2)):
        setting = CodecSetting.parse(text)
        payload = encode_payload(bundle, 0, setting, whole, picture)
        found = receiver.decode(0, 0, setting.codec, payload)
        assert found.shape == whole.shape and np.abs(found - whole).mean() <= most
    assert receiver.held_bytes == 0


@pytest.mark.parametrize("split", [0, SPLIT])
@pytest.mark.parametrize("codec", [*SUPPORTED, "zip"])
def test_a_receiver_refuses_a_codec_that_does_not_go_with_the_split(bundle: Bundle, codec: str, split: int) -> None:
    if codec != "zip" and (codec in ("jpeg", "png")) == (split == 0):
        return
    for decode in (
        lambda: decode_payload(bundle, split, codec, b"\0\7" + bytes(20)),
        lambda: PayloadReceiver(bundle).decode(0, split, codec, b"\0\7" + bytes(20)),
    ):
        with pytest.raises(CodecError, match=r"does not go with split|'zip', expected one of"):
            decode()


def test_payload_bounds_cover_every_codec_of_the_split(bundle: Bundle) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (bundle.input.size, bundle.input.size, 3), np.uint8)
    for text in ("png", "jpeg:100"):
        payload = encode_payload(bundle, 0, CodecSetting.parse(text), activation_at(bundle, 0), noise)
        assert len(payload) <= max_payload_bytes(bundle, 0)
    for split in range(1, bundle.last):
        elements = bundle.cut_points[split].elements
        bounds = cnn_co.max_payload_bytes(elements), transform.max_payload_bytes(elements)
        assert max_payload_bytes(bundle, split) >= max(bounds)
