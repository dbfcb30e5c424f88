"""One record in each format, written by hand after the formats' own documentation."""

from typing import Any

from residency.types import to_dict
from tests.traffic.exchanges import exchange

ASKED: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You help customers of a bank."},
        {"role": "user", "content": "Where is my card?"},
    ],
    "temperature": 0.2,
    "user": "ada",
}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1716990380,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "On its way."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45},
}
NVIDIA = {
    "timestamp": 1716990379,
    "workload_id": "card_arrival",
    "client_id": "desk",
    "request": ASKED,
    "response": ANSWER,
}
BATCH = {
    "id": "batch_req_1",
    "custom_id": "request-1",
    "body": ASKED,
    "response": {"status_code": 200, "request_id": "r1", "body": ANSWER},
    "error": None,
}
STORED = {**ANSWER, "messages": ASKED["messages"], "metadata": {"feature": "cards"}}
LITELLM = {
    "id": "chatcmpl-1",
    "trace_id": "t1",
    "call_type": "acompletion",
    "stream": True,
    "response_cost": 0.0125,
    "status": "success",
    "prompt_tokens": 40,
    "completion_tokens": 5,
    "startTime": 1716990379.0,
    "endTime": 1716990380.5,
    "completionStartTime": 1716990379.25,
    "model": "azure/gpt-4o-mini",
    "model_group": "gpt-4o-mini",
    "metadata": {
        "user_api_key_alias": "desk",
        "user_api_key_hash": "88dc28d0f030",
        "requester_metadata": {"feature": "cards"},
    },
    "request_tags": ["prod"],
    "end_user": "ada",
    "messages": ASKED["messages"],
    "model_parameters": {"temperature": 0.2},
    "response": ANSWER,
}
LANGFUSE = {
    "id": "obs-1",
    "trace_id": "trace-1",
    "type": "GENERATION",
    "start_time": "2024-05-29 13:46:19.000000",
    "end_time": "2024-05-29 13:46:20.500000",
    "completion_start_time": "2024-05-29 13:46:19.250000",
    "name": "answer-card",
    "metadata": {"feature": "cards", "resource": {"host": "a"}},
    "level": "DEFAULT",
    "input": '{"messages":[{"role":"user","content":"Where is my card?"}]}',
    "output": '{"role":"assistant","content":"On its way."}',
    "provided_model_name": "gpt-4o-mini",
    "model_parameters": '{"temperature":0.2}',
    "usage_details": {"input": 40, "output": 5, "total": 45},
    "cost_details": {"input": 0.01, "output": 0.0025, "total": 0.0125},
    "total_cost": 0.0125,
    "latency": 1.5,
    "user_id": "ada",
    "tags": ["prod"],
    "trace_name": "desk",
}
HELICONE = {
    "request_id": "hel-1",
    "request_created_at": "2024-05-29T13:46:19Z",
    "request_body": ASKED,
    "request_model": "gpt-4o-mini",
    "request_user_id": "ada",
    "request_properties": {"feature": "cards"},
    "response_id": "res-1",
    "response_created_at": "2024-05-29T13:46:21Z",
    "response_body": ANSWER,
    "response_status": 200,
    "delay_ms": 1500,
    "time_to_first_token": 250,
    "prompt_tokens": 40,
    "completion_tokens": 5,
    "cost": 0.0125,
}
OWN = to_dict(exchange(1, subject="ada", tags={"personal": {"EMAIL": 1}}))
ALL: dict[str, dict[str, Any]] = {
    "pair": NVIDIA,
    "batch": BATCH,
    "flat": STORED,
    "litellm": LITELLM,
    "langfuse": LANGFUSE,
    "helicone": HELICONE,
    "residency": OWN,
}
