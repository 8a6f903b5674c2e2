"""The rules that hold over the whole package: imports, calls, sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import molvae

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "molvae"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# The declared boundaries: a molecule, the user's oracle, the command line, a request to the REST API.
BROAD_EXCEPT = re.compile(r"chem/parallel|optimize/(budget|worker)|cli/main|app/\w+")
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal"}
UNSAFE_CALLS = re.compile(
    r"(eval|exec|torch\.load|yaml\.(unsafe_|full_)?load|(os\.)?system|os\.popen|(\w+\.)*(extractall|read_pickle|to_pickle)"
    r"|joblib\.(load|dump))"
)
DISTRIBUTIONS = {"sklearn": "scikit-learn"}

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(node: ast.AST) -> list[str]:
    """Return the modules that one import statement or ``import_module("name")`` names; nothing for other nodes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [name.value for name in node.args if isinstance(name, ast.Constant)]
    return []


def unsafe(tree: ast.AST) -> list[str]:
    """Return what in ``tree`` could run code from a file or hand text to a shell."""
    found = [name for node in ast.walk(tree) for name in imported(node) if name.partition(".")[0] in UNSAFE_MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [name] if UNSAFE_CALLS.fullmatch(name := ast.unparse(node.func)) else []
            for keyword in node.keywords:
                value = keyword.value
                literal_false = isinstance(value, ast.Constant) and value.value is False
                found += [keyword.arg] if keyword.arg in {"shell", "allow_pickle"} and not literal_false else []
    return found


def broad_excepts(tree: ast.AST) -> int:
    """Count handlers that catch everything and go on; one that raises again at its end only cleans up."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {kind and ast.unparse(kind) for kind in kinds}
            last = node.body[-1]
            count += bool(names & {None, "Exception", "BaseException"}) and not isinstance(last, ast.Raise)
    return count


@each_module
def test_runs_no_code_from_files(path: Path) -> None:
    assert unsafe(tree_of(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "eval(text)",
        "exec(text)",
        "yaml.load(f)",
        "archive.extractall(p)",
        "os.system(c)",
        "subprocess.run(c, shell=True)",
        "np.load(f, allow_pickle=True)",
        "joblib.load(f)",
        "pd.read_pickle(f)",
    ],
)
def test_the_ban_sees(source: str) -> None:
    assert unsafe(ast.parse(source))


@pytest.mark.parametrize("source", ["model.eval()", "np.load(f, mmap_mode='r')", "np.load(f, allow_pickle=False)"])
def test_the_ban_lets_pass(source: str) -> None:
    assert unsafe(ast.parse(source)) == []


@each_module
def test_catches_everything_only_at_a_boundary(path: Path) -> None:
    name = str(path.relative_to(PACKAGE).with_suffix(""))
    assert broad_excepts(tree_of(path)) == 0 or BROAD_EXCEPT.fullmatch(name)


def test_a_broad_except_is_seen() -> None:
    assert broad_excepts(ast.parse("try:\n    f()\nexcept (OSError, Exception):\n    pass")) == 1
    assert broad_excepts(ast.parse("try:\n    f()\nexcept:\n    pass")) == 1
    assert broad_excepts(ast.parse("try:\n    f()\nexcept BaseException:\n    g()\n    raise")) == 0


@each_module
def test_prints_nothing(path: Path) -> None:
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if ast.unparse(call.func) == "print"] == []


@each_module
def test_imports_molvae_at_the_top(path: Path) -> None:
    if path.parent.name == "cli" or path == PACKAGE / "__init__.py":
        pytest.skip("imports late, so that help answers at once")
    nested = [name for function in functions(tree_of(path)) for node in ast.walk(function) for name in imported(node)]
    assert [name for name in nested if name.partition(".")[0] == "molvae"] == []


@each_module
def test_sizes(path: Path) -> None:
    assert path.read_text("utf-8").count("\n") <= 400
    too_long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(tree_of(path)) if f.end_lineno - f.lineno >= 60}
    assert too_long == {}


def test_most_functions_are_short() -> None:
    lengths = [f.end_lineno - f.lineno + 1 for path in MODULES for f in functions(tree_of(path))]
    assert sum(length > 45 for length in lengths) <= 0.05 * len(lengths)


@each_module
def test_has_a_docstring_and_a_plain_name(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("package", ["chem", "data"])
def test_package_init_imports_nothing(package: str) -> None:
    body = tree_of(PACKAGE / package / "__init__.py").body
    imports = [name for node in body for name in imported(node)]
    assert [name for name in imports if name != "__future__.annotations"] == []


def test_version_stands_once() -> None:
    assert PROJECT["version"] == molvae.__version__


def test_every_dependency_is_imported_and_every_import_declared() -> None:
    names = {name.partition(".")[0] for path in MODULES for node in ast.walk(tree_of(path)) for name in imported(node)}
    used = {DISTRIBUTIONS.get(name, name) for name in names - sys.stdlib_module_names - {"molvae"}}
    needed = {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    optional = {re.split(r"[\s<>=!~;\[]", line)[0].lower() for name in set(extras) - {"dev"} for line in extras[name]}
    assert needed <= used
    assert used <= needed | optional


def python(code: str) -> str:
    """Run ``code`` in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    code = "import sys, molvae; sys.stdout.write(' '.join({'torch', 'rdkit', 'numpy', 'pandas'} & set(sys.modules)))"
    assert python(code) == ""


def modules_under(*packages: str) -> list[str]:
    paths = [path for package in packages for path in sorted((PACKAGE / package).rglob("*.py"))]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize(
    ("packages", "blocked"),
    [
        (("nn", "objectives", "train"), ("rdkit", "selfies", "pandas")),
        (("chem",), ("torch",)),
        (("generate",), ("molvae.train",)),
    ],
)
def test_works_without(packages: tuple[str, ...], blocked: tuple[str, ...]) -> None:
    code = f"""
import importlib, sys
for name in {blocked!r}:
    sys.modules[name] = None
for name in {modules_under(*packages)!r}:
    importlib.import_module(name)
"""
    python(code)
