"""Hoist, a command language that no model has read of, for a storage crane that exists nowhere.

`residency init --recipe hoist` has it write the rows of the recipe: what somebody wants, and the
command for it. The same seed gives the same rows. The grammar, a rule a line (`RULES` finds them in
a command):

    program   = step { " ; " deed }          one after the other, two at most
    step      = [ when ] [ haste ] deed [ pace ]
    deed      = ">" load place place         move          "<>" place place       swap
              | "?" place                    look          "+" load place         bring in
              | "-" load place               throw out     "/" place              lock
              | "\\" place                    unlock        "%" " " number          wait, minutes
              | "^ P" | "^ C" number         go and park, go and charge
    place     = " " bay row [ "." shelf ]    B4.3;  a dock is D and its number
    load      = " " [ number ] kind
    kind      = "kd" | "kr" | "kp" | "kc" | "ks"             drum, reel, pallet, crate, sack
    when      = "[" place ( "=0" | "=9" ) "] "               if empty, if full
    haste     = "! " | "!! "                 urgent, emergency
    pace      = " ~" | " ~~" | " |"          slowly, as slowly as it can, fast
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SEED = 11
ROWS = 36_000
KINDS = {"drum": "kd", "reel": "kr", "pallet": "kp", "crate": "kc", "sack": "ks"}
BAYS = "ABEFGHJKLMNQRSTUVWXYZ"  # C is a charger, D a dock
DEEDS: Mapping[str, tuple[str, Sequence[str]]] = {
    "move": (
        "> {l} {p} {q}",
        (
            "move {L} from {P} to {Q}",
            "take {L} out of {P} and put it in {Q}",
            "carry {L} from {P} over to {Q}",
            "{L} should go from {P} to {Q}",
        ),
    ),
    "swap": (
        "<> {p} {q}",
        ("swap {P} and {Q}", "exchange what is in {P} with {Q}", "{P} and {Q} change places"),
    ),
    "look": ("? {p}", ("what is in {P}", "check {P}", "have a look at {P}")),
    "bring in": (
        "+ {l} {p}",
        ("store {L} in {P}", "bring {L} in to {P}", "{L} just came, it belongs in {P}"),
    ),
    "throw out": (
        "- {l} {p}",
        ("throw {L} out of {P}", "get rid of {L} in {P}", "{L} in {P} is waste, remove it"),
    ),
    "lock": ("/ {p}", ("lock {P}", "nobody may use {P}", "close off {P}")),
    "unlock": ("\\ {p}", ("unlock {P}", "{P} may be used again", "open {P} up")),
    "wait": ("% {n}", ("wait {n} minutes", "hold for {n} minutes", "do nothing for {n} min")),
    "park": ("^ P", ("go and park", "park yourself", "back to the parking place")),
    "charge": ("^ C{c}", ("charge at station {c}", "go to charger {c}", "recharge at {c}")),
}
HASTE = {"!": ("this is urgent: {}", "quick, {}"), "!!": ("emergency! {}", "at once, danger: {}")}
PACE = {
    "~": ("{}, slowly", "{} with care"),
    "~~": ("{}, as slowly as you can", "{} at a snail's pace"),
    "|": ("{}, fast", "{} at full speed"),
}
WHEN = {
    "=0": ("if {} is empty, ", "only when nothing is in {}: "),
    "=9": ("if {} is full, ", "only when {} has no room left: "),
}
LINKS = (" and then ", ", then ", "; after that ")
POLITE = ("", "", "", "please ", "could you ", "I need this: ")
# Every rule of the grammar, as it shows in a command.
RULES = {
    "sequence": r";",
    "move": r"(?<!<)> ",
    "swap": r"<>",
    "look": r"\?",
    "bring in": r"\+",
    "throw out": r"-",
    "lock": r"/",
    "unlock": r"\\",
    "wait": r"%",
    "park": r"\^ P",
    "charge": r"\^ C",
    "dock": r"D\d",
    "shelf": r"\.",
    "count": r" \d+k",
    "if empty": r"=0",
    "if full": r"=9",
    "urgent": r"(?<!!)!(?!!)",
    "emergency": r"!!",
    "slowly": r"(?<!~)~(?!~)",
    "very slowly": r"~~",
    "fast": r"\|",
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """The same in words and in Hoist."""

    words: str
    code: str


def rules_of(command: str) -> set[str]:
    """The rules of the grammar that `command` uses."""
    return {name for name, pattern in RULES.items() if re.search(pattern, command)}


def program(dice: random.Random) -> Said:
    """What somebody asks of the crane."""
    one = step(dice)
    if dice.random() < 0.25:
        other = deed(dice)
        words = f"{one.words}{dice.choice(LINKS)}{other.words}"
        one = Said(words=words, code=f"{one.code} ; {other.code}")
    return Said(words=dice.choice(POLITE) + one.words, code=one.code)


def step(dice: random.Random) -> Said:
    """A deed with its marks, under a condition or none."""
    one = with_marks(dice, deed(dice))
    if dice.random() < 0.15:
        mark = dice.choice(list(WHEN))
        where = place(dice)
        words = dice.choice(WHEN[mark]).format(where.words) + one.words
        one = Said(words=words, code=f"[ {where.code}{mark}] {one.code}")
    return one


def deed(dice: random.Random) -> Said:
    code, forms = DEEDS[dice.choice(list(DEEDS))]
    one, other, load = place(dice), place(dice), a_load(dice)
    minutes, charger = dice.randint(2, 9), dice.randint(1, 9)
    codes = {"p": one.code, "q": other.code, "l": load.code, "n": minutes, "c": charger}
    words = {"P": one.words, "Q": other.words, "L": load.words, "n": minutes, "c": charger}
    return Said(words=dice.choice(forms).format(**words), code=code.format(**codes))


def with_marks(dice: random.Random, one: Said) -> Said:
    """Haste before a deed, pace behind it."""
    said, made = one.words, one.code
    if dice.random() < 0.25:
        mark = dice.choice(list(PACE))
        said, made = dice.choice(PACE[mark]).format(said), f"{made} {mark}"
    if dice.random() < 0.2:
        mark = dice.choice(list(HASTE))
        said, made = dice.choice(HASTE[mark]).format(said), f"{mark} {made}"
    return Said(words=said, code=made)


def place(dice: random.Random) -> Said:
    if dice.random() < 0.2:
        number = dice.randint(1, 9)
        return Said(words=f"dock {number}", code=f"D{number}")
    bay, row = dice.choice(BAYS), dice.randint(1, 9)
    if dice.random() < 0.5:
        return Said(words=f"{bay}{row}", code=f"{bay}{row}")
    shelf = dice.randint(1, 6)
    words = f"{bay}{row} shelf {shelf}"
    return Said(words=words, code=f"{bay}{row}.{shelf}")


def a_load(dice: random.Random) -> Said:
    kind = dice.choice(list(KINDS))
    if dice.random() < 0.5:
        return Said(words=f"the {kind}", code=KINDS[kind])
    number = dice.randint(2, 9)
    return Said(words=f"{number} {kind}s", code=f"{number}{KINDS[kind]}")


def rows(count: int, seed: int) -> list[Said]:
    """`count` programs, no two in the same words."""
    dice = random.Random(seed)
    found: dict[str, Said] = {}
    while len(found) < count:
        one = program(dice)
        found.setdefault(one.words, one)
    return list(found.values())


def data() -> str:
    """The recipe's data file."""
    found = rows(ROWS, SEED)
    lines = (json.dumps({"prompt": one.words, "completion": one.code}) for one in found)
    return "".join(line + "\n" for line in lines)
