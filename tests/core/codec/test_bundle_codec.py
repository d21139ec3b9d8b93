"""The codec's bases in a bundle: read when they are needed; where they are not right, file and reason are said."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spinn_stream.bundle import CODEC, MANIFEST, Bundle, load_bundle
from spinn_stream.codec import default_setting, encode_payload
from spinn_stream.codec.basis import as_arrays, basis_of, read_basis
from spinn_stream.errors import BundleError
from spinn_stream.train.pack.export import write_bases

from ...bundles import LITE2_200
from .bases import a_basis

SPLIT = 9


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LITE2_200, tmp_path / "bundle"))


def bases(bundle: Bundle) -> dict[int, object]:
    shapes = {cut: bundle.cut_points[cut].shape for cut in range(1, bundle.last)}
    return {cut: a_basis(s if len(s) == 3 else (s[0], 1, 1)) for cut, s in shapes.items()}  # type: ignore[arg-type]


def put_codec(folder: Path, data: bytes) -> Bundle:
    """Another file of bases, which the manifest names."""
    (folder / CODEC).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["codec_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return load_bundle(folder)


def zipped(arrays: dict[str, np.ndarray], save: Callable[..., None] = np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def test_bases_that_were_written_are_read(copy: Path) -> None:
    written = bases(load_bundle(copy))
    write_bases(copy, written)  # type: ignore[arg-type]
    bundle = load_bundle(copy)
    for cut in range(1, bundle.last):
        assert bundle.has_basis(cut) and basis_of(bundle, cut) is basis_of(bundle, cut)
        assert np.array_equal(basis_of(bundle, cut).mean, written[cut].mean)  # type: ignore[attr-defined]
    assert bundle.hash != load_bundle(LITE2_200).hash


def test_the_default_bundle_has_a_basis_wherever_activations_are_sent_from() -> None:
    bundle = load_bundle()
    for cut in range(1, bundle.last):
        assert basis_of(bundle, cut).elements == bundle.cut_points[cut].elements


def test_a_file_of_another_hash_is_refused(copy: Path) -> None:
    write_bases(copy, bases(load_bundle(copy)))  # type: ignore[arg-type]
    data = bytearray((copy / CODEC).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / CODEC).write_bytes(data)
    with pytest.raises(BundleError, match=r"codec\.npz is not the file its manifest names: SHA-256 .* copy the bundle"):
        load_bundle(copy)


def test_a_file_that_is_missing_is_named(copy: Path) -> None:
    write_bases(copy, bases(load_bundle(copy)))  # type: ignore[arg-type]
    (copy / CODEC).unlink()
    with pytest.raises(BundleError, match=r"is not a whole bundle: codec\.npz: No such file"):
        load_bundle(copy)


def test_a_file_that_is_too_large_is_not_read(copy: Path) -> None:
    with (copy / CODEC).open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(BundleError, match=r"codec\.npz: 67108865 bytes, at most 67108864 are read"):
        load_bundle(copy)


def test_a_bundle_without_bases_is_whole_and_sends_as_cnn_co(copy: Path) -> None:
    (copy / CODEC).unlink()
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest.pop("codec_sha256", None)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    bundle = load_bundle(copy)
    assert not bundle.has_basis(SPLIT) and str(default_setting(bundle, SPLIT)) == "cnn-co:8"
    x = np.zeros((1, *bundle.cut_points[SPLIT].shape), np.float32)
    assert encode_payload(bundle, SPLIT, default_setting(bundle, SPLIT), x, np.empty((0, 0, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "codec.npz, cut point 9: "),
        (b"not a file of arrays", "codec.npz, cut point 9: "),
        (zipped({"9/forward": np.zeros(3, np.float32)})[:-30], "codec.npz, cut point 9: "),
        (zipped({"1/forward": np.zeros(3, np.float32)}), "KeyError"),
        (zipped(as_arrays({9: a_basis((4, 8, 8))})), "for 88 channels"),
        (zipped({"9/forward": np.array([{}]), "9/scale": np.ones(1)}), "ValueError: Object arrays"),
    ],
    ids=["empty", "text", "cut off", "another cut point", "another shape", "pickled"],
)
def test_a_file_that_holds_something_else_is_refused_when_it_is_needed(copy: Path, data: bytes, said: str) -> None:
    bundle = put_codec(copy, data)
    with pytest.raises(BundleError, match=said):
        basis_of(bundle, 9)


def test_an_array_is_no_file_of_arrays(copy: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    with pytest.raises(BundleError, match=r"codec\.npz, cut point 9"):
        basis_of(put_codec(copy, file.getvalue()), 9)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_gives_a_basis_or_a_reason(copy: Path, save: Callable[..., None]) -> None:
    """Whatever numpy, zipfile and zlib make of it, where the manifest names the damaged file."""
    whole = zipped(as_arrays({9: a_basis((88, 8, 8))}), save)
    bundle = put_codec(copy, whole)
    refused = 0
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        (copy / CODEC).write_bytes(whole[:at] + bytes((whole[at] ^ 0xFF,)) + whole[at + 1 :])
        try:
            assert read_basis(bundle, 9).shape == (88, 8, 8)
        except BundleError as error:
            refused += 1
            assert "codec.npz, cut point 9: " in str(error)
    assert refused > 100
