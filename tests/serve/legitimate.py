"""Texts that repeat much and are no loops, and loops that begin after such texts.

All are written for this; the real loops in `loops/` are what SmolLM2-135M-Instruct wrote with
greedy decoding and no stop, 600 tokens each.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path

REAL = {path.stem: path.read_text() for path in sorted(Path(__file__).with_name("loops").iterdir())}

_FRUIT = ["apples", "pears", "plums", "figs", "dates", "limes", "grapes", "kiwis", "melons", "nuts"]
_CITIES = ["Lyon", "Turin", "Ghent", "Porto", "Graz", "Leeds", "Cork", "Bergen", "Malmö", "Brno"]
_OCHO = ["uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho"]
_ACHT = "一二三四五六七八"


def _lines(form: Callable[[int], str], count: int, first: int = 1) -> str:
    return "\n".join(form(number) for number in range(first, first + count)) + "\n"


def _pi(digits: int) -> str:
    """The first digits of pi, by Machin's formula."""
    one: int = 10 ** (digits + 10)

    def arctan(x: int) -> int:
        term = total = one // x
        for n in range(3, 3 * digits, 2):
            term //= -x * x
            total += term // n
        return total

    whole = str(4 * (4 * arctan(5) - arctan(239)) // 10**10)
    return f"{whole[0]}.{whole[1:]}"


LISTS = {
    "bullets": "Buy:\n" + "".join(f"- {one}\n- {one}, dried\n" for one in _FRUIT * 4),
    "numbered": _lines(
        lambda n: f"{n}. Check the {_FRUIT[n % 10]} from {_CITIES[n * 3 % 10]}.", 60
    ),
    "items": _lines(lambda n: f"Item {n}", 60),
    "slides": _lines(lambda n: f"Slide {n}: to be written", 20),
    "checklist": _lines(
        lambda n: f"- [ ] Call {_CITIES[n % 10]} again about {_FRUIT[n // 3 % 10]}", 40
    ),
    "steps": _lines(lambda n: f"Step {n} of 20: done.", 20),
    "days": _lines(lambda n: f"Day {n}: walk 30 minutes, then rest.", 21),
    "counting": ", ".join(map(str, range(1, 400))),
    "counting down": "... ".join(map(str, range(100, 0, -1))) + "... lift-off!",
    "lines of code for school": "I will not talk in class.\n" * 10,
    "yes": "yes\n" * 10,
    "no": "No, " * 12 + "not at all.",
    "answers": _lines(lambda n: f"{n}. {'yes' if n % 5 else 'no'}", 50),
    "same answers": _lines(lambda n: f"{n}. positive", 50),
    "labels": "positive\n" * 25 + "negative\n" + "positive\n" * 12,
    "contents": _lines(lambda n: f"Chapter {n} {'.' * 70} {n * 12}", 24),
    "minutes": _lines(lambda n: f"{n // 60 + 9:02}:{n % 60:02} nothing to report", 30, 0),
    "primes": ", ".join(str(n) for n in range(2, 900) if all(n % d for d in range(2, n))),
}
TABLES = {
    "rules": ("-" * 100 + "\nTotal\n" + "=" * 120 + "\n") * 3,
    "separator": "| city | fruit |" + " --- |" * 24 + "\n|" + " --- |" * 26 + "\n| Lyon | figs |\n",
    "wide separator": "|" + "-" * 200 + "|\n| one long column |\n",
    "table": _lines(lambda n: f"| {n} | {_CITIES[n % 10]} | yes | yes | - | - | 0 |", 40),
    "empty table": "| name | date | paid |\n|---|---|---|\n" + "|  |  |  |\n" * 30,
    "box": "┌" + "─" * 90 + "┐\n│" + " " * 90 + "│\n└" + "─" * 90 + "┘\n",
    "multiplication": _lines(
        lambda n: f"{n // 12 + 1} x {n % 12 + 1} = {(n // 12 + 1) * (n % 12 + 1)}", 144, 0
    ),
    "zeros": "[\n" + ("  [" + ", ".join(["0"] * 12) + "],\n") * 12 + "]\n",
    "identity": _lines(lambda n: " ".join("1" if m == n else "0" for m in range(16)), 16, 0),
    "truth": _lines(
        lambda n: f"| {n >> 2 & 1} | {n >> 1 & 1} | {n & 1} | {n & n >> 1 & 1} |", 8, 0
    ),
    "bill": _lines(lambda n: f"{_FRUIT[n % 10]:<12}1 x 2.00 EUR   2.00 EUR", 20),
    "board": ". . . . . . . . . . . . . . . . . . .\n" * 19,
    "bar": "".join(f"{n:3}% [{'█' * (n // 2)}{'░' * (50 - n // 2)}]\n" for n in range(0, 101, 10)),
    "csv": "date,city,a,b,c,d,e,f\n" + _lines(lambda n: f"2024-05-{n:02},Porto,,,,,,", 30),
}
NUMBERS = {
    "pi": _pi(1500),
    "a third": "1/3 = 0." + "3" * 120 + " and so on.",
    "googol": "A googol is 1" + "0" * 100 + ", a one and a hundred zeros.",
    "million": "1000000000000 is a million millions; 10000000000000000 is more.",
    "grouped": "1" + ",000" * 40 + " is a big number.",
    "binary": "2**255 in base two is 1" + "0" * 255 + ".",
    "factorial": str(math.factorial(300)),
    "sevenths": "1/7 = 0." + "142857" * 25,
    "dna": "The huntingtin gene holds "
    + "CAG" * 42
    + "CAACAG and ends its telomeres "
    + "TTAGGG" * 30,
    "poly a": "AAUAAA" + "A" * 220,
}
CODE = {
    "braces": "def f(x):\n    if x:\n" + "}\n" * 12 + "        return {" + "}" * 8 + "\n",
    "nested": "".join("  " * n + "{\n" for n in range(20))
    + "".join("  " * n + "}\n" for n in range(20, 0, -1)),
    "assignments": _lines(lambda n: f"self.w{n} = nn.Linear(64, 64)", 24),
    "appends": "rows = []\n" + "rows.append(0)\n" * 16,
    "tests": _lines(lambda n: f"def test_case_{n}():\n    assert f({n}) == {n * n}\n", 20),
    "prints": _lines(lambda n: f'print("line {n}")', 30),
    "hex dump": _lines(lambda n: f"{n * 16:08x}  " + "00 " * 15 + "ff  |................|", 40, 0),
    "bytes": "static const u8 z[] = {\n" + ("  " + "0x00, " * 12 + "\n") * 12 + "};\n",
    "escapes": 'pad = b"' + "\\x00" * 64 + '"\n',
    "nops": "\tnop\n" * 16 + "\tret\n",
    "html grid": "<table>\n" + ("<tr>" + "<td></td>" * 9 + "</tr>\n") * 9 + "</table>\n",
    "options": "<select>" + "<option></option>\n" * 12 + "</select>",
    "cards": ('<div class="card">\n  <h2>Title</h2>\n  <p>Some text about the offer.</p>\n</div>\n')
    * 9,
    "sql": _lines(lambda n: f"INSERT INTO users VALUES ({n}, 'user{n}', NULL, NULL);", 40),
    "nulls": "VALUES (" + ", ".join(["NULL"] * 24) + ");",
    "booleans": json.dumps({"open": [True] * 30 + [False] * 10}),
    "json": json.dumps(
        [{"id": n, "name": f"User {n}", "tags": [], "active": True} for n in range(40)]
    ),
    "same objects": json.dumps([{"type": "none", "value": None}] * 20, indent=2),
    "base64": base64.b64encode(bytes(120) + bytes(range(256)) * 2).decode(),
    "yaml": "steps:\n" + "- name: check\n  retries: 3\n" * 12,
    "log": _lines(
        lambda n: f"2024-05-01T10:00:{n % 60:02} INFO request {n} served in {n % 7} ms", 50
    ),
    "latex": r"\begin{tabular}{"
    + "c|" * 20
    + "c}\n"
    + " & " * 20
    + "\\\\\n" * 8
    + r"\end{tabular}",
    "diff": _lines(lambda n: f"-    old_name({n})\n+    new_name({n})", 25),
    "env": _lines(lambda n: f"WORKER_{n}_HOST=127.0.0.1\nWORKER_{n}_PORT={8000 + n}", 20),
}
VERSES = {
    "refrain": "".join(
        f"{one} came rowing over the bay,\n" + "Row, my darling, row away,\n" * 4 + "\n"
        for one in ("Anna", "Brigid", "Clara", "Dora", "Edith")
    ),
    "la la": "And so we sang:\n" + "La la la, la la la la,\n" * 8 + "until the morning came.\n",
    "chorus": "Oh carry me home when the harbour is dark,\nwhen the boats have come in and the "
    "lanterns are low,\nOh carry me home when the harbour is dark,\nand tell me what you know.\n\n"
    * 3,
    "bottles": "".join(
        f"{n} jars of plums on the shelf, {n} jars of plums. Take one down and open it, "
        f"{n - 1} jars of plums on the shelf.\n"
        for n in range(40, 0, -1)
    ),
    "litany": "".join(f"From the cold of {one}, keep us.\n" for one in _CITIES * 2),
    "laughter": "Ha" + "ha" * 60 + "! That was good. " + "Noooo" + "o" * 60 + "!",
    "canción": "".join(f"{one} pasos da la luna, la luna, la luna,\n" for one in _OCHO) * 2,
    "olé": "olé, olé, olé, olé, " * 6 + "que viva la fiesta.\n",
    "哈哈": "他说完以后" + "哈哈" * 12 + "大笑起来，" + "真的" * 4 + "很好笑。",
    "童谣": "".join(f"{one}只小鸟飞呀飞，飞呀飞，飞到天上去。\n" for one in _ACHT) * 2,
    "副歌": "月亮走，我也走，我和月亮手牵手。\n" * 5,
    "art": "  *\n"
    + "".join(" " * (30 - n) + "*" * (2 * n) + "\n" for n in range(30))
    + "   ||\n" * 8,
    "emoji": "Thanks! " + "🎉" * 20 + " " + "👏👏👏 " * 6,
    "filler": "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor "
    "incididunt ut labore et dolore magna aliqua.\n" * 4,
}
PROSE = {
    "english": "The pump draws water from the lower tank. When the float falls, the pump stops, "
    "and when it rises, the pump starts again. If the pump does not start, check the fuse first, "
    "then the float, then the pump itself. If the fuse is blown, fit one of the same rating.",
    "contract": "".join(
        f"The tenant shall not, without the landlord's written consent, {what} the premises.\n"
        for what in ("sublet", "paint", "alter", "extend", "divide", "rename", "fence", "insure")
    ),
    "español": "El tren de las ocho sale a las ocho y diez. El tren de las nueve sale a las nueve "
    "y cinco. Si pierde el tren de las nueve, espere al tren de las diez, que para en todas las "
    "estaciones, en todas, menos en la última.",
    "recetas": "".join(f"Añada {one}, mezcle bien y deje reposar.\n" for one in _OCHO * 2),
    "中文": "高血压患者应当少吃盐，多运动，按时服药。如果血压仍然偏高，应当及时就医。医生会根据"
    "血压的情况调整药物。少吃盐，多运动，按时服药，是控制血压的三个要点。",
    "步骤": "".join(
        f"{n}. 请把第{n}个零件放到{one}号盒子里，然后拧紧螺丝。\n" for n, one in enumerate(_ACHT, 1)
    ),
    "问答": "".join(f"问：{one}月可以种菜吗？\n答：可以，但要注意防冻。\n" for one in _ACHT),
    "clínica": "".join(f"Paciente {n}: sin fiebre, sin dolor, sin tos.\n" for n in range(1, 16)),
    "interview": "".join(f"Q: Do you sell {one}?\nA: Yes, we do.\n" for one in _FRUIT * 2),
    "letters": "".join(f"{chr(65 + n)} is for {_FRUIT[n % 10]}.\n" for n in range(26)),
}
TEXTS = LISTS | TABLES | NUMBERS | CODE | VERSES | PROSE

_LONG = (
    "The committee met in the town hall and talked about the bridge, which has been closed since "
    "the spring. The engineer said that the foundations were sound but that the deck was not. The "
    "mayor asked what a new deck would cost, and nobody in the room could tell her.\n"
)
_LARGO = (
    "El río baja crecido desde la sierra y los vecinos miran el puente con miedo. Nadie ha cruzado "
    "desde el lunes, y el pan llega en barca. La maestra da clase en la iglesia, porque la escuela "
    "está al otro lado del agua, y los niños dicen que así es mejor.\n"
)
_HUI = (
    "市政厅里开了一个会，大家讨论那座已经关闭的桥。工程师说基础没有问题，但是桥面必须更换。"
    "市长问要花多少钱，没有人能够回答。会议开到很晚，最后决定下个星期再谈这件事情，大家都很累。"
    "第二天早上，记者来到河边，看见工人正在测量桥墩。一位老人说，他小的时候这座桥还是木头做的，"
    "每年春天都要修一次。孩子们坐在岸上，一边吃苹果，一边数过河的船。船夫说今年水大，生意比往年好。"
    "傍晚起风了，大家慢慢散去，只有那位老人还站在那里看水。"
)
UNITS = {
    "token": [
        "a",
        "!",
        "\n",
        "0",
        "好",
        "😀",
        "the ",
        "no, ",
        "哈哈",
        "really ",
        "banana\n",
        "0, ",
    ],
    "phrase": [
        "I do not know. ",
        "and then the cat sat down, ",
        "- It is important to note that\n",
        "The answer is 42. The answer is 7. ",
        "**Step:** mix the flour and the water.\n",
        "no lo sé, no lo sé bien, ",
        "¿Quién sabe la verdad de todo esto? ",
        "我不知道。",
        "春天来了，花儿开了，鸟儿唱了。",
        "请咨询医生，请咨询医生或者药师。\n",
        "x = x + 1\n",
        '{"name": "", "value": 0}, ',
        "<li>item</li>\n",
        "的的确",
        "| a | b |\n",
        "Is it? It is. But is it really so, or does it only seem so to us, who look from afar? ",
        "Please let me know if you need anything else, and I will be happy to help you with it. "
        * 2,
    ],
    "paragraph": [
        _LONG,
        _LONG + _HUI + _LARGO,
        _LARGO,
        _LARGO + _LONG,
        _HUI,
        _LONG + _LARGO + _HUI * 2,
        "- note\n" + _LONG * 2,
    ],
}
COUNTED: list[tuple[str, Callable[[int], str]]] = [
    ("token", lambda n: f"{n}. Love\n"),
    ("phrase", lambda n: f"{n}. The importance of education is very great.\n"),
    ("phrase", lambda n: f"第{n}步：把水烧开，放入茶叶，等待三分钟。\n"),
    ("phrase", lambda n: f"Día {n}: caminar 20 minutos por el parque.\n"),
    ("paragraph", lambda n: f"{n}. {_LONG}"),
    ("paragraph", lambda n: f"{n}、{_HUI}\n"),
]


def loops() -> list[tuple[str, str, str]]:
    """Kind, a legitimate text, and the loop that follows it: longer than any that must be found."""
    before = [TEXTS[name] for name in ("english", "español", "中文", "table", "numbered", "prints")]
    plain = [(kind, unit * (9000 // len(unit))) for kind, units in UNITS.items() for unit in units]
    counted = [(kind, _lines(form, 9000 // len(form(1)))) for kind, form in COUNTED]
    return [
        (kind, before[n % len(before)] + "\n", loop)
        for n, (kind, loop) in enumerate(plain + counted)
    ]
