"""llama.cpp's converter, for a Llama whose tokenizer was trained here: its way of splitting text is
named in its tokenizer_config.json, not looked up by a hash.

Runs in a process of its own, beside the converter's modules; we may not be importable there.
"""

import json
from typing import Any

from conversion.base import ModelBase
from conversion.llama import LlamaModel
from convert_hf_to_gguf import main


@ModelBase.register("LlamaForCausalLM")
class OwnLlama(LlamaModel):  # type: ignore[misc]
    model_arch = LlamaModel.model_arch  # asked for in each class itself

    def get_vocab_base_pre(self, tokenizer: Any) -> str:
        config = json.loads((self.dir_model / "tokenizer_config.json").read_text(encoding="utf-8"))
        return str(config["ggml_pre"])


if __name__ == "__main__":
    main()
