"""Compression is lossless on anything, never silently wrong, and short where the model knows the molecules."""

from __future__ import annotations

import gzip
import lzma
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, ModelFileError
from molvae.generate import compress as compress_module
from molvae.generate.archive import MAGIC, numbers, read_numbers, unpack
from molvae.generate.arithmetic import Stack, integer_table
from molvae.generate.bitsback import BITS, MoleculeCoder, block_sizes, fitting_scale, one_arithmetic
from molvae.generate.compress import compress, decompress
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.model import SequenceVAE

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]", "[S]"]
SIZES = {"embedding": 8, "encoder_hidden": 16, "decoder_hidden": 16, "decoder_layers": 1, "latent": 4}
KNOWN = [b"CCO", b"CC(C)O", b"C=CC#N", b"CCSC", b"NCCF", b"CC=O"]
SAMPLE = Path(__file__).resolve().parent.parent / "data" / "moses_sample.csv.gz"


def tiny_model(seed: int = 0, tokens: list[str] = TOKENS) -> LoadedModel:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.from_tokens(tokens)
    config = Config(model=ModelConfig(**SIZES))
    model = SequenceVAE(config.model, len(vocabulary)).eval()
    return LoadedModel(model, vocabulary, config, {"max_tokens": 20, "prior": None}, Path("nowhere"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return tiny_model()


def test_the_stack_is_exact_over_random_symbols() -> None:
    rng = np.random.default_rng(0)
    symbols = []
    stack = Stack()
    for _ in range(3000):
        bits = int(rng.integers(1, 33))
        size = int(rng.integers(1, 1 << bits, endpoint=True))
        symbols.append((int(rng.integers(0, (1 << bits) - size, endpoint=True)), size, bits))
        stack.push(*symbols[-1])
    stack = Stack(stack.to_bytes())
    for start, size, bits in reversed(symbols):
        assert start <= stack.peek(bits) < start + size
        stack.drop(start, size, bits)
    assert stack.is_new()
    assert stack.borrowed == 0


def test_the_stack_is_as_short_as_the_entropy() -> None:
    stack, rng = Stack(), np.random.default_rng(1)
    for symbol in rng.random(20_000) < 0.1:
        stack.push(*((0, 6554, 16) if symbol else (6554, 65536 - 6554, 16)))
    share = 0.1
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert len(stack.to_bytes()) * 8 / 20_000 == pytest.approx(entropy, rel=0.05)


def test_popping_from_an_empty_stack_borrows_and_gives_back() -> None:
    stack, popped = Stack(), []
    for _ in range(50):
        popped.append(stack.peek(20) >> 4)
        stack.drop(popped[-1] << 4, 16, 20)
    assert stack.borrowed > 10
    assert len(set(popped)) > 40
    for symbol in reversed(popped):
        stack.push(symbol << 4, 16, 20)
    assert stack.is_new()


def test_a_stack_that_is_none_is_refused() -> None:
    for content in (b"short", bytes(8), Stack().to_bytes() + b"x"):
        with pytest.raises(ValueError, match="stack"):
            Stack(content)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_integer_tables_leave_room_for_every_symbol(weights: list[float]) -> None:
    table = integer_table(torch.tensor(weights, dtype=torch.float64) + 1e-12, 12)
    assert table[0] == 0
    assert table[-1] == 1 << 12
    assert (table.diff() >= 1).all()


def test_integer_tables_keep_the_probabilities() -> None:
    shares = torch.rand((7, 30), generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(1)
    assert torch.allclose(integer_table(shares, BITS).diff().double() / 2**BITS, shares, atol=2e-5)


@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_numbers_come_back(values: list[int]) -> None:
    assert read_numbers(numbers(values), len(values)) == (values, len(numbers(values)))


def test_blocks_hold_every_molecule_once() -> None:
    for n in (0, 1, 5, 300, 10_001):
        sizes = block_sizes(n)
        assert sum(sizes) == n
        assert all(0 < size <= max(1, sum(sizes[:place])) for place, size in enumerate(sizes))


def test_molecules_come_off_the_stack_as_they_went_on(loaded: LoadedModel) -> None:
    rng = np.random.default_rng(0)
    blocks = [
        [tuple(rng.integers(4, len(TOKENS) + 4, rng.integers(0, 9))) for _ in range(count)] for count in (1, 5, 9)
    ]
    coder, stack = MoleculeCoder(loaded.model), Stack()
    with one_arithmetic():
        for block in blocks:
            coder.push(stack, block)
        stack = Stack(stack.to_bytes())
        for block in reversed(blocks):
            assert coder.pop(stack, len(block), 9) == block
    assert stack.is_new()


def test_the_coder_sets_its_own_arithmetic_and_restores_yours(loaded: LoadedModel) -> None:
    found = MoleculeCoder(loaded.model).probe()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(2)
    try:
        assert MoleculeCoder(loaded.model).probe() == found
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision(before)
    assert MoleculeCoder(tiny_model(seed=1).model).probe() != found


def test_codes_far_outside_the_prior_get_wider_bins() -> None:
    wide = tiny_model()
    assert fitting_scale(wide.model, [(4, 5)]) == 1
    with torch.no_grad():
        wide.model.encoder.to_mean.bias.fill_(30.0)
    assert 16 <= fitting_scale(wide.model, [(4, 5)]) <= 64
    data = b"\n".join(KNOWN) + b"\n"
    assert decompress(wide, compress(wide, data).content) == data


LINES = st.one_of(
    st.sampled_from(KNOWN), st.binary(max_size=12), st.sampled_from([b"OCC", b"[Na+].[Cl-]", b"", b"c1ccccc1 benzene"])
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=12), st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r"]), st.booleans())
def test_any_bytes_come_back(loaded: LoadedModel, lines: list[bytes], ending: bytes, ended: bool) -> None:
    data = ending.join(lines) + (ending if ended else b"")
    assert decompress(loaded, compress(loaded, data, verify=False).content) == data


def test_which_lines_the_model_carries(loaded: LoadedModel) -> None:
    data = b"smiles,name\r\nCCO,ethanol\r\nOCC,spelt otherwise\r\n\r\nCCBr,bromine\r\nCCF\tfluorine\nCC=O"
    result = compress(loaded, data)
    assert (result.lines, result.by_model) == (7, 3)
    assert decompress(loaded, result.content) == data
    nothing = compress(loaded, b"")
    assert (nothing.lines, nothing.by_model, nothing.model_bytes) == (0, 0, 0)
    assert decompress(loaded, nothing.content) == b""


def test_every_changed_byte_is_noticed(loaded: LoadedModel) -> None:
    content = compress(loaded, b"CCO\nCC=O\nodd line\n").content
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 16
        with pytest.raises(InputError, match=r"damaged|no file"):
            decompress(loaded, bytes(damaged))
    for end in (0, 5, len(MAGIC), len(content) // 2, len(content) - 1):
        with pytest.raises(InputError, match=r"damaged|no file"):
            decompress(loaded, content[:end])


def test_another_model_and_another_arithmetic_are_errors(loaded: LoadedModel, monkeypatch: Any) -> None:
    content = compress(loaded, b"CCO\nCC=O\n").content
    with pytest.raises(ModelFileError, match="nowhere"):
        decompress(tiny_model(seed=1), content)
    with pytest.raises(ModelFileError, match="was compressed with the model"):
        decompress(tiny_model(tokens=[*TOKENS, "[P]"]), content)
    monkeypatch.setattr(MoleculeCoder, "probe", lambda self: "0" * 16)
    with pytest.raises(ModelFileError, match=re.escape(f"torch {torch.__version__}")):
        decompress(loaded, content)


def test_a_decoder_that_rounds_otherwise_is_never_silent(loaded: LoadedModel, monkeypatch: Any) -> None:
    content = compress(loaded, b"\n".join(KNOWN * 4)).content
    exact = MoleculeCoder(loaded.model).probe()
    right = MoleculeCoder._bins
    monkeypatch.setattr(MoleculeCoder, "probe", lambda self: exact)
    monkeypatch.setattr(MoleculeCoder, "_bins", lambda self, mean, log_std: right(self, mean + 0.01, log_std))
    with pytest.raises((InputError, ModelFileError)):
        decompress(loaded, content)


def test_other_spelling_is_an_error(loaded: LoadedModel, monkeypatch: Any) -> None:
    content = compress(loaded, b"CCO\nCC=O\n").content
    monkeypatch.setattr(compress_module._Spell, "__call__", lambda self, row: "OCC")
    with pytest.raises(ModelFileError, match="rdkit"):
        decompress(loaded, content)


def test_verifying_catches_it_before_anything_is_kept(loaded: LoadedModel, monkeypatch: Any) -> None:
    monkeypatch.setattr(compress_module, "decompress", lambda *arguments, **named: b"other")
    with pytest.raises(ModelFileError, match="does not give the input back"):
        compress(loaded, b"CCO\n")


def test_the_verbs(loaded: LoadedModel, tmp_path: Path, capsys: Any) -> None:
    save_model(tmp_path / "model", loaded.model, loaded.vocabulary, loaded.config, loaded.facts)
    given_file, packed, back = tmp_path / "in.smi", tmp_path / "in.mz", tmp_path / "out.smi"
    given_file.write_bytes(b"\n".join(KNOWN) + b"\nnot one\r\n")
    model = ("-m", str(tmp_path / "model"))
    assert main(["compress", str(given_file), "-o", str(packed), *model]) == 0
    said = capsys.readouterr().out
    assert "7 lines: 6 by the model, 1 kept" in said
    assert "xz -9" in said
    assert main(["decompress", str(packed), "-o", str(back), *model]) == 0
    assert back.read_bytes() == given_file.read_bytes()
    capsys.readouterr()
    assert main(["decompress", str(given_file), "-o", str(back), *model]) == 2
    assert "no file that molvae compressed" in capsys.readouterr().err
    zipped = tmp_path / "in.smi.gz"
    zipped.write_bytes(gzip.compress(b"CCO\n"))
    assert main(["compress", str(zipped), "-o", str(packed), *model]) == 2
    assert "zcat" in capsys.readouterr().err
    assert main(["compress", str(tmp_path / "absent"), "-o", str(packed), *model]) == 2


def test_the_shipped_model_beats_xz() -> None:
    with gzip.open(SAMPLE, "rb") as handle:
        lines = [line.split(b",")[0] for line in handle.read().split(b"\n")[1:81]]
    data = b"\n".join(lines) + b"\n"
    result = compress(load_model("moses", "cpu"), data)
    assert result.by_model == len(lines)
    assert len(result.content) < 0.75 * len(lzma.compress(data, preset=9))
    header, _, body = unpack(result.content)
    assert (header.lines, header.rows, len(body)) == (80, 80, result.model_bytes)


def test_a_bad_target_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = tmp_path / "given.smi"
    given.write_bytes(b"CCO\n")
    for target in ("-", ".", "given.smi", str(given)):
        assert main(["compress", "given.smi", "-o", target, "-m", "absent"]) == 5
        assert "absent" not in capsys.readouterr().err
    assert given.read_bytes() == b"CCO\n"
    assert [path.name for path in tmp_path.iterdir()] == ["given.smi"]


def test_plain_bytes_are_not_named_gz(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target in (tmp_path / "out.smi.gz", tmp_path):
        assert main(["decompress", "absent", "-o", str(target)]) == 5
        assert "cannot take the plain bytes" in capsys.readouterr().err
