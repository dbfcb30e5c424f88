from __future__ import annotations

import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from residency.config import Mail, WatchSettings
from residency.errors import SettingsError
from residency.watch import notify
from residency.watch.alerts import Alert, Change, Finding
from residency.watch.notify import Notifier

ALERT = Alert(
    finding=Finding(
        rule="slow",
        where="desk",
        severity="warn",
        value=2.0,
        bound=1.0,
        words="answers of 服务台 take 2 s",
        first="look at top",
    ),
    since=1_800_000_000.0,
)
CHANGES = [Change("began", ALERT, 1_800_000_060.0)]


class Receiver(HTTPServer):
    """Answers with `statuses`, one after the other, and keeps what it was sent."""

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.statuses = statuses
        self.got: list[tuple[dict[str, str], bytes]] = []


class _Receive(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.got.append((headers, body))
        self.send_response(self.server.statuses[min(len(self.server.got), 9) - 1])
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None: ...


class Mailbox(socketserver.TCPServer):
    """As much of a mail server as takes one message."""

    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Deliver)
        self.lines: list[str] = []


class _Deliver(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self.wfile.write(b"220 desk\r\n")
        data = False
        while line := self.rfile.readline():
            text = line.decode().rstrip("\r\n")
            self.server.lines.append(text)
            if data and text != ".":
                continue
            if text.upper() == "DATA":
                data = True
                self.wfile.write(b"354 go on\r\n")
            elif text.upper() == "QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                data = False
                self.wfile.write(b"250 well\r\n")


@contextmanager
def running(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def url(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/hook"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RESIDENCY_WEBHOOK_SECRET", "hush")
    return "hush"


def test_a_webhook_can_check_who_speaks(tmp_path: Path, secret: str) -> None:
    with running(Receiver([200])) as receiver:
        settings = WatchSettings(webhook=url(receiver))
        Notifier(settings, tmp_path, "clinic-desk").tell(CHANGES)
    ((headers, body),) = receiver.got
    signed = headers["x-residency-timestamp"].encode() + b"." + body
    wanted = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["x-residency-signature"] == f"sha256={wanted}"
    told = json.loads(body)
    assert told["name"] == "clinic-desk"
    (change,) = told["changes"]
    assert (change["kind"], change["rule"], change["since"]) == (
        "began",
        "slow",
        "2027-01-15T08:00:00Z",
    )
    assert change["words"] == ALERT.finding.words and change["first"] == "look at top"


def test_a_webhook_that_fails_is_tried_again(tmp_path: Path, secret: str) -> None:
    with running(Receiver([500, 503, 200])) as receiver:
        settings = WatchSettings(webhook=url(receiver))
        Notifier(settings, tmp_path, "desk").tell(CHANGES, pauses=(0.0, 0.0, 0.0))
    assert len(receiver.got) == 3


def test_a_webhook_that_is_away_keeps_nobody_else_from_it(
    tmp_path: Path, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(Mailbox()) as box:
        mail = Mail(
            host="127.0.0.1", port=box.server_address[1], security="none",
            sender="desk@example.com", to=["on-call@example.com"],
        )  # fmt: skip
        settings = WatchSettings(webhook="http://127.0.0.1:9/hook", mail=mail)
        Notifier(settings, tmp_path, "clinic-desk").tell(CHANGES, pauses=())
    said = capsys.readouterr().err
    assert "alert began (warn, slow, since 2027-01-15T08:00:00Z): answers of 服务台" in said
    assert "127.0.0.1:9/hook could not be told" in said
    assert "rcpt to:<on-call@example.com>" in [line.lower() for line in box.lines]
    assert "Subject: [residency clinic-desk] warn: slow" in box.lines


def test_a_redirect_is_not_followed(
    tmp_path: Path, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(Receiver([302] * 9)) as receiver:
        settings = WatchSettings(webhook=url(receiver))
        Notifier(settings, tmp_path, "desk").tell(CHANGES, pauses=())
    assert len(receiver.got) == 1
    assert "could not be told" in capsys.readouterr().err


def test_changes_are_kept_in_the_workspace(tmp_path: Path) -> None:
    (tmp_path / ".residency").mkdir()
    notifier = Notifier(WatchSettings(), tmp_path, "desk")
    notifier.note(CHANGES)
    notifier.note(CHANGES)
    lines = (tmp_path / ".residency" / notify.FILE_NAME).read_text(encoding="utf-8").splitlines()
    assert [json.loads(one)["kind"] for one in lines] == ["began", "began"]
    assert json.loads(lines[0])["words"] == ALERT.finding.words


MAIL = Mail(host="mail.example.com", sender="a@example.com", to=["b@example.com"])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (WatchSettings(webhook="https://example.com/x"), "watch.webhook"),
        (WatchSettings(otlp="http://collector:4318"), "watch.otlp"),
        (WatchSettings(mail=MAIL), "watch.mail.host"),
    ],
)
def test_a_sealed_gateway_tells_nobody_beyond_this_machine(
    settings: WatchSettings, name: str, secret: str
) -> None:
    notify.check(settings, sealed=False)
    with pytest.raises(SettingsError, match=name):
        notify.check(settings, sealed=True)
    notify.check(WatchSettings(otlp="http://127.0.0.1:4318"), sealed=True)


def test_a_secret_that_is_missing_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RESIDENCY_WEBHOOK_SECRET", "RESIDENCY_SMTP_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SettingsError, match="RESIDENCY_WEBHOOK_SECRET"):
        notify.check(WatchSettings(webhook="https://example.com/x"), sealed=False)
    named = MAIL.model_copy(update={"user": "desk"})
    with pytest.raises(SettingsError, match="RESIDENCY_SMTP_PASSWORD"):
        notify.check(WatchSettings(mail=named), sealed=False)
