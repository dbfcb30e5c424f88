from __future__ import annotations

from pathlib import Path

import pytest

from residency.errors import ModelError
from residency.export.merge import load, merge
from residency.store import digest_tree
from tests.specialist import TOKENIZER_FILES, Specialist, make_base


def test_the_weights_are_base_plus_adapter_in_float16(
    specialist: Specialist, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    merge(specialist.base.path, specialist.adapter.path, tmp_path / "merged")
    name = "model.layers.0.self_attn.v_proj"
    before = load_file(specialist.base.path / "model.safetensors")[f"{name}.weight"]
    after = load_file(tmp_path / "merged" / "model.safetensors")[f"{name}.weight"]
    lora = load_file(specialist.adapter.path / "adapter_model.safetensors")
    a, b = (lora[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
    expected = before.float() + 8 / 4 * (b @ a)  # alpha over rank
    assert after.dtype == torch.float16
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, expected.half(), rtol=1e-3, atol=1e-4)


def test_what_is_returned_is_what_was_written(specialist: Specialist, tmp_path: Path) -> None:
    """Positions are turned in float32, where a long text would show another precision."""
    import torch

    merged = merge(specialist.base.path, specialist.adapter.path, tmp_path / "merged").eval()
    ids = torch.randint(3, 49152, (1, 900), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, read = (model(ids).logits for model in (merged, load(tmp_path / "merged").eval()))
    torch.testing.assert_close(ours, read, rtol=0, atol=1e-3)


def test_tokenizer_and_template_are_copied_and_bytes_repeat(
    specialist: Specialist, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        merge(specialist.base.path, specialist.adapter.path, tmp_path / name)
    assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "two")
    for file in TOKENIZER_FILES:
        assert (tmp_path / "one" / file).read_bytes() == (specialist.base.path / file).read_bytes()


def test_an_adapter_for_another_width_is_refused(specialist: Specialist, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", specialist.base.path, width=128)
    with pytest.raises(ModelError, match="does not fit the base model"):
        merge(other.path, specialist.adapter.path, tmp_path / "merged")
