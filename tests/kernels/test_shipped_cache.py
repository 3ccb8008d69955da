"""The compiled kernels that an image ships: used from a read-only place, and nothing is compiled again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import runs

from tamis import kernels

ROOT = Path(__file__).resolve().parents[2]
FOLDER = f"numba-{kernels._sources()}"
ASK = "import os, tamis.kernels; print(os.environ['NUMBA_CACHE_DIR'])"


def environment(home: Path, shipped: Path, **more: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}
    return env | {"XDG_CACHE_HOME": str(home), "TAMIS_KERNELS": str(shipped), **more}


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """What an image has: compiled files in folders that nobody may write to."""
    folder = tmp_path / "shipped" / FOLDER / "kernels_1"
    folder.mkdir(parents=True)
    (folder / "a.nbi").write_bytes(b"index")
    (folder / "a.1.nbc").write_bytes(b"code")
    for path in (folder, folder.parent):
        path.chmod(0o555)
    return tmp_path / "shipped"


def test_an_empty_cache_begins_as_a_writable_copy_of_the_shipped_one(tmp_path: Path, shipped: Path) -> None:
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], env=environment(tmp_path / "home", shipped), stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    answers = {process.communicate()[0].strip() for process in asked}
    cache = tmp_path / "home" / "tamis" / FOLDER
    assert answers == {str(cache)}
    found = {str(p.relative_to(cache)): p.read_bytes() for p in cache.rglob("*") if p.is_file()}
    assert found == {"kernels_1/a.nbi": b"index", "kernels_1/a.1.nbc": b"code"}
    assert os.stat(cache / "kernels_1").st_mode & 0o200
    assert [path.name for path in cache.parent.iterdir()] == [FOLDER]  # the copies of those who came later are gone


def test_a_cache_that_is_there_stays_as_it_is(tmp_path: Path, shipped: Path) -> None:
    own = tmp_path / "home" / "tamis" / FOLDER
    own.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", ASK], env=environment(tmp_path / "home", shipped), check=True)
    assert list(own.iterdir()) == []


def test_a_cache_shipped_for_other_sources_is_not_taken(tmp_path: Path, shipped: Path) -> None:
    (shipped / FOLDER).chmod(0o755)
    (shipped / FOLDER).rename(shipped / "numba-0123456789abcdef")
    subprocess.run([sys.executable, "-c", ASK], env=environment(tmp_path / "home", shipped), check=True)
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_a_run_with_the_warm_cache_of_the_image_compiles_nothing(tmp_path: Path) -> None:
    processor = {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2"}  # those of deploy/Dockerfile
    warm = environment(tmp_path / "image", tmp_path / "nowhere", **processor)
    subprocess.run([sys.executable, ROOT / "deploy/warm.py"], env=warm, check=True, capture_output=True)
    shipped = tmp_path / "image" / "tamis"
    for path in [shipped, *shipped.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    corpus = runs.write_corpus(tmp_path / "corpus", documents=50)
    stages = [*runs.STAGES[:5], {"use": "refinedweb_lines"}, *runs.STAGES[5:]]
    path = runs.write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "out", stages=stages)
    done = subprocess.run(
        runs.command("run", path),
        env=environment(tmp_path / "home", shipped, NUMBA_DEBUG_CACHE="1", **processor),
        capture_output=True,
        text=True,
        check=True,
    )
    told = done.stdout + done.stderr
    assert "data loaded from" in told
    assert "data saved to" not in told, "a kernel was compiled although the image ships it"
