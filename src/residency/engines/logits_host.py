"""The process that reads logits: `python -m residency.engines.logits_host MODEL CONTEXT THREADS`.

It calls the C functions of the llama.cpp inside xllamacpp, which is the one that serves. It reads
one JSON line for each text, `{"ids": [...], "first": POSITION}`, and writes a JSON line with the
size of the vocabulary, then the logits after each token from `first` on as 32-bit floats. It ends
when its standard input does.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import sys
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int8, c_size_t, c_uint32, c_void_p
from typing import Any, BinaryIO

import numpy as np

from residency.engines.llama_host import preload_openmp
from residency.sealed import seal_from_environment

LAYOUT_OF = "2026.10.11549"
"""The release of xllamacpp whose `llama.h` the structures below were copied from."""
BATCH = 128  # tokens; llama.cpp keeps the logits of a whole batch: 134 MB for Gemma's vocabulary
ERROR = 4  # GGML_LOG_LEVEL_ERROR

_MODEL_POINTERS = ("devices", "tensor_buft_overrides")
_MODEL_INTS = ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")
_MODEL_REST = ("tensor_split", "progress_callback", "progress_user_data", "kv_overrides")
_MODEL_FLAGS = (
    "vocab_only", "check_tensors", "use_extra_bufts", "no_host", "no_alloc", "load_mtp",
)  # fmt: skip
_SIZES = (
    "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max",
    "n_outputs_max_per_seq",
)  # fmt: skip
_INTS = (
    "n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type", "pooling_type",
    "attention_type", "flash_attn_type",
)  # fmt: skip
_ROPE = (
    "rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast",
    "yarn_beta_slow",
)  # fmt: skip
_FLAGS = ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")


class ModelParams(ctypes.Structure):
    """`struct llama_model_params`."""

    _fields_ = [
        *((name, c_void_p) for name in _MODEL_POINTERS),
        *((name, c_int) for name in _MODEL_INTS),
        *((name, c_void_p) for name in _MODEL_REST),
        *((name, c_bool) for name in _MODEL_FLAGS),
    ]


class ContextParams(ctypes.Structure):
    """`struct llama_context_params`."""

    _fields_ = [
        *((name, c_uint32) for name in _SIZES),
        *((name, c_int) for name in _INTS),
        *((name, c_float) for name in _ROPE),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        *((name, c_bool) for name in _FLAGS),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


class Batch(ctypes.Structure):
    """`struct llama_batch`; positions and sequences that are null are llama.cpp's to count."""

    _fields_ = [
        ("n_tokens", c_int),
        ("token", c_void_p),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", c_void_p),
    ]


def _log(level: int, text: bytes, _: int | None) -> None:
    """Errors alone, marked as llama.cpp's server marks them."""
    if level == ERROR:
        os.write(2, b"0 E " + text)


LOG = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
_LOG = LOG(_log)  # must outlive its use


def library() -> Any:
    """The functions that are used. Raises `RuntimeError` for another release of xllamacpp."""
    if (found := importlib.metadata.version("xllamacpp")) != LAYOUT_OF:
        raise RuntimeError(f"logits are read from xllamacpp {LAYOUT_OF}; installed is {found}")
    preload_openmp()
    import xllamacpp.xllamacpp as extension

    functions = ctypes.CDLL(extension.__file__)
    signatures: list[tuple[str, Any, list[Any]]] = [
        ("llama_log_set", None, [LOG, c_void_p]),
        ("llama_model_default_params", ModelParams, []),
        ("llama_context_default_params", ContextParams, []),
        ("llama_model_load_from_file", c_void_p, [c_char_p, ModelParams]),
        ("llama_init_from_model", c_void_p, [c_void_p, ContextParams]),
        ("llama_model_get_vocab", c_void_p, [c_void_p]),
        ("llama_vocab_n_tokens", c_int, [c_void_p]),
        ("llama_get_memory", c_void_p, [c_void_p]),
        ("llama_memory_clear", None, [c_void_p, c_bool]),
        ("llama_decode", c_int, [c_void_p, Batch]),
        ("llama_get_logits", POINTER(c_float), [c_void_p]),
    ]
    for name, result, arguments in signatures:
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    return functions


class _Reader:
    """One loaded model with a context of its own; raises `RuntimeError` where llama.cpp refuses."""

    def __init__(self, model: str, context: int, threads: int) -> None:
        self._c = c = library()
        c.llama_log_set(_LOG, None)
        loaded = c.llama_model_load_from_file(os.fsencode(model), c.llama_model_default_params())
        if not loaded:
            raise RuntimeError("it cannot be loaded")
        params = c.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, BATCH, BATCH
        params.n_outputs_max = params.n_outputs_max_per_seq = BATCH
        params.n_threads = params.n_threads_batch = threads
        params.swa_full = False  # as the server has it
        self._context = c.llama_init_from_model(loaded, params)
        if not self._context:
            raise RuntimeError("it gets no context")
        self.vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(loaded))

    def write(self, ids: list[int], first: int, out: BinaryIO) -> None:
        """Write the logits after each token of `ids` from position `first` on."""
        c, tokens = self._c, np.asarray(ids, dtype=np.int32)
        wanted = (np.arange(len(ids)) >= first).astype(c_int8)
        c.llama_memory_clear(c.llama_get_memory(self._context), True)
        for start in range(0, len(ids), BATCH):
            part, chosen = tokens[start : start + BATCH], wanted[start : start + BATCH]
            batch = Batch(n_tokens=len(part), token=part.ctypes.data, logits=chosen.ctypes.data)
            if code := c.llama_decode(self._context, batch):
                raise RuntimeError(f"llama_decode returned {code}")
            if count := int(chosen.sum()):
                shape = (count, self.vocabulary)
                out.write(np.ctypeslib.as_array(c.llama_get_logits(self._context), shape).data)
        out.flush()


def main() -> None:
    """Answer until the parent closes our standard input."""
    seal_from_environment()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what llama.cpp itself prints must not come between
    try:
        reader = _Reader(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        for line in sys.stdin:
            out.write(json.dumps({"vocabulary": reader.vocabulary}).encode() + b"\n")
            reader.write(**json.loads(line), out=out)
    except (RuntimeError, OSError, ImportError) as error:
        os.write(2, f"0 E {error}\n".encode())
        os._exit(1)
    os._exit(0)  # no destructor runs: the weights go with the process


if __name__ == "__main__":
    main()
