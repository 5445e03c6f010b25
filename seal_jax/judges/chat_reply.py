"""What an OpenAI-compatible endpoint's HTTP reply says: a completion, or what went wrong.

A function of the reply alone; nothing here sends, waits or knows the settings.
"""

import dataclasses
import datetime
import email.utils
import json
import math
import re
import unicodedata
from typing import Any, Literal

from seal_jax.tasks import generated

_PASSING = {408, 409, 425, 429}  # and 500 upwards
_HOPELESS = {401, 402, 403, 404, 405}  # and redirections: no prompt can do better
_NO_QUOTA = b"insufficient_quota"  # a 429 that waiting does not cure
# What servers give as finish_reason for a text that is cut off, and for one that is no answer: it
# broke off, or a filter took it, which it will do again.
_CUT_OFF = {"length", "max_tokens", "max_length", "model_length"}
_BROKEN = re.compile(r"error|abort|cancel|insufficient|network|load")
_FILTERED = re.compile(r"filter|safety|block|prohibit|recitation|refus")
_REFUSES = re.compile(
    r"unsupported|not support|instead|unrecogni|unknown|unexpected|permitted|extra", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Completion:
    """A prompt's completion, or why there is none.

    Attributes:
      text: what the model wrote; None if nothing could be had.
      reason: why not; None if it could.
      cached: whether it was on the disk already.
      truncated: whether it ends at the length limit.
      requests: how many requests were sent for it by this call.
      prompt_tokens, completion_tokens: as the endpoint counted them when it was asked for; 0 where
        it did not say.
      retry: whether a later call may get what this one could not: the prompt is not at fault.
    """

    text: str | None
    reason: str | None = None
    cached: bool = False
    truncated: bool = False
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retry: bool = False


@dataclasses.dataclass(eq=False)
class Problem(Exception):
    """Why a request gave no completion.

    Attributes:
      scope: what cannot succeed: this "request" (another may), this "prompt", or "all" prompts.
      reason: for the person who reads it.
      status: of the reply; 0 where there was none.
      wait: seconds that the endpoint asks to wait before the next request.
      lasting: whether a later call would meet it as well, though another request may not.
    """

    scope: Literal["request", "prompt", "all"]
    reason: str
    status: int = 0
    wait: float = 0.0
    lasting: bool = False

    def refuses(self, parameter: str) -> bool:
        """Whether the endpoint takes no parameter of that name, or not its value."""
        named = parameter in self.reason and self.status in (400, 422)
        return named and _REFUSES.search(self.reason) is not None


def read(
    status: int, body: bytes, *, retry_after: str = "", location: str = "", secret: str = ""
) -> Completion:
    """The completion in a reply.

    Args:
      status: of the reply.
      body: its body.
      retry_after, location: headers of the reply; "" where absent.
      secret: a text that no reason may repeat, even where the endpoint does; "" for none.

    Raises:
      Problem: there is none.

    >>> found = read(200, b'{"choices": [{"message": {"content": "Yes"}}]}')
    >>> found.text, found.truncated, found.prompt_tokens
    ('Yes', False, 0)
    """
    if 200 <= status < 300:
        return _completion(body, status, secret)
    reason = f"status {status}{_detail(body, secret)}"
    if (status == 429 and _NO_QUOTA in body) or status in _HOPELESS:
        raise Problem("all", reason, status=status)
    if 300 <= status < 400:
        moved = f"status {status}, moved to {plain(location, secret)!r}"
        raise Problem("all", moved, status=status)
    if status in _PASSING or status >= 500:
        raise Problem("request", reason, status=status, wait=seconds_to_wait(retry_after))
    raise Problem("prompt", reason, status=status)


def seconds_to_wait(retry_after: str, now: datetime.datetime | None = None) -> float:
    """Seconds that a Retry-After header asks for; 0 where it says nothing that can be read.

    Args:
      retry_after: a number of seconds, or a date as HTTP writes it.
      now: the time that a date is compared with; the clock's if None.

    >>> seconds_to_wait("20"), seconds_to_wait("soon")
    (20.0, 0.0)
    """
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(retry_after)
            if date.tzinfo is None:
                date = date.replace(tzinfo=datetime.UTC)
            seconds = (date - (now or datetime.datetime.now(datetime.UTC))).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def whole(text: str) -> str:
    """The text with each half of a surrogate pair, which UTF-8 cannot hold, as a question mark.

    >>> whole("a\\ud800b")
    'a?b'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(text: str, secret: str = "", length: int = 300) -> str:
    """A text from outside as one short line without control characters and without `secret`.

    >>> plain("Incorrect\\n key:\\x1b abc", secret="abc")
    'Incorrect key: [the key]'
    """
    text = (text.replace(secret, "[the key]") if secret else text)[: 20 * length]
    line = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).split())
    return line if len(line) <= length else f"{line[:length]}…"


def shown(reply: str) -> str:
    """What a reply says that is no answer, cut short, for reasons.

    >>> shown("It\\ndepends."), shown("<think>Hm")
    ("'It depends.'", 'it ends in its thoughts (raise max_tokens)')
    """
    said = generated.read(reply)
    if said.thoughts and not said.text:
        return "it ends in its thoughts (raise max_tokens)"
    return repr(plain(said.text, length=80))


def _completion(body: bytes, status: int, secret: str) -> Completion:
    """The first choice of a reply that says that it succeeded."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem("request", "the reply is not JSON", status=status) from None
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        text = _text(message["content"])
        finish = plain(str(choice.get("finish_reason") or "none given"), secret).casefold()
        refusal, broken = message.get("refusal"), bool(choice.get("error"))
    except (KeyError, IndexError, TypeError, AttributeError):
        reason = f"the reply has no choices[0].message.content{_detail(body, secret)}"
        raise Problem("request", reason, status=status) from None
    truncated, filtered = finish in _CUT_OFF, _FILTERED.search(finish) is not None
    if broken or filtered or _BROKEN.search(finish):
        reason = f"the reply is no whole answer (finish_reason {finish})"
        raise Problem("request", reason, status=status, lasting=filtered)
    if not text.strip():
        if truncated:
            reason = "the length limit was reached before any text: raise max_tokens"
            raise Problem("prompt", reason, status=status)
        why = plain(str(refusal), secret) if refusal else f"finish_reason {finish}"
        scope: Literal["prompt", "request"] = "prompt" if refusal else "request"
        raise Problem(scope, f"the reply has no text ({why})", status=status)
    usage = reply.get("usage")
    return Completion(
        whole(text),
        truncated=truncated,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def _text(content: Any) -> str:
    """What a message says; "" for nothing. It may come in parts, thoughts among them.

    >>> _text([{"type": "thinking", "thinking": "No?"}, {"type": "text", "text": "Yes"}, "."])
    'Yes.'
    """
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    said = (
        part.get("text")
        if isinstance(part, dict) and "text" in str(part.get("type", "text"))
        else part
        for part in content
    )
    return "".join(part for part in said if isinstance(part, str))


def _count(usage: Any, name: str) -> int:
    """A count of tokens; 0 where the endpoint does not say."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 2**63 else 0


def _detail(body: bytes, secret: str) -> str:
    """ ": " and what the endpoint says of the error; "" if it says nothing."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = body.decode("utf-8", "replace")
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    if isinstance(said, dict):
        said = "" if "choices" in said else json.dumps(said)
    text = plain(str(said), secret)
    return f": {text}" if text else ""
