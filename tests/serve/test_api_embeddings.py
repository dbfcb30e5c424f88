"""Embeddings: what is asked, and the engine's answer checked."""

import base64
import json
import struct
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from residency.errors import EngineError
from residency.serve.apis import embeddings
from residency.serve.errors import RequestError
from tests.serve.speaking import strictly


def asked(**fields: Any) -> embeddings.EmbeddingsAsked:
    return embeddings.parse(json.dumps({"model": "m", "input": "a", **fields}).encode())


def found(*vectors: Any) -> dict[str, Any]:
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"data": data[::-1], "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def test_a_text_and_a_list_are_taken() -> None:
    assert asked(timeout=3, user="u").texts == ("a",)
    many = asked(input=["a", "b"])
    wanted = {"model": "served", "input": ["a", "b"], "encoding_format": "float"}
    assert embeddings.question(many, "served") == wanted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": [1, 2]}, "input[0]"),
        ({"dimensions": 3}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"inputs": "a"}, "inputs"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.param == param


def test_the_answer_is_openais_in_the_order_of_the_texts() -> None:
    data = embeddings.whole(asked(input=["a", "b"]), "m", found([0.5, 1], [2, -1]))
    answer = strictly(CreateEmbeddingResponse, data)
    assert [(one.index, one.embedding) for one in answer.data] == [(0, [0.5, 1]), (1, [2, -1])]
    assert (answer.model, answer.usage.prompt_tokens) == ("m", 3)


def test_vectors_can_be_packed() -> None:
    data = embeddings.whole(asked(encoding_format="base64"), "m", found([0.5, -2.0]))
    assert struct.unpack("<2f", base64.b64decode(data["data"][0]["embedding"])) == (0.5, -2.0)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"data": [{"index": 0}]},
        found("text"),
        found([1.0], [2.0]),
        found([]),
        found([float("nan")]),
    ],
)
def test_another_answer_is_the_engines_fault(answer: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="the engine"):
        embeddings.whole(asked(), "m", answer)
