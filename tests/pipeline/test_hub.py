"""Models of the hub: what is fetched, from where, how often; and what is said where that does not work.

The hub is a server on this machine; its address is read when the library is imported, so each call is a process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hub as local_hub
import pytest
import runs

from tamis.pipeline.hub import commit_of, hub_id
from tamis.stages.errors import RecipeError

ROOT = Path(__file__).parents[2]
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights " * 1000,
    "tokenizer.json": b'{"t": 1}',
    "vocab.txt": b"a\nb\n",
    "modeling_own.py": b"print('code')",
    "pytorch_model.bin": b"pickle" * 1000,
    "model.pt": b"pickle",
    "consolidated.safetensors": b"again" * 1000,
    "onnx/config.json": b'{"form": "another"}',
    "README.md": b"words",
}
READ = ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
SCRIPT = """
import json, sys
from tamis.pipeline.hub import commit_of, fetch, hub_id
from tamis.stages.base import HUB_FILES
from tamis.stages.errors import TamisError
try:
    path = fetch(sys.argv[1], hub_id(sys.argv[1]), HUB_FILES, code="code" in sys.argv)
    found = {str(p.relative_to(path)): p.read_text() for p in path.rglob("*")}
    print(json.dumps({"path": str(path), "commit": commit_of(path), "files": found}))
except TamisError as error:
    print(json.dumps({"error": type(error).__name__, "told": str(error)}))
"""


class Client:
    """Processes of one machine: its caches, and the hub that it can reach."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))},
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TAMIS_CACHE": str(folder / "cache"),
        }

    def start(self, model: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, model, *arguments],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fetch(self, model: str, *arguments: str, **more: str) -> dict:
        return answer(self.start(model, *arguments, **more))


def answer(process: subprocess.Popen[str]) -> dict:
    told, error = process.communicate()
    assert process.returncode == 0, error
    return json.loads(told)


@pytest.fixture
def server() -> Iterator[local_hub.Hub]:
    pickled = {name: FILES[name] for name in ("config.json", "pytorch_model.bin")}
    with local_hub.running({"org/Small-1.5B": FILES, "org/pickled": pickled}) as found:
        yield found


@pytest.fixture
def client(server: local_hub.Hub, tmp_path: Path) -> Client:
    return Client(tmp_path, server.url)


def test_settings_weights_and_tokenizer_are_fetched_and_nothing_else(server, client):
    found = client.fetch("org/Small-1.5B@v1")
    assert found["files"] == {name: FILES[name].decode() for name in READ}
    assert Path(found["path"]).name == "Small-1.5B"
    assert found["commit"] == local_hub.COMMIT
    assert server.fetched() == READ
    coded = client.fetch("hf://org/Small-1.5B", "code")
    assert sorted(coded["files"]) == sorted([*READ, "modeling_own.py"])
    assert server.fetched() == sorted([*READ, "modeling_own.py"]), "what the cache held was fetched again"


def test_what_was_fetched_once_needs_no_hub(server, client):
    first = client.fetch("org/Small-1.5B")
    asked = len(server.asked)
    assert client.fetch("org/Small-1.5B", HF_HUB_OFFLINE="1") == first
    assert len(server.asked) == asked
    assert client.fetch("org/Small-1.5B", HF_ENDPOINT="http://127.0.0.1:1") == first


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set; put its files into a folder and name that, or unset"),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, "the hub at http://127.0.0.1:1 could not be asked"),
    ],
)
def test_without_hub_and_cache_it_says_what_was_tried_and_both_ways_on(client, more, told):
    found = client.fetch("org/Small-1.5B", **more)
    assert found["error"] == "SetupError"
    assert told in found["told"]
    assert str(client.folder / "hf") in found["told"]


def test_what_the_hub_does_not_have_is_an_error_of_the_recipe(server, client):
    for model, told in (
        ("org/other", "the hub shows no such repository"),
        ("org/Small-1.5B@v2", "has no revision v2"),
        ("org/pickled", "no .safetensors file"),
    ):
        found = client.fetch(model)
        assert found["error"] == "RecipeError", found
        assert model in found["told"]
        assert told in found["told"]
    assert "pytorch_model.bin" not in server.fetched()


def test_a_gated_model_says_what_to_do(server, client):
    server.gated.add("org/Small-1.5B")
    found = client.fetch("org/Small-1.5B")
    assert found["error"] == "SetupError", found
    assert "agree on its page" in found["told"]


def test_two_processes_at_once_fetch_once(server, client):
    started = [client.start("org/Small-1.5B") for _ in range(2)]
    one, two = (answer(process) for process in started)
    assert one == two
    assert one["files"].keys() == set(READ)
    assert server.fetched() == READ


def test_a_damaged_cache_is_named_instead_of_used(client):
    client.fetch("org/Small-1.5B")
    shutil.rmtree(client.folder / "cache")
    (weights,) = (client.folder / "hf").rglob("snapshots/*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[17] ^= 1
    weights.resolve().write_bytes(content)
    found = client.fetch("org/Small-1.5B", HF_HUB_OFFLINE="1")
    assert found["error"] == "SetupError"
    assert "its checksum differs" in found["told"]
    assert not list((client.folder / "cache").rglob("*.safetensors"))


def test_what_another_program_put_into_the_cache_changes_no_fingerprint(client):
    first = client.fetch("org/Small-1.5B")
    (config,) = (client.folder / "hf").rglob("snapshots/*/config.json")
    (config.parent / "pytorch_model.bin").write_bytes(b"pickle")
    assert client.fetch("org/Small-1.5B", HF_HUB_OFFLINE="1") == first


def test_a_name_is_an_id_only_where_no_path_can_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_id("Qwen/Qwen2.5-0.5B") == ("Qwen/Qwen2.5-0.5B", None)
    assert hub_id("org/name@refs/pr/1") == ("org/name", "refs/pr/1")
    assert hub_id("hf://models/some.bin@v1") == ("models/some.bin", "v1")
    for path in ("models/some.bin", "./org/name", "/org/name", "name", "org/name/more", "s3://org/name", "../a/b"):
        assert hub_id(path) is None, path
    (tmp_path / "models").mkdir()
    assert hub_id("models/classifier") is None
    for wrong in ("hf://name", "hf://org/name/more", "hf://org/name@"):
        with pytest.raises(RecipeError, match="is no name of the hub"):
            hub_id(wrong)
    assert commit_of("models/classifier") is None


def test_a_run_names_the_commit_in_its_manifest_and_goes_on_offline(server, client, tmp_path):
    from tiny_models import tokenizer

    server.repos["org/tokens"] = {"tokenizer.json": Path(tokenizer()).read_bytes(), "model.safetensors": b"x" * 5000}
    corpus = runs.write_corpus(tmp_path / "in", shards=1, documents=30)
    stages = [{"use": "token_count", "tokenizer": "org/tokens"}]
    recipe = runs.write_recipe(tmp_path / "r.yaml", corpus, tmp_path / "out", stages=stages)
    command = [sys.executable, "-m", "tamis.pipeline.cli", "run", str(recipe), "--executor", "inline"]
    done = subprocess.run(command, env=client.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["hub_commits"] == {"token_count": {"org/tokens": local_hub.COMMIT}}
    assert server.fetched() == ["tokenizer.json"], "weights are nothing that a count of tokens reads"
    again = subprocess.run(command, env=client.environment | {"HF_HUB_OFFLINE": "1"}, capture_output=True, check=False)
    assert again.returncode == 0


def test_a_stage_that_reads_files_alone_takes_no_hub_id(tmp_path):
    from tamis.pipeline.planning import plan_recipe
    from tamis.pipeline.recipe import load_recipe

    corpus = runs.write_corpus(tmp_path / "in", shards=1, documents=3)
    stages = [{"use": "fasttext", "model": "hf://org/name", "label": "hq"}]
    recipe = runs.write_recipe(tmp_path / "r.yaml", corpus, tmp_path / "out", stages=stages)
    with pytest.raises(RecipeError, match="reads no models of the hub"):
        plan_recipe(load_recipe(recipe))
