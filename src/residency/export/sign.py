"""A signature over a release's folder, by OpenSSF's model-signing and a key pair of the user's own.

It covers every file but itself, the verdict on the card included. A pair is made with OpenSSL:
`openssl ecparam -name prime256v1 -genkey -noout -out key.pem`, and its public half with
`openssl ec -in key.pem -pubout -out public.pem`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency.builds import SIGNATURE
from residency.errors import InputError, MissingError, RefusedError

_NO_KEY = (OSError, ValueError, TypeError, AttributeError)
"""What the package raises for a file that is missing, no key, a locked one, one of another kind."""


def sign(folder: Path, private_key: Path) -> None:
    """Write `model.sig`. Raises `InputError` for a key that is none, `MissingError` without the
    package."""
    signing = _package().signing
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
        signer.set_hashing_config(_hashing()).sign(folder, folder / SIGNATURE)
    except _NO_KEY as error:
        raise _bad_key(private_key, error) from None


def verify(folder: Path, public_key: Path) -> None:
    """Raise `RefusedError` unless `model.sig` is of these files and of the pair of `public_key`."""
    if not (folder / SIGNATURE).is_file():
        raise RefusedError(
            f"{folder}: there is no {SIGNATURE}",
            hint="set [export] signing_key, and release again",
        )
    verifying = _package().verifying
    from cryptography.exceptions import InvalidSignature

    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except _NO_KEY as error:
        raise _bad_key(public_key, error) from None
    try:
        verifier.set_hashing_config(_hashing()).verify(folder, folder / SIGNATURE)
    except (ValueError, InvalidSignature) as error:
        raise RefusedError(
            f"{folder}: the signature is wrong: {error}", hint="do not serve it"
        ) from None


def _package() -> Any:
    try:
        import model_signing
    except ModuleNotFoundError:
        raise MissingError(
            "model-signing is not installed", hint="install it with: pip install residency[sign]"
        ) from None
    return model_signing


def _hashing() -> Any:
    config = _package().hashing.Config()
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _bad_key(key: Path, error: Exception) -> InputError:
    return InputError(
        f"{key}: not a key to sign with: {error}",
        hint="a PEM file of an elliptic curve: openssl ecparam -name prime256v1 -genkey -noout",
    )
