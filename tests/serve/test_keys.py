"""A key opens what it allows, for as long as it holds; nothing else opens anything."""

import hashlib
import hmac
import json
import multiprocessing
import stat
import string
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from residency import audit
from residency.cli import main
from residency.errors import InputError, StorageError
from residency.serve import keys
from residency.serve.asked import Caller
from residency.serve.errors import RequestError
from residency.serve.keys import KeyRing

NOW = 1_800_000_000.0
BOB = Caller(name="bob", models=frozenset({"a", "b"}), requests=3, budget=1.5, never_leave=True)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys.json")


def refusal(ring: KeyRing, token: str, now: float = NOW) -> str:
    with pytest.raises(RequestError) as caught:
        ring.verify(token, now)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    return caught.value.message


def wrong_tokens(token: str) -> list[str]:
    _, id_, secret = token.split("-", 2)
    other = "A" if secret[-1] != "A" else "B"
    return [
        "",
        "x",
        "res",
        "res--",
        f"res-{id_}",
        f"res-{id_}-",
        f"res-{id_}-{secret[:-1]}{other}",
        f"res-{id_}-{secret}x",
        f"res-{id_}-{hashlib.sha256(secret.encode()).hexdigest()}",
        f"res-{id_[::-1]}x-{secret}",
        f"RES-{id_}-{secret}",
        f"sk-{id_}-{secret}",
        f" {token}",
        token + "\n",
        "res-é-\udc80",
        "x" * 100_000,
    ]


def test_a_key_tells_who_holds_it(ring: KeyRing) -> None:
    token = ring.add(BOB, expires=None, now=NOW)
    assert ring.verify(token, NOW) == BOB
    assert KeyRing(ring.path).verify(token, NOW) == BOB


def test_only_the_digest_of_the_secret_is_kept_and_only_the_owner_reads_it(ring: KeyRing) -> None:
    secret = ring.add(BOB, expires=None, now=NOW).split("-", 2)[2]
    text = ring.path.read_text()
    assert secret not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600


def test_what_is_not_a_key_is_refused_in_the_same_words(ring: KeyRing) -> None:
    wrong = wrong_tokens(ring.add(BOB, expires=None, now=NOW))
    words = {refusal(ring, token) for token in wrong}
    assert len(words) == 1
    assert {refusal(KeyRing(ring.path.with_name("none")), token) for token in wrong} == words


@given(st.text(max_size=200) | st.text(string.hexdigits, max_size=20).map("res-{}-x".format))
def test_no_text_is_a_key_or_a_fault(token: str) -> None:
    refusal(KeyRing(Path("there-is-none")), token)


def test_every_token_costs_the_same_work(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: bench/keys.py times it."""
    token = ring.add(BOB, expires=NOW + 1, now=NOW)
    ring.verify(token, NOW)
    work: list[str] = []
    compare, digest = hmac.compare_digest, hashlib.sha256

    def counted_compare(a: str, b: str) -> bool:
        assert len(a) == len(b) == 64
        work.append("compare")
        return compare(a, b)

    def counted_digest(data: bytes) -> object:
        work.append("hash")
        return digest(data)

    monkeypatch.setattr(hmac, "compare_digest", counted_compare)
    monkeypatch.setattr(hashlib, "sha256", counted_digest)
    for given_ in [*wrong_tokens(token)[:8], token]:
        work.clear()
        refusal(ring, given_, NOW + 2)
        assert work == ["hash", "compare"]


def test_an_expired_key_says_so_to_its_holder_alone(ring: KeyRing) -> None:
    token = ring.add(BOB, expires=NOW + 10, now=NOW)
    assert ring.verify(token, NOW + 9.9) == BOB
    assert "expired" in refusal(ring, token, NOW + 10)
    assert refusal(ring, token[:-1], NOW + 10) == refusal(ring, "")


def test_a_revoked_key_is_refused_at_once_by_a_ring_at_work(ring: KeyRing) -> None:
    token, kept = (ring.add(caller, expires=None, now=NOW) for caller in (BOB, Caller(name="ada")))
    assert ring.verify(token, NOW) == BOB
    KeyRing(ring.path).revoke("bob", NOW)
    assert "revoked" in refusal(ring, token)
    assert refusal(ring, token[:-1]) == refusal(ring, "")
    assert ring.verify(kept, NOW).name == "ada"


def test_a_file_that_is_gone_lets_nobody_in(ring: KeyRing) -> None:
    token = ring.add(BOB, expires=None, now=NOW)
    assert ring.verify(token, NOW) == BOB
    ring.path.unlink()
    refusal(ring, token)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'),
        ('"models"', '"only"'),
        ('"expires": null', '"expires": "soon"'),
        ('"requests": 3', '"requests": "many"'),
        ("}", ""),
        ("[", "\udcff"),
    ],
)
def test_a_damaged_file_lets_nobody_in(ring: KeyRing, old: str, new: str) -> None:
    token = ring.add(BOB, expires=None, now=NOW)
    assert ring.verify(token, NOW) == BOB
    damaged = ring.path.read_text().replace(old, new, 1)
    ring.path.write_bytes(damaged.encode(errors="surrogateescape"))
    for _ in range(2):
        with pytest.raises(StorageError, match=r"keys\.json: damaged"):
            ring.verify(token, NOW)


def test_one_name_one_active_key(ring: KeyRing) -> None:
    first = ring.add(BOB, expires=None, now=NOW)
    with pytest.raises(InputError, match="already"):
        ring.add(BOB, expires=None, now=NOW)
    ring.revoke("bob", NOW)
    second = ring.add(BOB, expires=NOW + 5, now=NOW)
    refusal(ring, first)
    assert ring.verify(second, NOW) == BOB
    ring.add(BOB, expires=None, now=NOW + 5)
    assert [key.state(NOW + 5) for key in ring.every()] == ["revoked", "expired", "active"]


def test_a_name_that_is_not_there_cannot_be_revoked(ring: KeyRing) -> None:
    ring.add(BOB, expires=None, now=NOW)
    with pytest.raises(InputError, match="eve") as caught:
        ring.revoke("eve", NOW)
    assert "bob" in caught.value.hint


def _add(path: Path, who: int) -> None:
    for number in range(10):
        KeyRing(path).add(Caller(name=f"{who}-{number}"), expires=None, now=NOW)


def test_processes_at_once_lose_no_key(ring: KeyRing) -> None:
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_add, args=(ring.path, who)) for who in range(3)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert len(ring.every()) == 30


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "residency.toml").write_text('name = "desk"\n[data]\nfile = "x.jsonl"\n')
    return tmp_path


def run(workspace: Path, *words: str, code: int = 0) -> dict:
    result = CliRunner().invoke(main, [*words, "--json", "--workspace", str(workspace)])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_key_of_the_command_line_opens_what_it_says(workspace: Path) -> None:
    flags = "--model a --model b --requests 3 --budget 1.5 --expires 30d --never-leave"
    token = run(workspace, "keys", "add", "bob", *flags.split())["key"]
    ring = KeyRing(workspace / ".residency" / keys.FILE_NAME)
    key = ring.every()[0]
    assert ring.verify(token, key.created) == BOB
    assert key.expires == key.created + 30 * 86_400
    run(workspace, "keys", "revoke", "bob")
    assert "revoked" in refusal(ring, token, key.created)
    (row,) = run(workspace, "keys", "list")["keys"]
    assert (row["state"], row["rights"]["models"]) == ("revoked", ["a", "b"])


def test_the_audit_log_knows_keys_but_not_their_secrets(workspace: Path) -> None:
    token = run(workspace, "keys", "add", "bob")["key"]
    run(workspace, "keys", "revoke", "bob")
    told = run(workspace, "audit")
    assert [entry["act"] for entry in told["entries"]] == ["key added", "key revoked"]
    assert told["head"] == audit.read(workspace)[-1].digest
    assert token.split("-", 2)[2] not in json.dumps(told)


@pytest.mark.parametrize(
    "words",
    [
        ["keys", "add", "a b"],
        ["keys", "add", "bob", "--budget", "nan"],
        ["keys", "add", "bob", "--expires", "soon"],
        ["keys", "add", "bob", "--expires", "2001-01-01"],
        ["keys", "add", "bob", "--expires", f"{10**12}d"],
        ["keys", "revoke", "bob"],
    ],
)
def test_what_makes_no_sense_is_refused(workspace: Path, words: list[str]) -> None:
    assert run(workspace, *words, code=3)["error"]
    assert run(workspace, "keys", "list") == {"keys": []}
