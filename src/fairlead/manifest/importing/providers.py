"""Providers that speak the OpenAI API, by the names that other gateways have for them."""

from __future__ import annotations

from typing import NamedTuple


class Provider(NamedTuple):
    """Where a provider is reached.

    Attributes:
        base_url: Where, if the file does not say; empty when it must.
        key: Environment variable with its key, if the file does not say; empty for none.
        path: What is added to an address without a path of its own.
    """

    base_url: str = ""
    key: str = ""
    path: str = ""


AZURE = "azure"
_OPENAI = Provider("https://api.openai.com/v1", "OPENAI_API_KEY")
_DEEPSEEK = Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY")
_GROQ = Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY")
_MISTRAL = Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY")
_OPENROUTER = Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY")
_XAI = Provider("https://api.x.ai/v1", "XAI_API_KEY")
_OLLAMA = Provider("http://127.0.0.1:11434/v1", path="/v1")

LITELLM: dict[str, Provider] = {
    "openai": _OPENAI,
    "text-completion-openai": _OPENAI,
    "azure": Provider(key="AZURE_API_KEY"),
    "hosted_vllm": Provider(),
    "openai_like": Provider(),
    "custom_openai": Provider(),
    "litellm_proxy": Provider(),
    "lm_studio": Provider(),
    "xinference": Provider(),
    "llamafile": Provider("http://127.0.0.1:8080/v1"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "deepseek": _DEEPSEEK,
    "groq": _GROQ,
    "mistral": _MISTRAL,
    "openrouter": _OPENROUTER,
    "xai": _XAI,
    "together_ai": Provider("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
}

TENSORZERO: dict[str, Provider] = {
    "openai": _OPENAI,
    "azure": Provider(key="AZURE_API_KEY"),
    "vllm": Provider(key="VLLM_API_KEY"),
    "sglang": Provider(key="SGLANG_API_KEY"),
    "tgi": Provider(key="TGI_API_KEY"),
    "deepseek": _DEEPSEEK,
    "groq": _GROQ,
    "mistral": _MISTRAL,
    "openrouter": _OPENROUTER,
    "xai": _XAI,
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "hyperbolic": Provider("https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
}

DEFAULT_KEYS = frozenset(
    provider.key for table in (LITELLM, TENSORZERO) for provider in table.values()
)
