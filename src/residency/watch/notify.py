"""Who is told of alerts: the log, a file of the workspace, a webhook, a mailbox.

    WORKSPACE/.residency/alerts.jsonl     one change a line, as `Change` and `Alert.to_dict` have it

A webhook gets `{"name", "changes": [...]}` by POST. `x-residency-signature` is "sha256=" and the
HMAC-SHA256, in hex, of the text of `x-residency-timestamp`, a dot, and the body: the receiver
compares it and refuses what is older than a few minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from residency import store
from residency.config import Mail, WatchSettings
from residency.errors import ResidencyError, SettingsError
from residency.progress import say
from residency.sealed import is_local
from residency.watch.alerts import Change, iso

FILE_NAME = "alerts.jsonl"
PAUSES = (1.0, 5.0, 25.0)
"""Seconds before each further try to reach a webhook or a mail server."""
SECONDS = 10.0
"""Within which it has to answer."""
_WORDS = {"began": "began", "worse": "is worse", "over": "is over"}


def check(settings: WatchSettings, *, sealed: bool) -> None:
    """Raises `SettingsError` for a destination that a sealed process may not reach, and for a
    secret that is missing."""
    places = {
        "webhook": urlsplit(settings.webhook).hostname,
        "otlp": urlsplit(settings.otlp).hostname,
    }
    places["mail.host"] = settings.mail.host if settings.mail else None
    for name, host in places.items():
        if sealed and host and not is_local(host):
            raise SettingsError(
                f"watch.{name}: {host} is beyond this machine, and sealed = true",
                hint="name something on 127.0.0.1, or leave it out",
            )
    secrets = [settings.webhook_secret_variable] if settings.webhook else []
    secrets += [settings.mail.password_variable] if settings.mail and settings.mail.user else []
    for variable in secrets:
        if not os.environ.get(variable):
            raise SettingsError(
                f"[watch] needs a secret in the environment variable {variable}",
                hint=f"set it where the gateway is started: export {variable}=...",
            )


class Notifier:
    """Tells what has changed in the workspace of the specialist `name`; blocks while it does."""

    def __init__(self, settings: WatchSettings, workspace: Path, name: str) -> None:
        self._settings = settings
        self._file = workspace / ".residency" / FILE_NAME
        self._name = name

    def note(self, changes: Sequence[Change]) -> None:
        """Put changes into the workspace's file. Raises `StorageError`."""
        lines = [json.dumps(told(one), ensure_ascii=False) + "\n" for one in changes]
        with store.storage_errors(self._file), self._file.open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def tell(self, changes: Sequence[Change], pauses: Sequence[float] = PAUSES) -> None:
        """Tell everyone. Who cannot be reached is tried again, and then the log says so; it keeps
        nobody else from being told."""
        for one in changes:
            say(line(one))
        ways: dict[str, Callable[[], None]] = {}
        if self._settings.webhook:
            ways[self._settings.webhook] = lambda: self._post(self._settings.webhook, changes)
        if mail := self._settings.mail:
            ways[mail.host] = lambda: self._mail(mail, changes)
        for where, send in ways.items():
            _persist(where, send, pauses)

    def _post(self, url: str, changes: Sequence[Change]) -> None:
        body = json.dumps({"name": self._name, "changes": [told(one) for one in changes]}).encode()
        stamp = str(int(time.time()))
        secret = os.environ[self._settings.webhook_secret_variable]
        headers = {
            "content-type": "application/json",
            "x-residency-timestamp": stamp,
            "x-residency-signature": f"sha256={signature(secret, stamp, body)}",
        }
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with _OPENER.open(request, timeout=SECONDS):
            pass

    def _mail(self, mail: Mail, changes: Sequence[Change]) -> None:
        message = EmailMessage()
        rules = ", ".join(sorted({one.alert.finding.rule for one in changes}))
        worst = changes[0].alert.finding.severity
        message["Subject"] = f"[residency {self._name}] {worst}: {rules}"
        message["From"], message["To"] = mail.sender, ", ".join(mail.to)
        message.set_content("\n\n".join(line(one) for one in changes) + "\n")
        context = ssl.create_default_context()
        tls = mail.security == "tls"
        server = (
            smtplib.SMTP_SSL(mail.host, mail.port, timeout=SECONDS, context=context)
            if tls
            else smtplib.SMTP(mail.host, mail.port, timeout=SECONDS)
        )
        with server:
            if mail.security == "starttls":
                server.starttls(context=context)
            if mail.user:
                server.login(mail.user, os.environ[mail.password_variable])
            server.send_message(message)


def signature(secret: str, stamp: str, body: bytes) -> str:
    """What a webhook's receiver compares, in hex."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def told(change: Change) -> dict[str, Any]:
    """A change as JSON has it."""
    return {"kind": change.kind, "time": iso(change.time), **change.alert.to_dict()}


def line(change: Change) -> str:
    """A change in words."""
    one, since = change.alert.finding, iso(change.alert.since)
    first = "" if change.kind == "over" else f"; first: {one.first}"
    about = f"{one.severity}, {one.rule}, since {since}"
    return f"alert {_WORDS[change.kind]} ({about}): {one.words}{first}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is signed for one place goes to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


# No proxy of the environment either: where it goes is what the settings say.
_OPENER = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))


def _persist(where: str, send: Callable[[], None], pauses: Sequence[float]) -> None:
    for pause in (*pauses, None):
        try:
            send()
            return
        except (OSError, smtplib.SMTPException, ResidencyError) as error:
            if pause is None:
                say(f"watch: {where} could not be told of an alert: {error}")
                return
        time.sleep(pause)
