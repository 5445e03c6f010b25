"""An OpenAI-compatible endpoint: where it is, and how it is asked."""

import dataclasses
import re
import urllib.parse

from seal_jax.settings.checks import Checked, Count, Limit, Place, Positive, require

_PATH = "/chat/completions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointSettings(Checked):
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
    concurrency: Count = 8
    timeout: Positive = 60.0
    attempts: Count = 5
    max_tokens: Limit = 1024
    temperature: float = 0.0
    cache_dir: Place = ""

    def validate(self):
        require(
            self.temperature < float("inf"),
            f"temperature must be a number, not {self.temperature}.",
        )
        require(  # it may be the key: not repeated
            bool(re.fullmatch(r"([A-Za-z_]\w*)?", self.api_key_env, re.ASCII)),
            "api_key_env must be the name of an environment variable, such as OPENAI_API_KEY, not "
            "the key itself: export the key under a name, and give that.",
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
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    require(
        usable and not (parts.query or parts.fragment or any(c.isspace() for c in url)),
        "base_url must look like 'https://api.openai.com/v1' or 'http://localhost:8000/v1', "
        f"not {url!r}.",
    )
    require(
        not (parts.username or parts.password),
        "base_url must not hold a user's name or password: give the key through api_key_env.",
    )
    require(
        not url.rstrip("/").endswith(_PATH),
        f"base_url must end before {_PATH!r}, which is appended: not {url!r}.",
    )
