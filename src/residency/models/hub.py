"""Models of the Hugging Face hub, through its own client. The hub is asked once a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from residency.errors import MissingError, ModelError
from residency.models.cache import home
from residency.progress import say

_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "README.md"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """`commit` is the revision that `path` holds; `license` is the model card's."""

    path: Path
    commit: str
    license: str


def fetch(name: str) -> Snapshot:
    """The files of `OWNER/NAME` that training needs: from the cache, else from the hub.

    HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE act as in every program of Hugging Face's. Raises
    `MissingError` without network and `ModelError` when the hub does not give the model out.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cache = home() / "hub"
    try:
        path = snapshot_download(
            name, cache_dir=cache, allow_patterns=_PATTERNS, local_files_only=True
        )
    except LocalEntryNotFoundError:
        say(f"fetching {name} from the hub")
        try:
            path = snapshot_download(name, cache_dir=cache, allow_patterns=_PATTERNS)
        except LocalEntryNotFoundError as error:
            raise MissingError(
                f"{name} is not on this machine and the hub cannot be reached: {_first(error)}",
                hint="connect and run: residency pull " + name + " (and unset HF_HUB_OFFLINE), "
                "or copy its folder here and give the path",
            ) from None
        except HfHubHTTPError as error:
            raise ModelError(
                f"{name}: the hub does not give it out: {_first(error)}",
                hint="check the name; for a gated model accept its terms and set HF_TOKEN",
            ) from None
    return Snapshot(path=Path(path), commit=Path(path).name, license=_license(Path(path)))


def _first(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _license(path: Path) -> str:
    """The `license:` line of the model card's front matter, or nothing."""
    card = path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.search(r"^license:\s*(\S+)", text.partition("\n---")[0], re.MULTILINE)
    return found[1] if found else ""
