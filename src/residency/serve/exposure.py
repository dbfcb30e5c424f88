"""What must hold before the endpoint listens beyond this machine."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path

from residency.config import Exposure, ServeSettings
from residency.errors import InputError

_MISSING: dict[tuple[bool, bool], Exposure] = {
    (True, True): "",
    (False, True): "without keys",
    (True, False): "without TLS",
    (False, False): "without keys and TLS",
}


def address(host: str) -> str:
    """The IP address that `host` names. Raises `InputError` unless it is one, or `localhost`."""
    try:
        return str(ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        raise InputError(
            f"serve.host: {host!r} is not an IP address",
            hint='use "127.0.0.1", the address of one interface, or "0.0.0.0" for all',
        ) from None


def check(settings: ServeSettings) -> Exposure:
    """What is missing, by the settings' own leave, while others can reach the endpoint; empty when
    nothing is, or when only this machine can.

    Raises `InputError` when the settings do not give that leave in the very words.
    """
    if ip_address(address(settings.host)).is_loopback:
        return ""
    missing = _MISSING[settings.keys, bool(settings.tls_certificate)]
    if settings.exposed != missing:
        raise InputError(
            f"serve.host: {settings.host} can be reached from other machines, "
            f"{missing or 'with keys and TLS'}, and serve.exposed says {settings.exposed!r}",
            hint=f'set exposed = "{missing}" if this is meant; otherwise host = "127.0.0.1", '
            "or keys = true with tls_certificate and tls_key",
        )
    return missing


def check_tls(settings: ServeSettings) -> None:
    """Raises `InputError` unless the certificate and key are there, readable and a pair; or both
    not set. Whether clients will trust the certificate is not looked at."""
    files = settings.tls_certificate, settings.tls_key
    if not any(files):
        return
    if not all(files):
        raise InputError("serve: tls_certificate and tls_key go together; one of them is not set")
    for name, file in zip(("tls_certificate", "tls_key"), files, strict=True):
        try:
            Path(file).read_bytes()
        except OSError as error:
            raise InputError(f"serve.{name}: {file}: {error.strerror}") from None
    _check_pair(*files)


def _check_pair(certificate: str, key: str) -> None:
    try:
        # Without a password of its own the library would ask at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: "")
    except ssl.SSLError as error:
        raise InputError(
            f"serve: {certificate} and {key}: {error.reason or 'not PEM files'}",
            hint="both as PEM, the key of that certificate, without a password",
        ) from None
