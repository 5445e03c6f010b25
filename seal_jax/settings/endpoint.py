"""An OpenAI-compatible endpoint: where it is, and how it is asked."""

import dataclasses
import re
import urllib.parse

_PATH = "/chat/completions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """An OpenAI-compatible endpoint and how it is asked.

    Attributes:
      base_url: what "/chat/completions" is appended to, e.g. "https://api.openai.com/v1" or
        "http://localhost:8000/v1"; "" is no endpoint.
      model: the model's name there.
      api_key_env: the environment variable that holds the key; without one none is sent. What is
        in OPENAI_API_KEY goes to OpenAI's and Azure's hosts alone.
      concurrency: requests at once, at most.
      timeout: seconds that one request may take in all.
      attempts: how often a prompt is tried, the first time included.
      max_tokens: length limit of a completion; 0 leaves it to the endpoint.
      temperature: of the sampling; below 0 leaves it to the endpoint (some models take no other).
      cache_dir: folder of the completions that are kept; "" keeps none.
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 60.0
    attempts: int = 5
    max_tokens: int = 1024
    temperature: float = 0.0
    cache_dir: str = ""

    def __post_init__(self):
        for name, least in (("concurrency", 1), ("attempts", 1), ("max_tokens", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout must be a number of seconds above 0, not {self.timeout}.")
        if not self.temperature < float("inf"):
            raise ValueError(f"temperature must be a number, not {self.temperature}.")
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env, re.ASCII):
            raise ValueError(  # it may be the key: not repeated
                "api_key_env must be the name of an environment variable, such as OPENAI_API_KEY, "
                "not the key itself: export the key under a name, and give that."
            )
        if self.base_url:
            _check_url(self.base_url)

    @property
    def url(self) -> str:
        """Where requests go."""
        return self.base_url.rstrip("/") + _PATH


def _check_url(url: str) -> None:
    """Refuses what no endpoint's base URL looks like."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or any(c.isspace() for c in url):
        raise ValueError(
            "base_url must look like 'https://api.openai.com/v1' or 'http://localhost:8000/v1', "
            f"not {url!r}."
        )
    if parts.username or parts.password:
        raise ValueError(
            "base_url must not hold a user's name or password: give the key through api_key_env."
        )
    if url.rstrip("/").endswith(_PATH):
        raise ValueError(f"base_url must end before {_PATH!r}, which is appended: not {url!r}.")
