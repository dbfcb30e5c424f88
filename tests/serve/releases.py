"""A release for tests that is like one of the gate's."""

from __future__ import annotations

from typing import Any

from residency.types import Build, Release, Verdict


def release(**changed: Any) -> Release:
    build = Build(
        name="Q8_0",
        format="gguf",
        file="model.gguf",
        size=1,
        digest="0123456789abcdef" * 4,
        template_digest="",
        stop_tokens=("<|im_end|>",),
        fingerprint="",
    )
    values: dict[str, Any] = {
        "name": "r1",
        "model": "clinic-desk",
        "base": "SmolLM2-135M-Instruct",
        "build": build,
        "artifact": "",
        "system": "You sort messages.",
        "max_tokens": 48,
        "context": 512,
        "verdict": Verdict(build="Q8_0", passed=True, rule="", figures={}),
        "gate_key": "",
        "created": "2026-11-24T06:00:00Z",
    }
    return Release(**{**values, **changed})
