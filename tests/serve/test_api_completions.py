"""Completions: a text goes on."""

import json
from typing import Any

import pytest
from openai.types import Completion

from residency.serve.apis import COMPLETIONS
from residency.serve.errors import RequestError
from tests.serve.speaking import USAGE, Speaking, likely, part, said, strictly

PATH = COMPLETIONS.path


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "Once", **fields}).encode()


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_a_request_is_a_prompt_and_no_messages(prompt: Any) -> None:
    asked = COMPLETIONS.parse(
        body(prompt=prompt, max_tokens=5, logprobs=2, echo=False, best_of=1, user="u", n=2)
    )
    assert (asked.prompt, asked.messages, asked.n, asked.subject) == ("Once", (), 2, "u")
    assert asked.options == {"max_tokens": 5, "logprobs": True, "top_logprobs": 2}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": ["a", "b"]}, "prompt", "one text"),
        ({"prompt": [1, 2]}, "prompt", "no list of token ids"),
        ({"prompt": ""}, "prompt", "at least 1"),
        ({"suffix": "x"}, "suffix", "at the end only"),
        ({"echo": True}, "echo", "False"),
        ({"best_of": 2}, "best_of", "1"),
        ({"logprobs": 6}, "logprobs", "5"),
        ({"context": "prune"}, "context", "'error'"),
        ({"messages": []}, "messages", "unknown parameter"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        COMPLETIONS.parse(body(**fields))
    assert caught.value.param == param


def test_a_plain_answer_is_openais() -> None:
    answer = strictly(Completion, Speaking(facts={"finish": "x"}).post(PATH, prompt="Once"))
    assert answer.id.startswith("cmpl-")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hello", "stop")
    assert answer.usage.model_dump(exclude_unset=True) == USAGE
    assert answer.residency == {"finish": "x"}


def test_a_streamed_answer_is_put_together_by_the_official_client() -> None:
    with Speaking().openai() as client:
        stream = client.completions.create(
            model="m", prompt="Once", stream=True, stream_options={"include_usage": True}
        )
        found = list(stream)
    assert "".join(one.choices[0].text for one in found[:-1]) == "Hello"
    assert found[-2].choices[0].finish_reason == "stop"
    assert found[-1].usage is not None and found[-1].usage.completion_tokens == 2


def test_logprobs_are_in_the_older_form() -> None:
    pieces = [part({"content": word}, logprobs=likely(word)) for word in ("Hel", "lo")]
    chunks = [*pieces, *said()]
    whole = strictly(Completion, Speaking(chunks).post(PATH, prompt="Once", logprobs=1))
    assert whole.choices[0].logprobs.model_dump() == {
        "tokens": ["Hel", "lo"],
        "token_logprobs": [0, 0],
        "top_logprobs": [{"Hel": 0}, {"lo": 0}],
        "text_offset": [0, 3],
    }
    events = Speaking(chunks).post(PATH, prompt="Once", logprobs=1, stream=True)
    offsets = [data["choices"][0]["logprobs"]["text_offset"] for _, data in events[:2]]
    assert offsets == [[0], [3]]
