from __future__ import annotations

from typing import get_args

import pytest

from residency.config import ServedModel
from residency.engines.choice import ENGINES, engine_for


@pytest.mark.parametrize(
    ("form", "name"),
    [("gguf", "llama.cpp"), ("onnx", "ONNX Runtime"), ("gptq", "vLLM"), ("safetensors", "vLLM")],
)
def test_each_form_has_the_engine_that_serves_it(form: str, name: str) -> None:
    assert engine_for(form).name == name


def test_every_engine_of_the_settings_is_known() -> None:
    assert set(ENGINES) == set(get_args(ServedModel.model_fields["engine"].annotation))
