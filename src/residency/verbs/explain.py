"""What happens inside the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency import config, hardware, releases
from residency.builds import read_build
from residency.cli import Result
from residency.config import DEFAULT_BASE, Settings
from residency.errors import InputError
from residency.progress import say, track
from residency.sealed import seal
from residency.store import Store, write_atomic
from residency.types import Conversation, to_dict

if TYPE_CHECKING:
    from residency.explain.explanation import Explanation
    from residency.explain.model import Opened

MERGED = "merged"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Subject:
    """The model to look into; `build` is the served GGUF that was made from it, None if none."""

    folder: Path
    name: str
    build: Path | None = None
    level: str = ""


def explain(workspace: Path, text: str, model: str, examples: bool, exchange: str) -> Result:
    """Look inside the workspace's own model (or `model`) while it reads `text`, our examples, or a
    recorded exchange; the page is `reports/explain.html`, of an exchange `reports/exchange.html`.
    """
    if bool(text.strip()) + examples + bool(exchange) != 1:
        raise InputError(
            "explain takes a text, or --examples, or --exchange ID",
            hint='as in: residency explain "The chef tasted the soup and added a pinch of"',
        )
    hardware.calm_openmp()
    settings = None
    if exchange or (workspace / config.FILE_NAME).exists():
        settings = config.load(workspace)
        if settings.sealed:
            seal()
    subject = _subject(workspace, model, settings)
    if exchange:
        assert settings is not None
        return _exchange(workspace, settings, subject, exchange)
    return _texts(workspace, subject, text)


def _texts(workspace: Path, subject: _Subject, text: str) -> Result:
    from residency.explain import page
    from residency.explain.examples import EXAMPLES, Example
    from residency.explain.explanation import explain as read

    chosen = (Example(title="", text=text),) if text else EXAMPLES
    opened = _open(subject)
    shown = [(one, read(opened, one.text)) for one in track(chosen, "texts read")]
    place = workspace / "reports" / "explain.html"
    write_atomic(place, page.render(opened, shown))
    data = {
        "model": page.facts(opened),
        "seconds": {
            "import": round(opened.importing, 3),
            "load": round(opened.loading, 3),
            "read": round(sum(one.seconds for _, one in shown), 3),
        },
        "texts": [_figures(opened, one) for _, one in shown],
        "page": str(place),
    }
    lines = [line for _, one in shown for line in _told(opened, one)]
    return Result(data=data, text="\n".join([*lines, f"page: {place}"]))


def _open(subject: _Subject) -> Opened:
    from residency.explain.model import open_model

    say(f"opening {subject.name}")
    return open_model(subject.folder, subject.name)


def _subject(workspace: Path, model: str, settings: Settings | None) -> _Subject:
    from residency.models.base import resolve

    if not model and settings is not None and (own := _own(Store(workspace), settings.name)):
        return own
    name = model or (settings.model.base if settings else DEFAULT_BASE)
    base = resolve(name, workspace)
    return _Subject(folder=base.path, name=base.name)


def _own(store: Store, name: str) -> _Subject | None:
    """The merged model behind the current release, else the last that was made."""
    if current := releases.current_name(store):
        release = releases.read(store, current)
        made = releases.made_beside(store, release, MERGED).path
        gguf = releases.model_file(store, release) if release.build.format == "gguf" else None
        return _Subject(
            folder=made / read_build(made).file,
            name=release.name,
            build=gguf,
            level=release.build.name,
        )
    for record in reversed(store.records()):
        if record.stage == "export" and MERGED in record.outputs:
            made = store.output(record, MERGED).path
            return _Subject(folder=made / read_build(made).file, name=name)
    return None


def _figures(opened: Opened, one: Explanation) -> dict[str, Any]:
    """What a program may want of an explanation: all but the arrays."""
    from residency.explain.heads import KINDS
    from residency.explain.page import said
    from residency.explain.pieces import Reader

    reader = Reader(opened.tokenizer)
    found: dict[str, Any] = {
        "text": one.text,
        "tokens": to_dict(one.pieces),
        "next": [
            {"id": token, "text": said(reader.piece(token)), "share": share}
            for token, share in one.likeliest(10)
        ],
        "words": to_dict(one.effects),
        "twins": to_dict(one.twins),
        "missing": dict(one.missing),
        "seconds": round(one.seconds, 3),
    }
    if one.heads:
        found["links"] = to_dict(one.heads.links)
        found["sink"] = one.heads.sink.round(4).tolist()
        kinds = one.heads.kinds.ravel().tolist()
        found["heads"] = {kind: kinds.count(number) for number, kind in enumerate(KINDS)}
    if one.lens:
        found["layers"] = [said(reader.piece(int(token))) for token in one.lens.ids[:, -1, 0]]
    return found


def _told(opened: Opened, one: Explanation) -> list[str]:
    from residency.explain.page import said
    from residency.explain.pieces import Reader, spelt

    reader = Reader(opened.tokenizer)
    token, share = one.likeliest(1)[0]
    lines = [f"{one.text!r} -> {said(reader.piece(token))!r} ({share:.1%})"]
    best = max(one.effects, key=lambda effect: effect.bits, default=None)
    if best and best.bits > 0:
        word = spelt(one.pieces[best.start : best.end]).strip()
        lines.append(f"  without {word!r} that would be {best.share:.1%}")
    if one.heads and one.heads.links:
        link = one.heads.links[0]
        names = [said(one.pieces[place]).strip() for place in (link.source, link.target)]
        lines.append(
            f"  strongest link: {names[0]!r} looks back at {names[1]!r} with {link.share:.0%} "
            f"(layer {link.layer + 1}, head {link.head + 1})"
        )
    return [*lines, *(f"  not shown, {name}: {why}" for name, why in one.missing.items())]


def _exchange(workspace: Path, settings: Settings, subject: _Subject, exchange: str) -> Result:
    from residency.conversations import read_conversations
    from residency.explain import exchange as stage
    from residency.explain import exchange_page

    one = _recorded(workspace, settings, exchange)
    store = Store(workspace)
    rows = []
    if made := store.last("data"):
        rows = read_conversations(store.output(made, "dataset").path / "train.jsonl")
    one = one.with_system(settings.data.system)
    examined = stage.Examined(
        source=one.source,
        prompt=one.prompt,
        answer=stage.examine(_open(subject), one, subject.build),
        build=subject.level if subject.build else "",
        rows=stage.nearest(one, rows, settings.data.near_duplicate),
        trained=len(rows),
    )
    place = workspace / "reports" / "exchange.html"
    write_atomic(place, exchange_page.render(examined, subject.name))
    return Result(
        data={**to_dict(examined), "model": subject.name, "page": str(place)},
        text="\n".join([*exchange_page.told(examined), f"page: {place}"]),
    )


def _recorded(workspace: Path, settings: Settings, exchange: str) -> Conversation:
    """Raises `InputError` where there is no such chat with an answer."""
    from residency.gate.baseline import of_exchanges
    from residency.serve.visit import exchange_id
    from residency.traffic.store import opened

    with opened(workspace, settings.traffic) as store:
        found = store.find(exchange_id(exchange))
    if found is None:
        raise InputError(
            f"no exchange is recorded as {exchange}",
            hint="an answer's id, or the x-request-id that the gateway sent with it",
        )
    if chat := next(iter(of_exchanges([found])), None):
        return chat
    raise InputError(f"exchange {exchange}: not a chat that was answered with a text")
