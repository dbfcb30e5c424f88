"""A release's folder signed with a key pair made here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from residency.builds import changed_since_sums, write_sums
from residency.errors import InputError, RefusedError
from residency.export.sign import sign, verify


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    for command in (
        f"openssl ecparam -name prime256v1 -genkey -noout -out {private}",
        f"openssl ec -in {private} -pubout -out {public}",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    return private, public


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_text("weights")
    write_sums(folder)
    return folder


def test_a_signature_is_of_these_files_and_of_that_pair(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "mine")
    sign(folder, private)
    assert changed_since_sums(folder) == []
    verify(folder, public)
    assert str(tmp_path) not in (folder / "model.sig").read_text()
    with pytest.raises(RefusedError, match="the signature is wrong"):
        verify(folder, key_pair(tmp_path, "other")[1])
    (folder / "model" / "weights").write_text("others")
    write_sums(folder)  # whoever changes a file can change its sum too
    with pytest.raises(RefusedError, match="the signature is wrong"):
        verify(folder, public)


def test_a_missing_signature_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"there is no model\.sig"):
        verify(folder, tmp_path / "key.pub")


def test_what_is_no_key_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genrsa", "-out", rsa, "2048"], check=True, capture_output=True)
    for path in (tmp_path / "key.pem", tmp_path / "none.pem", rsa):
        with pytest.raises(InputError, match=rf"{path.name}: not a key"):
            sign(folder, path)
