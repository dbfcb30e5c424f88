"""Sentences that show what the page is about; `focus` is the word that is looked at first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """`title` names the button, `why` says what to look for."""

    title: str
    text: str
    focus: str = ""
    why: str = ""


EXAMPLES = (
    Example(
        title="The bank",
        text="We sat on the river bank and fished. Then I went to the bank to get some",
        focus=" bank",
        why="The same word twice, by a river and with money in it. Its two vectors are the same "
        "when they enter the model. Section 2 shows how far each layer moves them apart.",
    ),
    Example(
        title="The animal",
        text="The animal didn't cross the street because it was too tired",
        focus=" it",
        why="What does “it” mean: the animal or the street? Section 4 lists which heads look "
        "back from “it”, and at what. The model reads from left to right: at “it” it has not "
        "seen “tired” yet. Take “tired” into focus to see what that word looks at.",
    ),
    Example(
        title="The chef",
        text="The chef tasted the soup and added a pinch of",
        why="What comes next is easy to guess for a person. Section 8 shows at which layer the "
        "model knows it, section 11 which words told it.",
    ),
)
