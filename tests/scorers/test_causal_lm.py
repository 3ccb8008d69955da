"""Numbers equal what the model itself gives for each document alone; windows, batches, packing and memory change nothing."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tamis.scorers.causal_lm as module
from tamis.scorers.base import BrokenDeviceError, ModelError, NoDeviceError
from tamis.scorers.causal_lm import CausalLM

from ..tiny_models import TEXTS, causal_lm

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TOLERANCE = 1e-4  # relative, of a total nll in float32
SETTINGS = {"cohere": {"logit_scale": 0.25}, "granite": {"logits_scaling": 4.0}}
draw = random.Random(3)
SHORT = [*TEXTS[:5], "x", "", "cat dog", *(" ".join(draw.choices(TEXTS[0].split(), k=k)) for k in (3, 9, 14, 17))]
LONG = [*SHORT, "the cat sat " * 60, TEXTS[3] * 5]


def array(texts):
    return pa.array(texts, pa.large_string())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """By family: the folder of a tiny model that reads 128 tokens, and transformers' own view of it; made when asked for."""
    held = {}

    def get(family):
        if family not in held:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            path = tmp_path_factory.mktemp("models") / family
            settings: dict[str, Any] = SETTINGS.get(family, {})
            causal_lm(path, family, positions=128, **settings)
            model = AutoModelForCausalLM.from_pretrained(path).eval()
            held[family] = SimpleNamespace(path=path, model=model, tokenizer=AutoTokenizer.from_pretrained(path))
        return held[family]

    return get


def measured(scorer, texts, *, moments=True, rank=True) -> Any:
    return scorer.measure(scorer.tokenise(array(texts)), moments=moments, rank=rank)


def ids_of(made, text):
    return made.tokenizer(text, add_special_tokens=False)["input_ids"]


def own_nll(made, text):
    """The model's own loss over one document behind its start token, times the tokens that it predicted."""
    ids = torch.tensor([[made.tokenizer.bos_token_id, *ids_of(made, text)]])
    with torch.inference_mode():
        return float(made.model(ids, labels=ids).loss) * (ids.shape[1] - 1)


def full_logits(model, sequence, window, stride):
    """float64 logits of every prediction of a sequence, by a plain loop over the windows as they are defined."""
    found, done, predictions = [], 0, len(sequence) - 1
    while done < predictions:
        end = min(window if done == 0 else done + stride, predictions)
        first = max(0, end - window)
        with torch.inference_mode():
            logits = model(torch.tensor([sequence[first:end]])).logits[0]
        found.append(logits[done - first :].double())
        done = end
    return torch.cat(found)


def statistics(logits, targets):
    logs = logits.log_softmax(-1)
    own = logs.gather(1, targets[:, None])[:, 0]
    mean = (logs.exp() * logs).sum(-1)
    variance = (logs.exp() * (logs - mean[:, None]) ** 2).sum(-1)
    return own, mean, variance, 1 + (logits > logits.gather(1, targets[:, None])).sum(-1)


# --- the numbers


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gemma2", "cohere", "granite", "mamba"])
def test_total_nll_is_the_models_own_loss_batched_and_packed(models, family):
    made = models(family)
    scorer = CausalLM.load(made.path)
    assert scorer.note is None
    assert scorer._loaded.network.packs() is (family != "mamba")
    wanted = [own_nll(made, text) if text else np.nan for text in SHORT]
    assert np.nanstd([w / max(1, len(ids_of(made, text))) for w, text in zip(wanted, SHORT)]) > 0.01
    for packed in {False, family != "mamba"}:
        for batch_tokens in (1, 40, 10_000):
            scorer._packed, scorer._batch_tokens = packed, batch_tokens
            table = scorer.score(array(SHORT))
            np.testing.assert_allclose(table["nll"].to_numpy(), wanted, rtol=TOLERANCE)
    sizes = [len(ids_of(made, text)) for text in SHORT]
    assert table["n_tokens"].to_pylist() == table["n_scored"].to_pylist() == sizes
    assert table["nll"][SHORT.index("")].as_py() is None
    at = SHORT.index("x")
    assert table["ppl"][at].as_py() == pytest.approx(np.exp(wanted[at]), rel=TOLERANCE)  # one token


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("window", "stride"), [(16, 8), (16, 16), (24, 5), (128, None)])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_windowed_statistics_are_those_of_a_plain_loop_over_full_logits(models, family, window, stride, packed):
    made = models(family)
    scorer = CausalLM.load(made.path, window=window, stride=stride, batch_tokens=300)
    scorer._packed = packed
    table = measured(scorer, LONG)
    same = []
    for d, text in enumerate(LONG):
        sequence = [made.tokenizer.bos_token_id, *ids_of(made, text)]
        part = slice(table.offsets[d], table.offsets[d + 1])
        assert part.stop - part.start == len(sequence) - 1
        if text:
            logits = full_logits(made.model, sequence, window, stride or window // 2)
            own, mean, variance, rank = statistics(logits, torch.tensor(sequence[1:]))
            assert float(table.logprob[part].sum()) == pytest.approx(float(own.sum()), rel=TOLERANCE)
            np.testing.assert_allclose(table.logprob[part], own, atol=1e-4)
            np.testing.assert_allclose(table.mean[part], mean, rtol=1e-4)
            np.testing.assert_allclose(table.variance[part], variance, rtol=1e-3)
            same += (table.rank[part] - rank.numpy()).tolist()
    assert np.abs(same).max() <= 1  # logits as good as equal may change places
    assert same.count(0) > 0.95 * len(same)


def test_order_and_company_change_nothing_beyond_rounding(models):
    scorer = CausalLM.load(models("qwen2").path, window=32)
    together = scorer.score(array(LONG))["nll"].to_numpy()
    order = list(range(len(LONG)))
    random.Random(1).shuffle(order)
    shuffled = scorer.score(array([LONG[i] for i in order]))["nll"].to_numpy()
    np.testing.assert_allclose(shuffled, together[order], rtol=TOLERANCE)
    alone = [scorer.score(array([text]))["nll"][0].as_py() for text in LONG]
    np.testing.assert_allclose(np.array(alone, float), together, rtol=TOLERANCE)


def test_an_observer_gives_cross_moments_over_the_rows_that_both_have(models, tmp_path):
    made = models("llama")
    path = causal_lm(tmp_path / "observer", "gpt2", positions=128, seed=5, padding=40)
    from transformers import AutoModelForCausalLM

    observer = AutoModelForCausalLM.from_pretrained(path).eval()
    scorer = CausalLM.load(made.path, observer=path, window=16, batch_tokens=100)
    for packed in (False, True):
        scorer._packed = packed
        table = measured(scorer, LONG[-3:], moments=False, rank=False)
        assert table.mean is table.variance is table.rank is None
        for d, text in enumerate(LONG[-3:]):
            sequence = [made.tokenizer.bos_token_id, *ids_of(made, text)]
            mine = full_logits(made.model, sequence, 16, 8)
            its = full_logits(observer, sequence, 16, 8)[:, : mine.shape[1]]
            logs, weights = mine.log_softmax(-1), its.softmax(-1)
            cross = (weights * logs).sum(-1)
            spread = (weights * (logs - cross[:, None]) ** 2).sum(-1)
            part = slice(table.offsets[d], table.offsets[d + 1])
            np.testing.assert_allclose(table.cross_mean[part], cross, rtol=1e-4)
            np.testing.assert_allclose(table.cross_variance[part], spread, rtol=1e-3)


def test_no_documents_give_empty_tables(models):
    scorer = CausalLM.load(models("llama").path)
    for texts in ([], ["", ""]):
        table = measured(scorer, texts)
        assert table.offsets.tolist() == [0] * (len(texts) + 1)
        assert len(table.logprob) == len(table.mean) == len(table.rank) == 0
        assert scorer.score(array(texts))["nll"].null_count == len(texts)


# --- tokens


def test_start_token_is_bos_else_eos_else_what_the_caller_says(models, tmp_path):
    made = models("llama")
    known = made.tokenizer.get_vocab()
    assert CausalLM.load(made.path).start == known["<s>"]
    assert CausalLM.load(made.path, start_token="</s>").start == known["</s>"]
    assert CausalLM.load(made.path, start_token="he").start == ids_of(made, "he")[0]
    with pytest.raises(ModelError, match=r"'two words' is \d+ tokens"):
        CausalLM.load(made.path, start_token="two words")
    for kind, message in (("eos", None), ("none", "neither bos nor eos")):
        path = shutil.copytree(made.path, tmp_path / kind)
        settings = json.loads((path / "tokenizer_config.json").read_text())
        gone = ("bos_token",) if kind == "eos" else ("bos_token", "eos_token")
        (path / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if k not in gone}))
        if message is None:
            assert CausalLM.load(path).start == known["</s>"]
        else:
            with pytest.raises(ModelError, match=message):
                CausalLM.load(path)
            assert CausalLM.load(path, start_token="none").start is None


def test_without_a_start_token_the_first_token_is_not_scored(models):
    made = models("llama")
    scorer = CausalLM.load(made.path, start_token="none", window=16)
    table = measured(scorer, LONG, moments=False, rank=False)
    for d, text in enumerate(LONG):
        ids = ids_of(made, text)
        part = table.logprob[table.offsets[d] : table.offsets[d + 1]]
        assert len(part) == max(0, len(ids) - 1)
        if len(ids) > 1:
            own = statistics(full_logits(made.model, ids, 16, 8), torch.tensor(ids[1:]))[0]
            np.testing.assert_allclose(part, own, atol=1e-4)
    scores = scorer.score(array(["x"]))
    assert (scores["n_tokens"][0].as_py(), scores["n_scored"][0].as_py(), scores["nll"][0].as_py()) == (1, 0, None)


def test_text_that_looks_like_a_special_token_is_text(models):
    made = models("llama")
    scorer = CausalLM.load(made.path)
    text = "end</s><s>begin"
    tokens = scorer.tokenise(array([text, "</s>"]))
    pieces = made.tokenizer.convert_ids_to_tokens(tokens.ids[: tokens.offsets[1]])
    assert "".join(pieces) == text
    assert not {made.tokenizer.bos_token_id, made.tokenizer.eos_token_id} & set(tokens.ids.tolist())
    assert scorer.score(array(["</s>"]))["n_scored"][0].as_py() == len("</s>")


def test_texts_tokenised_in_runs_and_slices_are_the_same_tokens(models, monkeypatch):
    made = models("llama")
    texts = [*LONG, "cat " * 900, "", "nospaceatall" * 60]
    scorer = CausalLM.load(made.path)
    whole = scorer.tokenise(array(texts))
    assert whole.ids.dtype == np.int32
    assert [whole.ids[a:b].tolist() for a, b in zip(whole.offsets, whole.offsets[1:])] == [
        ids_of(made, text) for text in texts
    ]
    monkeypatch.setattr(module, "RUN", 300)
    monkeypatch.setattr(module, "SLICE", 800)
    parts = scorer.tokenise(array(texts))
    assert parts.ids.tolist() == whole.ids.tolist()
    assert parts.offsets.tolist() == whole.offsets.tolist()


# --- architectures that need care

ODD = """
from transformers import LlamaConfig, LlamaForCausalLM

class OddConfig(LlamaConfig):
    model_type = "odd"

class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.logits = found.logits * 0.6 + 0.3
        return found
"""


def test_a_head_that_cannot_be_read_is_replaced_by_the_models_own_logits(models, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "code"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = models("llama")
    path = shutil.copytree(made.path, tmp_path / "odd")
    (path / "odd.py").write_text(ODD)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "odd", "architectures": ["OddForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="remote_code: true"):
        CausalLM.load(path)
    scorer = CausalLM.load(path, remote_code=True, window=16, observer=made.path, batch_tokens=100)
    assert "OddForCausalLM makes its logits in a way that is not known" in (scorer.note or "")
    monkeypatch.setattr("tamis.scorers.lm_network._LOGITS", 2 * 16 * 401)
    monkeypatch.setattr("tamis.scorers.lm_network._ROWS", 7)
    scorer._packed = True  # such a model is not packed, whatever is asked for
    table = measured(scorer, LONG)
    for d, text in enumerate(LONG):
        if text:
            sequence = [made.tokenizer.bos_token_id, *ids_of(made, text)]
            plain = full_logits(made.model, sequence, 16, 8)
            own, mean, variance, rank = statistics(plain * 0.6 + 0.3, torch.tensor(sequence[1:]))
            part = slice(table.offsets[d], table.offsets[d + 1])
            np.testing.assert_allclose(table.logprob[part], own, atol=1e-4)
            np.testing.assert_allclose(table.mean[part], mean, rtol=1e-4)
            np.testing.assert_allclose(table.variance[part], variance, rtol=1e-3)
            assert (table.rank[part] == rank.numpy()).mean() > 0.95
            logs = (plain * 0.6 + 0.3).log_softmax(-1)
            np.testing.assert_allclose(table.cross_mean[part], (plain.softmax(-1) * logs).sum(-1), rtol=1e-4)


def test_a_model_that_looks_ahead_is_refused(models, tmp_path):
    from transformers import BertConfig, BertLMHeadModel

    path = shutil.copytree(models("llama").path, tmp_path / "bert")
    torch.manual_seed(0)
    size: dict[str, Any] = {"vocab_size": 401, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    BertLMHeadModel(BertConfig(**size, intermediate_size=32, pad_token_id=None)).save_pretrained(path)
    with pytest.raises(ModelError, match="looks ahead"):
        CausalLM.load(path)


def test_numbers_that_overflow_are_null_and_no_error(models, tmp_path):
    from safetensors.torch import load_file, save_file

    path = shutil.copytree(models("llama").path, tmp_path / "model")
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"].fill_(5e4)
    weights["lm_head.weight"] *= 1e4
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    assert CausalLM.load(path).score(array(["cat dog"]))["nll"].null_count == 0  # float32 holds them
    assert CausalLM.load(path, dtype="float16").score(array(["cat dog", ""]))["nll"].null_count == 2


# --- what is refused


def test_window_and_stride_stay_within_what_the_model_reads(models):
    path = models("llama").path
    scorer = CausalLM.load(path)
    assert (scorer.window, scorer.stride) == (128, 64)
    assert CausalLM.load(path, window=1).stride == 1
    with pytest.raises(ModelError, match="window: 129 tokens; the model reads from 1 to 128"):
        CausalLM.load(path, window=129)
    for stride in (0, 17):
        with pytest.raises(ModelError, match=f"stride: {stride}; from 1 to the window's 16"):
            CausalLM.load(path, window=16, stride=stride)


def test_missing_or_broken_weights_are_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file

    path = shutil.copytree(models("llama").path, tmp_path / "model")
    weights = load_file(path / "model.safetensors")
    gone = weights.pop("model.norm.weight")
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the weights lack model\.norm\.weight"):
        CausalLM.load(path)
    save_file(
        {**weights, "model.norm.weight": gone * float("nan")}, path / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(ModelError, match="NaN"):
        CausalLM.load(path)
    shutil.rmtree(path)
    with pytest.raises(ModelError, match="no such folder"):
        CausalLM.load(path)


def test_a_tokenizer_that_makes_unknown_tokens_is_refused(models, tmp_path):
    """Where tokenizer.json does not say it: the model has fewer rows than config.json."""
    made = models("llama")
    scorer = CausalLM.load(made.path)
    rows = SimpleNamespace(weight=torch.zeros(60, 1))
    network: Any = SimpleNamespace(model=SimpleNamespace(get_input_embeddings=lambda: rows), note=None)
    scorer._loaded = module._Loaded(network, None, made.tokenizer, packed=False)
    with pytest.raises(ModelError, match="the model has 60: they do not belong together"):
        scorer.tokenise(array(["xyz"]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_cuda_is_refused(models):
    with pytest.raises(NoDeviceError):
        CausalLM.load(models("llama").path, device="cuda")


# --- devices that fail


def test_threads_that_ask_at_once_get_one_model(models):
    """As in the pipeline, where one tokenises while another measures."""
    path = models("gpt2").path
    module._load.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        scorers = list(pool.map(lambda _: CausalLM.load(path), range(4)))
    assert len({id(scorer._loaded) for scorer in scorers}) == 1


def test_a_failing_gpu_is_told_apart_from_a_mistake(models, monkeypatch):
    """The one thing that cannot be run here: what CUDA's errors look like."""
    scorer = CausalLM.load(models("llama").path)
    tokens = scorer.tokenise(array(["cat"]))
    for error, kind in [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore"), BrokenDeviceError),
        (RuntimeError("shapes do not fit"), RuntimeError),
    ]:

        def fail(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr("tamis.scorers.lm_network.statistics", fail)
        with pytest.raises(kind) as caught:
            scorer.measure(tokens, moments=False, rank=False)
        assert type(caught.value) is kind


LITTLE_MEMORY = """
import json, resource, sys
import numpy as np, pyarrow as pa
from tamis.scorers.base import ModelError
from tamis.scorers.causal_lm import CausalLM

path, spare, window, count = sys.argv[1], *map(int, sys.argv[2:])
scorer = CausalLM.load(path, window=window, batch_tokens=1024)
text = "the cat sat on the mat " * (window // 5)
tokens = scorer.tokenise(pa.array([f"{i} {text}" for i in range(count)], pa.large_string()))
enough = scorer.measure(tokens, moments=False, rank=False) if count > 1 else None
scorer._batch_tokens = 1 << 16
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
little = message = None
try:
    little = scorer.measure(tokens, moments=False, rank=False)
except ModelError as error:
    message = str(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
difference = float(np.abs(little.logprob - enough.logprob).max()) if little and enough else None
print(json.dumps([difference, scorer._loaded.limit, message]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_where_memory_runs_out_batches_shrink_and_the_numbers_stay(tmp_path):
    path = causal_lm(tmp_path / "wide", positions=4096, hidden_size=64, intermediate_size=4096)

    def run(*numbers):
        command = [sys.executable, "-c", LITTLE_MEMORY, str(path), *map(str, numbers)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(found.stdout)

    difference, limit, message = run(100 << 20, 512, 12)  # a full batch takes 200 MB in one layer
    assert message is None
    assert limit is not None
    assert 512 <= limit < 1 << 16
    assert difference < 1e-4
    difference, limit, message = run(20 << 20, 4096, 1)  # one window takes 64 MB
    assert re.match(r"a window of 4,096 tokens does not fit .*: lower `window`", message)
