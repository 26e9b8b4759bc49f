"""Who provides a model, where its name says so."""

from __future__ import annotations

# The names in front of a slash that routers of models use, and what OpenTelemetry calls whom they mean.
_PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "groq": "groq",
    "mistral": "mistral_ai",
    "openai": "openai",
    "perplexity": "perplexity",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_KNOWN = {**_PROVIDERS, **{name: name for name in _PROVIDERS.values()}}


def provider_of(model: str) -> tuple[str | None, str]:
    """Return who provides *model*, and what it is called there. A bare name tells nobody: several may provide it.

    >>> provider_of("anthropic/claude-1"), provider_of("mistral/large"), provider_of("gpt-1"), provider_of("org/model")
    (('anthropic', 'claude-1'), ('mistral_ai', 'large'), (None, 'gpt-1'), (None, 'org/model'))
    """
    provider, _, rest = model.partition("/")
    known = _KNOWN.get(provider)
    return (None, model) if known is None or not rest else (known, rest)
