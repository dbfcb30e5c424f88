"""Others reach the endpoint only with keys and TLS, or where the settings say so in the words."""

import subprocess
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from residency.config import Exposure, ServeSettings
from residency.errors import InputError
from residency.serve.exposure import address, check, check_tls

TLS = {"tls_certificate": "c.pem", "tls_key": "k.pem"}
LOOPBACK = ["127.0.0.1", "localhost", "::1", "127.8.9.1"]
BEYOND = ["0.0.0.0", "::", "10.0.0.1", "192.168.1.5", "2001:db8::1", "::ffff:10.0.0.1"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_this_machine_nothing_is_asked(host: str) -> None:
    for exposed in get_args(Exposure):
        assert check(ServeSettings(host=host, exposed=exposed)) == ""


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_it_the_words_must_be_those_of_what_is_missing(host: str) -> None:
    missing = {
        (True, True): "",
        (False, True): "without keys",
        (True, False): "without TLS",
        (False, False): "without keys and TLS",
    }
    for (keys, tls), exposed in product(missing, get_args(Exposure)):
        settings = ServeSettings(host=host, keys=keys, exposed=exposed, **TLS if tls else {})
        if exposed == missing[keys, tls]:
            assert check(settings) == exposed
        else:
            with pytest.raises(InputError, match=host) as caught:
                check(settings)
            assert f'exposed = "{missing[keys, tls]}"' in caught.value.hint


@pytest.mark.parametrize("host", ["", "example.org", "127.1", "0", "localhost.", "127.0.0.1:80"])
def test_a_name_is_not_an_address(host: str) -> None:
    with pytest.raises(InputError, match="not an IP address"):
        check(ServeSettings(host=host))


def test_the_address_is_one_that_can_be_bound() -> None:
    assert [address(h) for h in ("localhost", "::1", "0.0.0.0")] == ["127.0.0.1", "::1", "0.0.0.0"]


def make_pair(folder: Path, name: str, *more: str) -> tuple[str, str]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-subj", "/CN=localhost", "-days", "2", "-out", certificate, "-keyout", key]
        + (list(more) or ["-nodes"]),
        check=True,
        capture_output=True,
    )
    return str(certificate), str(key)


def tls(certificate: str, key: str) -> ServeSettings:
    return ServeSettings(tls_certificate=certificate, tls_key=key)


def test_a_pair_is_taken_and_none_is_too(tmp_path: Path) -> None:
    check_tls(tls(*make_pair(tmp_path, "a")))
    check_tls(ServeSettings())


def test_what_is_not_a_pair_is_named(tmp_path: Path) -> None:
    certificate, key = make_pair(tmp_path, "a")
    _, other = make_pair(tmp_path, "b")
    locked = make_pair(tmp_path, "c", "-passout", "pass:secret")
    text = tmp_path / "text.pem"
    text.write_text("no PEM")
    wrong = {
        "go together": (certificate, ""),
        "tls_certificate: .*none.crt: No such file": (str(tmp_path / "none.crt"), key),
        "tls_key: .*none.key: No such file": (certificate, str(tmp_path / "none.key")),
        "tls_key: .*: Is a directory": (certificate, str(tmp_path)),
        "KEY_VALUES_MISMATCH": (certificate, other),
        "text.pem": (certificate, str(text)),
        "c.key": locked,
    }
    for words, files in wrong.items():
        with pytest.raises(InputError, match=words):
            check_tls(tls(*files))
