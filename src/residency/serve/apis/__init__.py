"""The APIs that the gateway speaks, each to and from one inner form."""

from residency.serve.apis.chat import CHAT
from residency.serve.apis.completions import COMPLETIONS
from residency.serve.apis.messages import MESSAGES
from residency.serve.apis.responses import RESPONSES

__all__ = ["CHAT", "COMPLETIONS", "DIALECTS", "MESSAGES", "RESPONSES"]

DIALECTS = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
