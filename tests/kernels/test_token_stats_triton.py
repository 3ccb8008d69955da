"""The Triton kernel of token statistics: its numbers in Triton's interpreter, and that it compiles for real GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from tamis.kernels.token_stats import EXCLUDED, NO_MAX, Head, TokenStats, token_stats  # noqa: E402
from tamis.kernels.token_stats_triton import Tiling, tiling, token_stats_kernel  # noqa: E402

from .token_stats_agree import assert_agrees  # noqa: E402
from .token_stats_cases import cases  # noqa: E402

# what a launch passes, with the types that Triton sees in it
POINTERS = ("hidden", "weight", "bias", "other_hidden", "other_weight", "other_bias")
REALS = ("scale", "softcap", "other_scale", "other_softcap")
# arguments that a launch finds divisible by 16 for the widths of real models
ALIGNED = ("width", "hidden_stride", "weight_stride", "other_width", "other_hidden_stride", "other_weight_stride")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict[str, tuple]:
    """All cases through the kernel, in a process that interprets it."""
    out = tmp_path_factory.mktemp("interpreted") / "found.pt"
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("interpret_token_stats.py"), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(out)


@pytest.mark.parametrize("name", cases())
def test_equals_the_definition_over_full_logits(name, interpreted) -> None:
    hidden, head, targets, more = cases()[name]
    assert_agrees(TokenStats(*interpreted[name]), hidden, head, targets, **more)


def test_only_what_is_asked_for_is_computed(interpreted) -> None:
    least, whole = TokenStats(*interpreted["least"]), TokenStats(*interpreted["plain"])
    assert least[1:] == (None,) * 5
    assert torch.allclose(least.logprob, whole.logprob, atol=1e-6)


def compiled(capability: int, dtype: str, tiles: Tiling, **flags: bool):
    """The kernel for a GPU that need not be there. Flags are those of the kernel, False where not given."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    names = token_stats_kernel.arg_names
    constants: dict[str, float] = {name: False for name in names if name.isupper()}
    constants |= {"ROWS": tiles.rows, "COLUMNS": tiles.columns, "DEPTH": tiles.depth, "GROUP": tiles.group}
    constants |= {"LOWEST": NO_MAX, "LEAST": EXCLUDED, **flags}
    types = dict.fromkeys(POINTERS, f"*{dtype}") | dict.fromkeys(REALS, "fp32")
    types |= {"limit": "*fp32", "sums": "*fp32", "above": "*i32"} | dict.fromkeys(constants, "constexpr")
    aligned = {n for n in names if types.get(n, "").startswith("*")} | set(ALIGNED)
    source = ASTSource(
        fn=token_stats_kernel,
        signature={name: types.get(name, "i32") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": True}
    return compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def stack_bytes(kernel, folder: Path) -> int:
    """Bytes a thread keeps outside registers, from the machine code."""
    import triton

    (folder / "kernel.cubin").write_bytes(kernel.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run([tool, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True)
    return max(int(size) for size in re.findall(r"(?:STACK|LOCAL):(\d+)", usage.stdout))


WHOLE = {"MOMENTS": True, "RANK": True, "EVEN": True, "OTHER_EVEN": True}
SHAPED = {"HAS_BIAS": True, "HAS_CAP": True, "OTHER_BIAS": True, "OTHER_CAP": True}
SHARED_MEMORY = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 120: 99 << 10}  # CUDA C++ guide, table 21


@pytest.mark.parametrize(
    ("capability", "observer"),
    [
        (90, False),
        pytest.param(90, True, marks=pytest.mark.slow),
        pytest.param(80, False, marks=pytest.mark.slow),
        (80, True),
        pytest.param(89, False, marks=pytest.mark.slow),
        pytest.param(120, False, marks=pytest.mark.slow),
    ],
)
def test_compiles_to_tensor_core_products_that_stay_in_registers(capability, observer, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    tiles = tiling(False, observer, divmod(capability, 10))
    kernel = compiled(capability, "bf16", tiles, **WHOLE, OBSERVER=observer)
    assert ("wgmma" if capability == 90 else "mma.sync") in kernel.asm["ptx"]
    assert kernel.metadata.shared <= SHARED_MEMORY[capability]
    assert stack_bytes(kernel, tmp_path) <= 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "flags"),
    [
        ("fp16", {**WHOLE, **SHAPED}),
        ("bf16", {"MOMENTS": True, "OBSERVER": True, **SHAPED}),
        ("bf16", {"RANK": True}),
        ("fp32", {**WHOLE, "OBSERVER": True}),
    ],
)
def test_every_form_compiles(dtype, flags, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    tiles = tiling(dtype == "fp32", flags.get("OBSERVER", False), (8, 0))
    assert compiled(80, dtype, tiles, **flags).metadata.shared <= SHARED_MEMORY[80]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_gpu_gives_the_definition(backend, dtype) -> None:
    kind = getattr(torch, dtype)
    draw = torch.Generator().manual_seed(5)
    hidden, other = torch.randn(300, 192, generator=draw).to(kind), torch.randn(300, 72, generator=draw).to(kind)
    head = Head(
        (torch.randn(5003, 192, generator=draw) / 8).to(kind), torch.randn(5003, generator=draw).to(kind), 30.0, 0.9
    )
    second = Head((torch.randn(5003, 72, generator=draw) / 4).to(kind))
    targets = torch.randint(0, 5003, (300,), generator=draw)
    there = Head(head.weight.cuda(), head.bias.cuda() if head.bias is not None else None, head.softcap, head.scale)
    found = token_stats(
        hidden.cuda(), there, targets.cuda(), observer=(other.cuda(), Head(second.weight.cuda())), backend=backend
    )
    assert_agrees(found, hidden, head, targets, observer=(other, second))
