"""What folders of language models say, read without torch, and which folders are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tamis.scorers.base import ModelError
from tamis.scorers.lm_files import check_pair, read_facts

from ..tiny_models import causal_lm

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return causal_lm(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def rewrite(file, **changes):
    found = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def test_facts_are_those_of_the_model(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    facts = read_facts(folder)
    assert facts.name == "tiny-llama"
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.parameters == sum(p.numel() for p in model.parameters())
    assert facts.vocabulary == model.get_input_embeddings().weight.shape[0]
    assert facts.tokens == len(AutoTokenizer.from_pretrained(folder))
    assert (facts.hidden, facts.layers, facts.positions) == (32, 2, 64)


def test_names_that_older_architectures_give_their_settings_are_known(tmp_path):
    facts = read_facts(causal_lm(tmp_path / "gpt", "gpt2", positions=48))
    assert (facts.architecture, facts.hidden, facts.layers, facts.positions) == ("GPT2LMHeadModel", 32, 2, 48)


def test_a_model_without_a_limit_has_none(copy):
    rewrite(copy / "config.json", max_position_embeddings=None)
    assert read_facts(copy).positions is None


def test_a_folder_named_by_a_hash_takes_the_name_that_was_saved_in_it(folder, tmp_path):
    cached = shutil.copytree(folder, tmp_path / ("ab12" * 10))
    rewrite(cached / "config.json", _name_or_path="someone/small-1b")
    assert read_facts(cached).name == "small-1b"
    tuned = shutil.copytree(cached, tmp_path / "small-1b-chat")
    assert read_facts(tuned).name == "small-1b-chat"


def test_sharded_weights_are_counted_over_all_files(folder, tmp_path):
    from transformers import AutoModelForCausalLM

    path = shutil.copytree(folder, tmp_path / "sharded")
    (path / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(path, max_shard_size="40KB")
    assert len(list(path.glob("model-*.safetensors"))) > 1
    assert read_facts(path).parameters == read_facts(folder).parameters
    next(path.glob("model-*.safetensors")).unlink()
    with pytest.raises(ModelError, match="is missing, one of"):
        read_facts(path)
    rewrite(path / "model.safetensors.index.json", weight_map={"x": "../../elsewhere.safetensors"})
    with pytest.raises(ModelError, match="files of the same folder"):
        read_facts(path)


@pytest.mark.parametrize("header", [b"", b"\xff" * 8 + b"{}", b"\x08\0\0\0\0\0\0\0[1, 2]  ", b"\x40\0\0\0\0\0\0\0{}"])
def test_a_broken_header_is_a_model_error(copy, header):
    (copy / "model.safetensors").write_bytes(header)
    with pytest.raises(ModelError, match="no safetensors file"):
        read_facts(copy)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*AutoModelForCausalLM.*save_pretrained"):
        read_facts(copy)


def test_code_of_the_folder_needs_a_word(copy):
    rewrite(copy / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Model"}, model_type="odd-one")
    with pytest.raises(ModelError, match="remote_code: true"):
        read_facts(copy)
    assert read_facts(copy, remote_code=True).layers == 2
    rewrite(copy / "config.json", model_type="llama")
    assert read_facts(copy).layers == 2, "transformers has its own"


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("BertForSequenceClassification", "ends in ForCausalLM"),
        ("LlavaForConditionalGeneration", "reads more than text"),
    ],
)
def test_models_that_are_no_causal_lm_are_refused(copy, architecture, message):
    rewrite(copy / "config.json", architectures=[architecture])
    with pytest.raises(ModelError, match=message):
        read_facts(copy)


def test_settings_that_are_no_numbers_are_refused(copy):
    rewrite(copy / "config.json", vocab_size="many")
    with pytest.raises(ModelError, match="vocab_size is 'many'"):
        read_facts(copy)
    rewrite(copy / "config.json", vocab_size=None)
    with pytest.raises(ModelError, match="no vocab_size"):
        read_facts(copy)


# --- tokenizers


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(copy):
    made = json.loads((copy / "tokenizer.json").read_text())
    made["added_tokens"].append({**made["added_tokens"][0], "id": 5_000, "content": "<more>"})
    (copy / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(ModelError, match=r"5,001 tokens and the model 401.*belong together"):
        read_facts(copy)


@pytest.mark.parametrize("kind", ["bos", "eos"])
def test_a_bos_or_eos_that_config_and_tokenizer_disagree_on_is_refused_unless_stated(copy, kind):
    said = json.loads((copy / "config.json").read_text())[f"{kind}_token_id"]
    rewrite(copy / "config.json", **{f"{kind}_token_id": 7})
    with pytest.raises(ModelError, match=rf"{kind} is .* \(token {said}\).* token 7 in config.json.*start_token: TEXT"):
        read_facts(copy)
    assert read_facts(copy, start_token="<s>").layers == 2
    rewrite(copy / "config.json", **{f"{kind}_token_id": [7, said]})
    assert read_facts(copy).layers == 2


def test_a_pair_needs_the_same_tokens_but_not_the_same_rows(folder, tmp_path):
    other = causal_lm(tmp_path / "other", "gpt2", padding=20)
    check_pair(read_facts(folder), read_facts(other), folder, other)
    renamed = causal_lm(tmp_path / "renamed", special=("<s>", "<end>"))
    with pytest.raises(ModelError, match=r"different tokenizers: token '</s>' is 397 in .*tiny-llama and missing in"):
        check_pair(read_facts(folder), read_facts(renamed), folder, renamed)
    (other / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json to compare"):
        check_pair(read_facts(folder), read_facts(folder), folder, other)


def test_reading_facts_imports_neither_torch_nor_transformers(folder):
    script = (
        "import sys; from tamis.scorers.lm_files import read_facts; read_facts(sys.argv[1]); "
        "print([name for name in ('torch', 'transformers', 'tokenizers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
