"""Other gateways' files become gateway files that load; what is lost is listed, line by line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import ManifestError
from fairlead.manifest.gateway_file import parse_gateway_file
from fairlead.manifest.importing import Imported, Kind, import_gateway_file
from fairlead.manifest.importing.draft import as_yaml
from fairlead.manifest.importing.section import Losses
from fairlead.manifest.importing.tensorzero import read_tensorzero
from fairlead.manifest.importing.toml_lines import toml_lines

FILES = Path(__file__).parent / "importing"
DIGEST = "12" * 32


def imported(kind: Kind, path: Path) -> Imported:
    return import_gateway_file(kind, path, lambda: DIGEST)


def written(kind: Kind, text: str, tmp_path: Path) -> Imported:
    path = tmp_path / "theirs"
    path.write_text(text)
    return imported(kind, path)


def lost(made: Imported) -> list[tuple[int, str]]:
    return [(loss.line, loss.what) for loss in made.losses]


def releases(made: Imported) -> dict[str, Any]:
    document = yaml.safe_load(made.text)
    return {service["name"]: service["releases"] for service in document["services"]}


def test_a_litellm_config_is_carried_over() -> None:
    made = imported("litellm", FILES / "litellm.yaml")
    document = yaml.safe_load(made.text)
    assert document["listen"] == "127.0.0.1:4000"
    assert document["keys"] == [{"name": "imported", "sha256": DIGEST}]
    assert made.wants_key
    found = releases(made)
    assert list(found) == ["gpt-4o", "llama", "mini", "local", "embed", "gpt-4"]
    assert found["gpt-4o"] == [
        {
            "name": "gpt-4o-eu", "weight": 60, "model": "gpt-4o-eu",
            "url": "https://team-eu.openai.azure.com/openai/v1", "api_key_env": "AZURE_KEY_EU",
        },
        {
            "name": "gpt-4o-ca", "weight": 20, "model": "gpt-4o-ca",
            "url": "https://team-ca.openai.azure.com/openai/v1", "api_key_env": "GPT_4O_API_KEY",
        },
    ]  # fmt: skip
    assert found["gpt-4"] == found["gpt-4o"]
    assert found["llama"] == [
        {
            "name": "meta-llama-Llama-3.1-8B-Instruct", "slots": 64,
            "replicas": ["http://10.0.0.5:8000/v1", "http://10.0.0.6:8000"],
            "model": "meta-llama/Llama-3.1-8B-Instruct", "engine": "vllm",
            "sampling": {"temperature": 0.2},
        }
    ]  # fmt: skip
    assert found["local"][0]["url"] == "http://localhost:11434/v1"
    assert found["embed"][0]["api_key_env"] == "INTERNAL_KEY"
    limits = {service["name"]: service["limits"] for service in document["services"]}
    assert limits["gpt-4o"] == {
        "request_timeout_seconds": 30, "attempts": 3, "requests_per_minute": 80
    }  # fmt: skip
    assert limits["gpt-4"] == limits["gpt-4o"]
    assert limits["llama"] == {"request_timeout_seconds": 90, "attempts": 3}
    fallbacks = {service["name"]: service.get("fallbacks") for service in document["services"]}
    assert fallbacks["llama"] == ["gpt-4o"]
    assert {name for name, others in fallbacks.items() if others} == {"llama"}


def test_what_a_litellm_config_loses_is_listed_by_line() -> None:
    assert lost(imported("litellm", FILES / "litellm.yaml")) == [
        (7, "model_list[0].litellm_params.api_version"),
        (9, "model_list[0].litellm_params.rpm"),
        (14, "model_list[1].litellm_params.api_key"),
        (15, "model_list[1].litellm_params.rpm"),
        (16, "model_list[1].litellm_params.timeout"),
        (18, "model_list[1].model_info.base_model"),
        (29, "model_list[3].litellm_params.api_base"),
        (33, "model_list[4].litellm_params.api_key"),
        (34, "model_list[4].litellm_params.temperature"),
        (35, "model_list[4].litellm_params.extra_headers"),
        (36, "model_list[5]"),
        (40, "model_list[6]"),
        (48, "model_list[9]"),
        (49, "model_list[9].litellm_params.api_base"),
        (56, "router_settings.routing_strategy"),
        (57, "router_settings.model_group_alias.gpt-4"),
        (57, "router_settings.model_group_alias.old"),
        (61, "router_settings.redis_password"),
        (63, "litellm_settings.drop_params"),
        (64, "litellm_settings.success_callback"),
        (65, "litellm_settings.request_timeout"),
        (67, "general_settings.master_key"),
        (68, "general_settings.database_url"),
        (70, "environment_variables.LANGFUSE_SECRET_KEY"),
    ]


def test_a_tensorzero_config_is_carried_over() -> None:
    made = imported("tensorzero", FILES / "tensorzero.toml")
    document = yaml.safe_load(made.text)
    assert (document["listen"], document["keys"]) == ("127.0.0.1:3000", "none")
    assert not made.wants_key
    found = releases(made)
    assert list(found) == [
        "answer", "answer:small:azure", "answer:spare", "extract", "poet", "poet:x:azure", "chat",
        "chat:azure", "llama-3.1", "embed",
    ]  # fmt: skip
    assert found["answer"] == [
        {
            "name": "small", "weight": 0.9, "url": "https://api.openai.com/v1",
            "model": "gpt-4o-mini", "api_key_env": "OPENAI_API_KEY",
            "price": {"input_per_million": 2.5},
            "prompt": {"system": "Answer briefly."},
            "sampling": {"temperature": 0.3, "stop": ["END"]},
        },
        {
            "name": "own", "weight": 0.1, "model": "meta-llama/Llama-3.1-8B-Instruct",
            "replicas": ["http://10.0.0.5:8000/v1", "http://10.0.0.6:8000/v1"],
            "engine": "vllm", "sampling": {"max_tokens": 200},
        },
    ]  # fmt: skip
    assert [(r["name"], r["weight"]) for r in found["poet"]] == [("x", 3), ("y", 1)]
    assert found["extract"][0]["api_key_env"] == "GROQ_API_KEY"
    assert found["embed"][0]["api_key_env"] == "EMBED_API_KEY"
    answer, stands_in = document["services"][:2]
    assert answer["limits"] == {"request_timeout_seconds": 60, "attempts": 3}
    assert answer["fallbacks"] == ["answer:small:azure", "answer:spare"]
    assert stands_in["limits"] == answer["limits"]
    [release] = stands_in["releases"]
    assert (release["model"], release["prompt"]) == ("gpt4o-mini", {"system": "Answer briefly."})
    by_name = {service["name"]: service for service in document["services"]}
    assert by_name["llama-3.1"]["limits"] == {"request_timeout_seconds": 15}
    assert by_name["chat"]["fallbacks"] == ["chat:azure"]


def test_what_a_tensorzero_config_loses_is_listed_by_line() -> None:
    assert lost(imported("tensorzero", FILES / "tensorzero.toml")) == [
        (3, "gateway.bind_address"),
        (4, "gateway.debug"),
        (5, "gateway.observability"),
        *[(18, "models.chat.providers.azure")] * 3,
        (23, "models.chat.providers.bedrock"),
        (38, "models.llama-3.1.providers.b"),
        (42, "models.llama-3.1.providers.b.api_key_location"),
        (44, "models.claude"),
        (46, "models.claude.providers.anthropic"),
        (55, "embedding_models.embed.providers.openai.api_key_location"),
        (59, "functions.answer.system_schema"),
        (60, "functions.answer.tools"),
        (69, "functions.answer.variants.small.retries.max_delay_s"),
        (71, "functions.answer.variants.own"),
        (75, "functions.answer.variants.own.system_template"),
        (78, "functions.answer.variants.spare"),
        (82, "functions.answer.variants.best"),
        (87, "functions.extract.type"),
        (88, "functions.extract.output_schema"),
        (92, "functions.extract.variants.v1.json_mode"),
        (103, "functions.poet.variants.y"),
        (106, "functions.poet.variants.z"),
        (108, "functions.poet.variants.z.model"),
        (110, "tools.search"),
        (115, "metrics.good"),
    ]


LITELLM_LIMITS = """\
model_list:
- model_name: m
  litellm_params: {model: openai/a, rpm: 60, tpm: 9000, order: 1, max_budget: 10,
    budget_duration: 1d, input_cost_per_token: 0.000002, num_retries: 4, timeout: 20}
- model_name: m
  litellm_params: {model: openai/b, rpm: 30, order: 2, stream_timeout: 5}
  model_info: {input_cost_per_token: 0.000001, output_cost_per_token: 0.000004}
- {model_name: n, litellm_params: {model: openai/c, tpm: 5}}
- {model_name: n, litellm_params: {model: openai/d, rpm: 5}}
router_settings:
  routing_strategy: usage-based-routing-v2
  fallbacks: [{m: [n]}, {n: [gone]}]
  default_fallbacks: [m]
  content_policy_fallbacks: [{m: [n]}]
litellm_settings:
  max_budget: 100
  budget_duration: 30d
  default_key_generate_params: {max_budget: 5, budget_duration: 1d, tpm_limit: 700, models: [m]}
general_settings: {master_key: os.environ/M}
"""


def test_limits_budgets_prices_orders_and_fallbacks_of_litellm_are_carried_over(
    tmp_path: Path,
) -> None:
    made = written("litellm", LITELLM_LIMITS, tmp_path)
    document = yaml.safe_load(made.text)
    assert document["keys"][0]["limits"] == {
        "usd_per_month": 100, "usd_per_day": 5, "tokens_per_minute": 700
    }  # fmt: skip
    m, later, n = document["services"]
    assert (m["name"], later["name"], n["name"]) == ("m", "m:2", "n")
    assert m["fallbacks"] == ["m:2", "n"]
    assert n["fallbacks"] == ["m"]
    assert m["limits"] == {
        "request_timeout_seconds": 20, "attempts": 5, "requests_per_minute": 60,
        "tokens_per_minute": 9000, "usd_per_day": 10,
    }  # fmt: skip
    assert later["limits"] == {"requests_per_minute": 30}
    assert "limits" not in n
    assert m["releases"][0]["price"] == {"input_per_million": 2}
    assert later["releases"][0]["price"] == {"input_per_million": 1, "output_per_million": 4}
    assert [(loss.line, loss.what.rpartition(".")[2]) for loss in made.losses] == [
        (6, "order"), (6, "stream_timeout"), (8, "tpm"), (9, "rpm"), (11, "routing_strategy"),
        (12, "fallbacks[1]"),
        (14, "content_policy_fallbacks"), (16, "max_budget"), (16, "max_budget"),
        (18, "max_budget"), (18, "models"), (19, "master_key"),
    ]  # fmt: skip


TENSORZERO_LIMITS = """\
[gateway]
auth.enabled = true
[models.m]
routing = ["a", "b"]
timeouts = { non_streaming.total_ms = 30000, streaming.total_ms = 60000 }
[models.m.providers.a]
type = "vllm"
model_name = "x"
api_base = "http://10.0.0.5:8000/v1/"
api_key_location = "none"
timeouts = { non_streaming.total_ms = 10000, streaming.ttft_ms = 4000 }
cost = [
  { pointer = "/usage/prompt_tokens", cost_per_million = 1.5 },
  { pointer = "/usage/completion_tokens", cost_per_unit = 0.000002 },
]
[models.m.providers.b]
type = "openai"
model_name = "y"
[rate_limiting]
enabled = true
[[rate_limiting.rules]]
always = true
model_inferences_per_minute = 90
tokens_per_hour = 5
[[rate_limiting.rules]]
priority = 1
tokens_per_day = { capacity = 1000, refill_rate = 800 }
cost_per_month = 20
scope = [{ api_key_public_id = "tensorzero::each" }]
[[rate_limiting.rules]]
priority = 2
tokens_per_minute = 10
scope = [{ tag_key = "user_id", tag_value = "tensorzero::each" }]
"""


def test_rate_limits_times_prices_and_providers_of_tensorzero_are_carried_over(
    tmp_path: Path,
) -> None:
    made = written("tensorzero", TENSORZERO_LIMITS, tmp_path)
    document = yaml.safe_load(made.text)
    assert document["keys"][0]["limits"] == {
        "requests_per_minute": 90, "tokens_per_day": 800, "usd_per_month": 20
    }  # fmt: skip
    m, spare = document["services"]
    assert (m["fallbacks"], spare["name"]) == (["m:b"], "m:b")
    assert m["limits"] == {"request_timeout_seconds": 60, "attempt_timeout_seconds": 10}
    assert m["releases"][0]["price"] == {"input_per_million": 1.5, "output_per_million": 2}
    assert [(loss.line, loss.what) for loss in made.losses] == [
        (2, "gateway.auth.enabled"),
        (5, "models.m.timeouts"),
        (11, "models.m.providers.a.timeouts"),
        (16, "models.m.providers.b"),
        (19, "rate_limiting"),
        (24, "rate_limiting.rules[0].tokens_per_hour"),
        (27, "rate_limiting.rules[1].tokens_per_day"),
        (30, "rate_limiting.rules[2]"),
    ]


def test_limits_without_keys_hold_for_all(tmp_path: Path) -> None:
    text = TENSORZERO_LIMITS.replace("auth.enabled = true", "")
    document = yaml.safe_load(written("tensorzero", text, tmp_path).text)
    assert (document["keys"], document["limits"]) == ("none", {"requests_per_minute": 90})


@pytest.mark.parametrize(
    ("kind", "name"), [("litellm", "litellm.yaml"), ("tensorzero", "tensorzero.toml")]
)
def test_no_secret_is_copied_and_each_is_named(kind: Kind, name: str) -> None:
    made = imported(kind, FILES / name)
    assert "secret-0" not in made.text + str(made.losses)
    text = (FILES / name).read_text().splitlines()
    lines = {n for n, line in enumerate(text, 1) if "secret-0" in line}
    named = {loss.line for loss in made.losses if "in clear text" in loss.why}
    assert named == lines


def test_two_deployments_under_different_keys_are_replicas_each_with_its_own(
    tmp_path: Path,
) -> None:
    item = "- {{model_name: m, litellm_params: {{model: openai/x, api_key: os.environ/{}}}}}\n"
    made = written("litellm", "model_list:\n" + item.format("A") + item.format("B"), tmp_path)
    assert releases(made)["m"] == [
        {
            "name": "x",
            "replicas": [
                {"url": "https://api.openai.com/v1", "api_key_env": "A"},
                {"url": "https://api.openai.com/v1", "api_key_env": "B"},
            ],
            "model": "x",
        }
    ]
    assert made.losses == []
    assert yaml.safe_load(made.text)["keys"] == "none"


def test_a_secret_in_what_is_left_out_is_named_too(tmp_path: Path) -> None:
    text = (
        "model_list:\n- {model_name: a, litellm_params: {model: openai/x}}\n"
        "- model_name: b\n  litellm_params: {model: bedrock/x, aws_secret_access_key: very}\n"
    )
    [loss] = written("litellm", text, tmp_path).losses
    assert loss.line == 3
    assert "in clear text" in loss.why


def test_a_variable_for_a_secret_takes_no_name_that_stands_for_another(tmp_path: Path) -> None:
    text = (
        "model_list:\n- {model_name: openai, litellm_params: {model: openai/x, api_key: sk-1}}\n"
        "- {model_name: o2, litellm_params: {model: openai/y}}\n"
    )
    found = releases(written("litellm", text, tmp_path))
    assert found["openai"][0]["api_key_env"] == "OPENAI_API_KEY_2"
    assert found["o2"][0]["api_key_env"] == "OPENAI_API_KEY"


def test_a_key_is_left_out_where_it_would_go_unencrypted(tmp_path: Path) -> None:
    params = "{model: hosted_vllm/x, api_base: 'http://gpu:8000/v1', api_key: os.environ/K}"
    made = written(
        "litellm", f"model_list:\n- {{model_name: a, litellm_params: {params}}}\n", tmp_path
    )
    assert releases(made)["a"] == [{"name": "x", "replicas": ["http://gpu:8000/v1"], "model": "x"}]
    assert "unencrypted" in made.losses[0].why


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    text = "model_list:\n- {model_name: '1e3', litellm_params: {model: 'openai/0x10'}}\n"
    made = written("litellm", text, tmp_path)
    assert made.file.services[0].name == "1e3"
    assert made.file.services[0].releases[0].upstream_model == "0x10"


def test_a_template_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not yours")
    folder = tmp_path / "config"
    folder.mkdir()
    made = written(
        "tensorzero",
        "[functions.f]\n[functions.f.variants.v]\ntype = 'chat_completion'\n"
        "model = 'openai::x'\nsystem_template = '../secret'\n",
        folder,
    )
    assert "not yours" not in made.text
    assert lost(made) == [(5, "functions.f.variants.v.system_template")]


REFUSED: dict[str, tuple[Kind, str, str]] = {
    "no model list": ("litellm", "general_settings: {}\n", "there is no model_list"),
    "a list": ("litellm", "- a\n", "there is no model_list"),
    "an empty list": ("litellm", "model_list: []\n", "no service could be carried over"),
    "broken YAML": ("litellm", "model_list: [\n", "2: not valid YAML"),
    "nothing that could be carried over": (
        "litellm",
        "model_list:\n- {model_name: a, litellm_params: {model: bedrock/x}}\n",
        "2: model_list[0]: is not carried over: bedrock is not known to speak the OpenAI API",
    ),
    "deployments that are text": (
        "litellm", "model_list: [a, 1, {}]\n", "no service could be carried over"
    ),
    "broken TOML": ("tensorzero", "[gateway]\nx = \n", "2: not valid TOML"),
    "another TOML": ("tensorzero", "[project]\n", "there are no models and no functions"),
    "the other kind": ("tensorzero", "model_list:\n- a\n", "1: not valid TOML"),
    "tables that are text": ("tensorzero", "models = 1\nfunctions = 'x'\n", "no service"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_which_nothing_can_be_made_is_refused(name: str, tmp_path: Path) -> None:
    kind, text, message = REFUSED[name]
    with pytest.raises(ManifestError) as caught:
        written(kind, text, tmp_path)
    assert caught.value.message.startswith(str(tmp_path / "theirs"))
    assert message in caught.value.message


def test_toml_lines_are_those_of_the_statements() -> None:
    text = (
        'top = 1\n# [no]\n[a."b c"] # x\nk.l = [ # ]\n  1,\n]\n"q=1" = """\n[x]\n"""\n'
        "m = {n = 'a#', o = 2}\n\n[[list]]\nv = '''\n=\n'''\n[[list]]\nv = 2\n"
        '[list.sub]\nw = "\\""\n'
    )
    tomllib.loads(text)
    assert toml_lines(text) == {
        (): 1, ("top",): 1, ("a",): 3, ("a", "b c"): 3, ("a", "b c", "k"): 4,
        ("a", "b c", "k", "l"): 4, ("a", "b c", "q=1"): 7, ("a", "b c", "m"): 10,
        ("list",): 12, ("list", 0): 12, ("list", 0, "v"): 13, ("list", 1): 16,
        ("list", 1, "v"): 17, ("list", 1, "sub"): 18, ("list", 1, "sub", "w"): 19,
    }  # fmt: skip


JUNK = st.sampled_from(
    [None, True, -1, 0, 0.5, 1e300, float("inf"), float("nan"), "", "x", "a b", "http://", "*",
     "https://u:p@h", [], ["x"], [{}], {}, {"x": 1}, {"default": 3}, "openai/", "os.environ/",
     "azure/x", "env::", "::", "é"]
)  # fmt: skip


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    found = [path] if path else []
    for key, value in items:
        found += _places(value, (*path, key)) if isinstance(value, (dict, list)) else [(*path, key)]
    return found


LITELLM_DATA = yaml.safe_load((FILES / "litellm.yaml").read_text())
TENSORZERO_DATA = tomllib.loads((FILES / "tensorzero.toml").read_text())


def _with(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = _with(copy[path[0]], path[1:], value)
    return copy


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(_places(LITELLM_DATA)), JUNK)
def test_whatever_stands_in_a_litellm_config_it_is_carried_over_or_refused(
    tmp_path: Path, path: tuple[Any, ...], junk: Any
) -> None:
    message = ""
    try:
        written("litellm", yaml.safe_dump(_with(LITELLM_DATA, path, junk)), tmp_path)
    except ManifestError as error:
        message = error.message
    assert "gateway.yaml" not in message, "the output does not load"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_places(TENSORZERO_DATA)), JUNK)
def test_whatever_stands_in_a_tensorzero_config_it_is_carried_over_or_refused(
    path: tuple[Any, ...], junk: Any
) -> None:
    losses = Losses({})
    try:
        draft = read_tensorzero(_with(TENSORZERO_DATA, path, junk), losses, frozenset(), {})
    except ManifestError:
        return
    if draft.services:
        parse_gateway_file(as_yaml(draft.document(DIGEST)), Path("gateway.yaml"))
