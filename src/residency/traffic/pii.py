"""Personal data that has a form: found by patterns, check digits and cue words.

`LIMITS` says what is not found. Addresses are found in their English and Chinese forms only.

Everything starts from a digit or an `@`, so that a text with few of them costs little, and no
pattern looks further than a fixed number of characters, so that no text costs much.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Literal, NamedTuple

Kind = Literal["EMAIL", "PHONE", "CARD", "IBAN", "SSN", "MRN", "CN_ID", "ADDRESS"]


LIMITS = (
    "Found by patterns, check digits and cue words. Patterns do not find names, illnesses, or what "
    "only its meaning makes personal; some addresses and record numbers are missed too. A text in "
    "which nothing was found can still say whom it is about."
)
"""What reports say beside the kinds that were found."""


class Span(NamedTuple):
    """`text[start:end]` is personal data of a kind."""

    kind: Kind
    start: int
    end: int


SEEDS = re.compile(r"[0-9@]|[＠\d]")  # begins with a set of ASCII, which re looks for fastest
"""Where personal data may be; a text without any has none."""
_AT = re.compile("[@＠]")
_NUMBER = re.compile(r"\d+")
CUE_REACH = 40
CUED = 10**10
"""A number of digits alone is personal below this only for its cue, such as an SSN."""
_S = r"[ .\-\u00a0\u2010-\u2013]"
_END = r"(?![0-9A-Za-z])"

# Digits with what may stand between them: seven, which every kind of number has at least, or more.
_LONG = re.compile(rf"\d(?:(?:{_S}|[()/]){{0,2}}\d){{6,18}}")

_LOCAL = re.compile(r"[A-Za-z0-9\u00c0-\u024f.!#$%&'*+/=?^_{|}~-]{1,64}")
_DOMAIN = re.compile(r"[@＠](?:[^\W_](?:[\w-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")

_CARDS = (
    re.compile(rf"\d{{4}}({_S}?)\d{{4}}\1\d{{4}}\1\d{{4}}\1\d{{3}}{_END}"),
    re.compile(rf"\d{{4}}({_S}?)\d{{4}}\1\d{{4}}\1\d{{1,4}}{_END}"),
    re.compile(rf"3\d{{3}}({_S}?)\d{{6}}\1\d{{4,5}}{_END}"),
)
# Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay: prefix and lengths.
_CARD_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|35\d{14}|62\d{14,17}"
)

_IBAN = re.compile(r"[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}")
# Lengths by country, from SWIFT's IBAN registry.
_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
    "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 "
    "IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
    "MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
    "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _LENGTHS.split()}

# Areas 000, 666 and 900 to 999 were never given out, nor group 00 and serial 0000.
_SSN = re.compile(rf"(?!000|666|9)\d{{3}}({_S}?)(?!00)\d{{2}}\1(?!0000)\d{{4}}{_END}")
_SSN_CUE = re.compile(r"(?i)(?:(?<![a-z])ssn|social security)[^\d\n]{0,25}$")

_CN_ID = re.compile(
    rf"[1-9]\d{{5}}(?P<gap>{_S}?)((?:18|19|20)\d\d)(\d\d)(\d\d)(?P=gap)\d{{3}}[\dXx]{_END}"
)
_CN_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

_PHONES = re.compile(
    rf"(?:(?:86{_S}?)?1[3-9]\d({_S}?)\d{{4}}\1\d{{4}}"  # Chinese mobile
    r"|07[1-9]\d{8}"  # British mobile
    # North America: area and exchange never begin with 0 or 1.
    r"|(?:1[ .-])?[2-9]\d\d(?:\) ?|[.-])[2-9]\d\d[ .-]\d{4}"
    # A trunk prefix and groups with one separator, as in most of Europe and for Chinese landlines.
    r"|(?<!\d[ ./-])0[1-9]\d{0,3}([ ./-])"
    rf"(?=(?:\d\2?){{6,10}}{_END})\d{{2,8}}(?:\2\d{{2,8}}){{0,4}}){_END}"
)
# E.164 has at most 15 digits.
_ANY_PHONE = re.compile(rf"\d(?:(?:{_S}|[()/]){{0,2}}\d){{6,14}}{_END}")
_PHONE_LEAD = re.compile(r"(?:\+ ?\(?|\()$")
_PHONE_CUE = re.compile(
    r"(?i)(?:(?<![a-z])(?:tel|telephone|phone|mobile|mob|cell|cell ?phone|whatsapp|sms|fax|call"
    r"|dial|text (?:me|us|him|her))(?![a-z])|电话|手机|座机|总机|热线|联系方式|致电|拨打|回拨)"
    r"[^\d\n]{0,20}$"
)
_DATE = re.compile(r"(?:19|20)\d\d([-./ ])\d\d?\1\d\d?|\d\d?([-./])\d\d?\2(?:19|20)\d\d")

_MRN = re.compile(rf"(?:\d{{3}}([ -])\d{{3}}\1\d{{4}}|\d[0-9A-Za-z-]{{2,18}}){_END}")
_MRN_WORDS = (
    *("mrn", "medical", "patient", "hospital", "chart", "nhs"),
    *("病", "住院", "门诊", "就诊", "患者", "登记", "体检"),
)
"""Of these every cue has one; most texts have none."""
_MRN_CUE = re.compile(
    r"(?i)(?:(?<![a-z])(?:mrn(?![a-z])|medical record"
    r"|(?:patient|hospital|chart|nhs) (?:id|number|no)\b)"
    r"|(?:病历|病案|病人|住院|门诊|就诊|就诊卡|患者|登记|体检)(?:编?号码?|ID))"
    r"[^\dA-Za-z]{0,4}(?:(?:number|no|id|is|was)\b[^\dA-Za-z]{0,4}){0,2}"
    r"(?P<head>[A-Za-z]{0,4}-?)$"
)

# Where an address may begin, unless it has one of these words: then at any number.
_DOOR = re.compile(r"\d(?<!\d\d)\d{0,4}(?=[A-Za-z]?,? [A-Z\d]|[号弄栋幢座])")
_PLAIN_ADDRESS = ("street", "avenue", "boulevard", "o box ", "o. box ")
_ROOM = r"(?:Apt|Apartment|Suite|Unit|Flat|Room|#)\.? ?#?\w{1,6}"
_TOWN = r"(?:,? [A-Z][\w.'’-]{1,20}){1,5},?"
_POST_CODE = r" (?:[A-Z]{2},? \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[\dA-Z]? \d[A-Z]{2})"
_PLACE = rf"(?:(?:{_TOWN})?,?{_POST_CODE}(?![0-9A-Za-z]))?"
_WORD = r"(?:[A-Z][\w.'’-]{0,20}|[NSEW]\.?|\d{1,3}(?:st|nd|rd|th))"
_STREET = re.compile(
    rf"\d{{1,5}}[A-Za-z]?,? (?:(?!AM\b|PM\b){_WORD} ){{1,4}}"
    r"(?:(?:Street|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Court|Ct|Place|Way|Square|Terrace"
    r"|Parkway|Highway|Close|Crescent|Gardens|Grove|Mews|Circle|St)\b|Dr\b(?!\.? [A-Z]))"
    rf"(?:\.?,? {_ROOM})?{_PLACE}"
    r"|\d{1,5}[a-z]? (?:[^\W\d]{1,20} ){1,2}(?:street|avenue|boulevard)\b"
)
_STREET_HEAD = re.compile(rf"(?<![0-9A-Za-z]){_ROOM},? $")
_BOX = re.compile(rf"\d{{1,6}}{_PLACE}")
_BOX_CUE = re.compile(r"(?i)(?<![a-z])p\.? ?o\.? box $")
_HAN = r"[\u4e00-\u9fff]"
_CN_STREET = re.compile(
    rf"(?:{_HAN}*(?:[在到是为往]|寄给))?(?P<head>{_HAN}{{2,24}}"
    r"(?:(?:路|街|大道|巷|弄|胡同)(?:[东西南北中]?[一二三四五六七八九十]段)?"
    r"|小区|花园|家园|新村|公寓|苑|[一二三四五六七八九十]区))$"
)
_CN_NUMBER = re.compile(
    r"\d{1,5}(?:[弄栋幢座]|号(?!线))(?:楼|院)?(?:\d{1,4}(?:号楼|单元|[栋幢座楼层室号]|(?!\d))){0,4}"
    rf"(?:{_HAN}{{2,10}}(?:大厦|广场|中心|园|公寓|小区)(?:[A-Z\d]{{1,3}}[座栋幢])?"
    r"(?:\d{1,4}[楼层室号]){0,2})?"
)


def find(text: str) -> list[Span]:
    """The personal data in `text`, in order and without overlaps; the longest of several wins."""
    if not (seed := SEEDS.search(text)):
        return []
    start, found = seed.start(), list[Span]()
    if "@" in text or "＠" in text:
        found += _each(_email, _AT, text, start)
    if _LONG.search(text, start):
        found += _each(_numbered, _NUMBER, text, start)
    lower = text.lower()
    if any(word in lower for word in _MRN_WORDS):
        found += _each(_record_number, _NUMBER, text, start)
    plain = any(word in lower for word in _PLAIN_ADDRESS)
    found += _each(_address, _NUMBER if plain else _DOOR, text, start)
    return apart(found) if len(found) > 1 else found


@functools.lru_cache(1000)
def is_cue(name: str) -> bool:
    """Whether the number in a field of this name may be personal for its name, of which the last
    `CUE_REACH` characters are enough."""
    return any(cue.search(f"{name}: ") for cue in (_SSN_CUE, _PHONE_CUE, _MRN_CUE))


def _each(
    look: Callable[[str, int], Iterator[Span]], seed: re.Pattern[str], text: str, start: int
) -> Iterator[Span]:
    for match in seed.finditer(text, start):
        yield from look(text, match.start())


def apart(found: list[Span]) -> list[Span]:
    """The longest of the spans that do not overlap, in order."""
    found = sorted(found, key=lambda s: s.start)
    if all(one.end <= after.start for one, after in itertools.pairwise(found)):
        return found
    kept: list[Span] = []
    taken: set[int] = set()
    for span in sorted(found, key=lambda s: (s.start - s.end, s.start)):
        if taken.isdisjoint(places := range(span.start, span.end)):
            taken.update(places)
            kept.append(span)
    return sorted(kept, key=lambda s: s.start)


def _email(text: str, at: int) -> Iterator[Span]:
    domain = _DOMAIN.match(text, at)
    local = domain and _LOCAL.match(text[max(0, at - 64) : at][::-1])
    if domain and local:
        yield Span("EMAIL", at - local.end(), domain.end())


def _numbered(text: str, at: int) -> Iterator[Span]:
    """What begins with the digits at `at`, or with the few characters before them."""
    last = text[at - 1 : at]
    if last.isalpha():
        yield from _iban(text, at)
    if not (long := _LONG.match(text, at)):
        return
    # A name's part or a decimal place: no number begins there.
    inside = last.isascii() and (last.isalpha() or last == "_")
    if inside or (last in (".", ",") and text[at - 2 : at - 1].isdecimal()):
        return
    length = long.end() - at
    if length >= 13:
        yield from _card(text, at)
    if length >= 17:
        yield from _chinese_id(text, at)
    yield from _social_security(text, at)
    yield from _phone(text, at)


def _before(text: str, at: int) -> str:
    """Where a cue word may stand."""
    return text[max(0, at - CUE_REACH) : at]


def _card(text: str, at: int) -> Iterator[Span]:
    for pattern in _CARDS:
        if match := pattern.match(text, at):
            digits = _digits(match[0])
            if _CARD_ISSUERS.fullmatch(digits) and _luhn(digits):
                yield Span("CARD", at, match.end())


def _digits(text: str) -> str:
    return "".join(str(int(c)) for c in text if c.isdecimal())


def _luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def _iban(text: str, at: int) -> Iterator[Span]:
    """An account number of ISO 13616: its length by country, and modulo 97."""
    start = at - 2
    if start < 0 or (start and text[start - 1].isalnum() and text[start - 1].isascii()):
        return
    length = _IBAN_LENGTHS.get(text[start:at].upper())
    if length is None or not (match := _IBAN.match(text, start)):
        return
    places = [m.start() for m in re.finditer(r"[^ ]", match[0])][:length]
    end = start + places[-1] + 1
    code = match[0][: places[-1] + 1].replace(" ", "").upper()
    whole = len(places) == length and not re.match(r"[A-Za-z0-9]", text[end : end + 1])
    if whole and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1:
        yield Span("IBAN", start, end)


def _social_security(text: str, at: int) -> Iterator[Span]:
    match = _SSN.match(text, at)
    if match and (match[1] == "-" or _SSN_CUE.search(_before(text, at))):
        yield Span("SSN", at, match.end())


def _chinese_id(text: str, at: int) -> Iterator[Span]:
    """A citizen's number of GB 11643: a date of birth, and a check digit of ISO 7064 (11-2)."""
    if not (match := _CN_ID.match(text, at)):
        return
    try:
        date(*(int(part) for part in match.groups()[1:]))
    except ValueError:
        return
    total = sum(w * int(d) for w, d in zip(_CN_ID_WEIGHTS, _digits(match[0]), strict=False))
    if "10X98765432"[total % 11] == _last(match[0]):
        yield Span("CN_ID", at, match.end())


def _last(code: str) -> str:
    return "X" if code[-1] in "Xx" else str(int(code[-1]))


def _phone(text: str, at: int) -> Iterator[Span]:
    if _DATE.match(text, at):
        return
    lead = _PHONE_LEAD.search(text[max(0, at - 3) : at])
    start = at - len(lead[0]) if lead else at
    match = _PHONES.match(text, at)
    if not match and ((lead and "+" in lead[0]) or _PHONE_CUE.search(_before(text, start))):
        match = _ANY_PHONE.match(text, at)
    if match:
        yield Span("PHONE", start, match.end())


def _record_number(text: str, at: int) -> Iterator[Span]:
    match = _MRN.match(text, at)
    if match and (cue := _MRN_CUE.search(_before(text, at))):
        yield Span("MRN", at - len(cue["head"]), match.end())


def _address(text: str, at: int) -> Iterator[Span]:
    if (match := _STREET.match(text, at)) and not re.match(r"[\w.]", text[at - 1 : at], re.ASCII):
        room = _STREET_HEAD.search(_before(text, at))
        yield Span("ADDRESS", at - len(room[0]) if room else at, match.end())
    elif text[max(0, at - 4) : at].lower() == "box ":
        if (box := _BOX.match(text, at)) and (cue := _BOX_CUE.search(_before(text, at))):
            yield Span("ADDRESS", at - len(cue[0]), box.end())
    elif (number := _CN_NUMBER.match(text, at)) and (
        street := _CN_STREET.search(_before(text, at))
    ):
        yield Span("ADDRESS", at - len(street["head"]), number.end())
