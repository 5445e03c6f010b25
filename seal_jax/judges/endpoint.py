"""Completions from any OpenAI-compatible chat endpoint: for judges and for teachers.

What can pass (a full server, a dropped connection, a reply that is no JSON) is tried again; what
cannot pass for any prompt (a refused key, a wrong address) stops everything at once; what is wrong
with one prompt is the reason of that prompt alone. Replies, waits and the time without any
completion are bounded.
"""

import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import random
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from seal_jax.judges import chat_reply
from seal_jax.judges.chat_reply import Completion, Problem
from seal_jax.judges.completion_cache import CacheError, CompletionCache
from seal_jax.settings.endpoint import EndpointSettings

_FORM = 1  # of requests and cache keys; another number asks everything anew
_FIRST_WAIT, _LONGEST_BACK_OFF = 0.5, 30.0  # seconds
_LONGEST_WAIT = 300.0  # seconds that an endpoint may ask us to wait; beyond it the prompt fails
# Seconds without a completion, or all attempts of one prompt; beyond them all other prompts fail.
_LONGEST_DROUGHT = 900.0
_MOST_BYTES = 8 << 20  # of a reply: a completion takes some thousand
_OPENAI, _OPENAI_HOSTS = "OPENAI_API_KEY", ("openai.com", "azure.com")


class EndpointError(RuntimeError):
    """No prompt can be completed; the message says which setting or variable to change."""


def complete(
    settings: EndpointSettings,
    prompts: Sequence[str],
    *,
    system: str = "",
    answers: Callable[[str], bool] = bool,
    report: Callable[[Completion], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Completion]:
    """Asks the endpoint to complete every prompt, each as a user's turn of its own.

    A prompt that comes n times is asked n times, and the cache tells the n samples apart.
    Failures are not cached.

    Args:
      settings: the endpoint.
      prompts: what it is asked.
      system: the system's turn before each prompt; "" for none.
      answers: whether a text is an answer; another is asked for again, and never cached.
      report: called with each completion as soon as it is there, in any order.
      sleep: waits for a number of seconds.

    Returns:
      A completion a prompt, in the order of the prompts.

    Raises:
      EndpointError: no prompt can be completed: settings are missing, the key is refused, nothing
        is at the address, or the account has no quota left. What was finished is in the cache.
    """
    if not settings.base_url or not settings.model:
        missing = "base_url" if not settings.base_url else "model"
        example = "https://api.openai.com/v1" if missing == "base_url" else "gpt-4.1"
        raise EndpointError(f"the endpoint's {missing} is not set: set it, e.g. to {example!r}.")
    texts, turn = [chat_reply.whole(prompt) for prompt in prompts], chat_reply.whole(system)
    folder = settings.cache_dir
    try:
        with CompletionCache(folder) if folder else contextlib.nullcontext() as cache:
            keys = _cache_keys(settings, turn, texts)
            return _Call(settings, texts, turn, keys, cache, answers, report, sleep).run()
    except CacheError as error:
        raise EndpointError(str(error)) from None


def cost(completions: Iterable[Completion]) -> dict[str, int]:
    """What completions took: how many there are, and requests and tokens that were paid for.

    The tokens of cached completions were paid for earlier and are not among them; nor are those of
    replies that could not be read, which the endpoint may have charged for.

    >>> cost([Completion("Yes", requests=2, prompt_tokens=90, completion_tokens=1),
    ...       Completion("No", cached=True, prompt_tokens=80, completion_tokens=1),
    ...       Completion(None, "status 400", requests=1)])
    {'completions': 3, 'cached': 1, 'failed': 1, 'requests': 3, 'prompt_tokens': 90, \
'completion_tokens': 1}
    """
    completions = list(completions)
    paid = [completion for completion in completions if not completion.cached]
    return {
        "completions": len(completions),
        "cached": len(completions) - len(paid),
        "failed": sum(completion.text is None for completion in completions),
        "requests": sum(completion.requests for completion in paid),
        "prompt_tokens": sum(completion.prompt_tokens for completion in paid),
        "completion_tokens": sum(completion.completion_tokens for completion in paid),
    }


class _Unreachable(Problem):
    """No connection was made: perhaps there is no endpoint at the address."""


@dataclasses.dataclass
class _Call:
    """One call of `complete`: what its requests share."""

    settings: EndpointSettings
    prompts: list[str]
    system: str
    keys: list[str]
    cache: CompletionCache | None
    answers: Callable[[str], bool]
    report: Callable[[Completion], None] | None
    sleep: Callable[[float], Awaitable[None]]
    done: dict[int, Completion] = dataclasses.field(default_factory=dict)
    jitter: random.Random = dataclasses.field(default_factory=random.Random)
    secret: str = dataclasses.field(default="", repr=False)
    answered: bool = False  # whether the endpoint has replied to anything
    resume_at: float = 0.0  # no request before then: the endpoint asked to wait
    limit: str = "max_tokens"  # what the endpoint calls it
    workers: int = 1
    drought: float = 0.0  # seconds since the last completion, of all workers together
    given_up: str = ""  # why nothing more is asked

    def run(self) -> list[Completion]:
        """All completions, the cached ones first; sends nothing if there are no others."""
        missing = []
        for index, key in enumerate(self.keys):
            stored = self.cache.get(key) if self.cache else None
            if stored and self.answers(stored.text or ""):
                self._finish(index, stored)
            else:
                missing.append(index)
        if missing:
            self.secret = _api_key(self.settings)
            try:
                asyncio.run(self._ask(missing))
            except BaseExceptionGroup as group:  # the first failure cancelled the other workers
                raise group.exceptions[0] from None
        return [self.done[index] for index in range(len(self.prompts))]

    def _finish(self, index: int, completion: Completion) -> None:
        self.done[index] = completion
        if self.report:
            self.report(completion)

    async def _ask(self, missing: Sequence[int]) -> None:
        """Completes the missing prompts, in order, by `concurrency` workers."""
        http, waiting = _http_library(), iter(missing)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.secret:
            headers["Authorization"] = f"Bearer {self.secret}"

        async def work() -> None:
            for index in waiting:
                self._finish(index, await self._complete(http, client, index))

        # Reading the certificates takes longer than a local model's verdict, which needs none.
        secure = urllib.parse.urlsplit(self.settings.base_url).scheme != "http"
        async with (
            http.AsyncClient(headers=headers, timeout=None, verify=secure) as client,
            asyncio.TaskGroup() as group,
        ):
            self.workers = min(self.settings.concurrency, len(missing))
            for _ in range(self.workers):
                group.create_task(work())

    async def _complete(self, http: Any, client: Any, index: int) -> Completion:
        """One prompt's completion, or why its last attempt failed."""
        attempts, clock = self.settings.attempts, asyncio.get_running_loop().time
        attempt, not_before = 0, 0.0
        while True:
            if self.given_up:
                return Completion(None, self.given_up, requests=attempt, retry=True)
            if (wait := max(not_before, self.resume_at) - clock()) > 0:
                await self.sleep(wait)
                self.drought += wait
            attempt, asked_at, limit = attempt + 1, clock(), self.limit
            try:
                found = await self._request(http, client, self.prompts[index])
                self.drought = 0.0
                answers = self.answers(found.text or "")
                if not answers and attempt < attempts:
                    not_before = clock() + self._back_off(attempt)
                    continue
                if self.cache and answers:
                    kept = self.cache.put(self.keys[index], self.settings.model, found)
                    found = kept if self.answers(kept.text or "") else found
                return dataclasses.replace(found, cached=False, requests=attempt)
            except Problem as problem:
                if limit == "max_tokens" and problem.refuses("max_tokens"):
                    self.limit, attempts = "max_completion_tokens", attempts + 1
                    continue
                self._count_drought(clock() - asked_at, problem)
                last = attempt == attempts
                unreachable = isinstance(problem, _Unreachable) and not self.answered
                hopeless = problem.scope == "all" or problem.refuses("'temperature'")
                if hopeless or (last and unreachable):
                    raise EndpointError(_what_to_change(self.settings, problem)) from None
                reason = problem.reason
                if problem.wait > _LONGEST_WAIT:
                    reason += f", and the endpoint asks to wait {problem.wait:.0f} s"
                    last = True
                elif problem.wait:  # every worker waits, not only this one
                    self.resume_at = max(self.resume_at, clock() + problem.wait)
                if problem.scope == "request" and not last:
                    not_before = clock() + self._back_off(attempt)
                    continue
                tries = f" ({attempt} attempts)" if attempt > 1 else ""
                passing = problem.scope == "request" and not problem.lasting
                return Completion(None, reason + tries, requests=attempt, retry=passing)

    def _count_drought(self, seconds: float, problem: Problem) -> None:
        """Gives up once all workers have asked and waited for too long without a completion."""
        self.drought += seconds
        longest = max(_LONGEST_DROUGHT, self.settings.attempts * self.settings.timeout)
        if self.drought > longest * self.workers:
            minutes = f"{longest / 60:.0f} minutes"
            self.given_up = f"the endpoint completed nothing for {minutes} ({problem.reason})"

    def _back_off(self, attempt: int) -> float:
        """Seconds to wait after an attempt: twice as long each time, and never the same."""
        longest = min(_FIRST_WAIT * 2 ** (attempt - 1), _LONGEST_BACK_OFF)
        return longest * self.jitter.uniform(0.5, 1.0)

    async def _request(self, http: Any, client: Any, prompt: str) -> Completion:
        """Sends one request and reads its reply."""
        settings = self.settings
        turns = [{"role": "system", "content": self.system}] if self.system else []
        turns.append({"role": "user", "content": prompt})
        body: dict[str, Any] = {"model": settings.model, "messages": turns}
        if settings.max_tokens:
            body[self.limit] = settings.max_tokens
        if settings.temperature >= 0:
            body["temperature"] = settings.temperature
        try:
            async with (
                asyncio.timeout(settings.timeout),  # of the whole exchange, not of a read
                client.stream("POST", settings.url, content=json.dumps(body).encode()) as reply,
            ):
                content = await _content(reply)
        except TimeoutError:
            raise Problem("request", f"no reply within {settings.timeout:g} s (timeout)") from None
        except http.RequestError as error:
            kind = _Unreachable if isinstance(error, http.ConnectError) else Problem
            why = chat_reply.plain(str(error), self.secret) or type(error).__name__
            raise kind("request", f"the connection failed: {why}") from None
        self.answered = True
        return chat_reply.read(
            reply.status_code,
            content,
            retry_after=reply.headers.get("Retry-After", ""),
            location=reply.headers.get("Location", ""),
            secret=self.secret,
        )


def _cache_keys(settings: EndpointSettings, system: str, prompts: Sequence[str]) -> list[str]:
    """A key a prompt: a hash of all that its completion depends on."""
    asked = [_FORM, settings.url, settings.model, system]
    sampling = [settings.max_tokens, settings.temperature]
    repeats: collections.Counter[str] = collections.Counter()
    keys = []
    for prompt in prompts:
        what = [*asked, prompt, *sampling, repeats[prompt]]
        repeats[prompt] += 1
        keys.append(hashlib.sha256(json.dumps(what).encode()).hexdigest())
    return keys


async def _content(reply: Any) -> bytes:
    """The body of a reply, as far as one may be that long; of one that is compressed nothing."""
    content = bytearray()
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        if reply.is_success:
            raise Problem("request", "the reply is compressed, though that was not asked for")
        return b""
    async for chunk in reply.aiter_raw():
        content += chunk
        if len(content) > _MOST_BYTES:
            raise Problem("request", f"the reply takes more than {_MOST_BYTES >> 20} MiB")
    return bytes(content)


def _is_elsewhere(settings: EndpointSettings) -> bool:
    """Whether the key would be OpenAI's, which is the default, and the endpoint is not."""
    host = urllib.parse.urlsplit(settings.base_url).hostname or ""
    own = any(host == name or host.endswith(f".{name}") for name in _OPENAI_HOSTS)
    return settings.api_key_env == _OPENAI and not own


def _api_key(settings: EndpointSettings) -> str:
    """The key in the environment for this endpoint; "" where there is none."""
    variable = settings.api_key_env
    if not variable or _is_elsewhere(settings):
        return ""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(
            f"the environment variable {variable} holds something that no key has (a line break, "
            "or a character that is not ASCII): set it to the key alone."
        )
    if key and urllib.parse.urlsplit(settings.base_url).scheme == "http":
        logging.warning(
            "the key in %s goes to %s without encryption: use https, or set api_key_env to '' if "
            "it needs none.",
            variable,
            settings.base_url,
        )
    return key


def _what_to_change(settings: EndpointSettings, problem: Problem) -> str:
    """The message for what no prompt can get past."""
    variable, status = settings.api_key_env, problem.status
    wants_key = status in (401, 402, 403, 429)
    if problem.refuses("'temperature'"):
        change = "set temperature below 0, which sends none"
    elif wants_key and _is_elsewhere(settings):
        change = (
            f"it wants a key, and {_OPENAI} goes to OpenAI alone: set api_key_env to the variable "
            "that holds this endpoint's"
        )
    elif wants_key and not variable:
        change = "it wants a key; set api_key_env to the variable that holds it"
    elif wants_key and not os.environ.get(variable, "").strip():
        change = f"set the environment variable {variable} to your key (api_key_env)"
    elif status in (402, 429):
        change = f"the account of the key in {variable} has no credit or quota left"
    elif wants_key:
        change = (
            f"check the key in the environment variable {variable} (api_key_env), and that it may "
            f"use model {settings.model!r}"
        )
    elif status:
        and_model = f" and model ({settings.model!r})" if status == 404 else ""
        change = f"check base_url (requests went to {settings.url}){and_model}"
    else:
        change = "check base_url, and that the server runs and can be reached"
    return (
        f"the endpoint {settings.base_url} cannot complete anything ({problem.reason}): {change}."
    )


def _http_library() -> Any:
    try:
        import httpx2
    except ImportError:
        raise EndpointError(
            "asking an endpoint needs the package httpx2: pip install 'seal_jax[endpoint]'"
        ) from None
    return httpx2
