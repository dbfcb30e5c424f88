"""A module imports only from lower layers and its own package; stages never import one another."""

import ast
from pathlib import Path

import residency

HOME = Path(residency.__file__).parent
LAYERS = [
    {"errors"},
    {"strict", "types"},
    {"config"},
    {"store"},
    {
        "audit",
        "builds",
        "conversations",
        "hardware",
        "near_duplicates",
        "pages",
        "progress",
        "refusals",
        "releases",
        "repetition",
        "sealed",
        "words",
    },
    {"egress", "general"},
    {"models"},
    {"engines"},
    {"fingerprint"},
    {"traffic", "decide", "data", "train", "export", "gate", "explain"},
    {"watch"},
    {"serve"},
    {"pipeline"},
    {"cli"},
    {"verbs"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def owner(path: Path) -> str:
    return path.relative_to(HOME).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "residency":
            names = [f"residency.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("residency.")}
    return found - {"__version__"}


def modules() -> list[Path]:
    return [p for p in HOME.rglob("*.py") if owner(p) not in ("__init__", "__main__", "recipes")]


def test_every_module_has_a_layer() -> None:
    assert {owner(path) for path in modules()} == set(RANK)


def test_imports_go_down() -> None:
    same_layer = {"audit", "builds", "conversations", "hardware", "progress", "releases"}
    wrong = [
        f"{path.relative_to(HOME)} imports {name}"
        for path in modules()
        for name in imported(path)
        if name != owner(path)
        and not (RANK[name] < RANK[owner(path)] or {name, owner(path)} <= same_layer)
    ]
    assert not wrong


def test_heavy_libraries_are_imported_late() -> None:
    heavy = {"torch", "transformers", "peft", "trl", "datasets", "xllamacpp", "libgguf"}
    wrong = []
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            wrong += [f"{path.name} imports {n}" for n in names if n.split(".")[0] in heavy]
    assert not wrong


def test_module_and_function_sizes() -> None:
    wrong = []
    for path in modules():
        text = path.read_text()
        if text.count("\n") > 400:
            wrong.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                count = len(node.args.args) + len(node.args.kwonlyargs)
                if size > 60 or count - (node.args.args[:1] == ["self"]) > 9:
                    wrong.append(f"{path.name}:{node.name}")
    assert not wrong
