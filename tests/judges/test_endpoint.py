"""The endpoint client against a server on loopback that is slow, full, broken or gone."""

import gzip
import json
import os
import signal
import sys
import threading
import time
import tracemalloc

import httpx2
import pytest

from seal_jax.judges import endpoint
from seal_jax.judges.endpoint import Completion, EndpointError
from seal_jax.settings.endpoint import EndpointSettings

KEY = "sk-very-secret-0123"


@pytest.fixture
def settings(endpoint_server):
    """(**changes) -> settings of the loopback endpoint."""

    def make(**changes):
        return EndpointSettings(**{"base_url": endpoint_server.url, "model": "judge-1"} | changes)

    return make


@pytest.fixture
def waits():
    """The seconds that `sleep` was asked for."""
    return []


@pytest.fixture
def ask(settings, waits):
    """(prompts, system="", report=None, **settings) -> completions, without waiting."""

    async def sleep(seconds):
        waits.append(seconds)

    def complete(prompts, *, system="", report=None, **changes):
        return endpoint.complete(
            settings(**changes), prompts, system=system, report=report, sleep=sleep
        )

    return complete


def texts(completions):
    return [completion.text for completion in completions]


def test_results_are_in_the_order_of_the_prompts(ask, endpoint_server):
    others_done = threading.Event()

    def last():
        assert others_done.wait(2)
        return "first, but late"

    endpoint_server.script = {"a": [last], "b": ["B"], "c": ["C"]}
    seen = []

    def report(completion):
        seen.append(completion.text)
        if len(seen) == 2:
            others_done.set()

    found = ask(["a", "b", "c"], concurrency=2, report=report)
    assert texts(found) == ["first, but late", "B", "C"]
    assert seen == ["B", "C", "first, but late"]
    assert found[1] == Completion(
        "B", None, False, requests=1, prompt_tokens=7, completion_tokens=2
    )


def test_as_many_requests_at_once_as_allowed_and_no_more(ask, endpoint_server):
    together = threading.Barrier(3)

    def slow():
        together.wait(2)  # breaks, and with it the reply, if fewer come
        time.sleep(0.02)
        return "ok"

    prompts = [str(i) for i in range(9)]
    endpoint_server.script = {prompt: [slow] for prompt in prompts}
    assert texts(ask(prompts, concurrency=3)) == ["ok"] * 9
    assert endpoint_server.most_at_once == 3


def test_what_is_sent(ask, endpoint_server, monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    ask(["hi"], system="Be brief.", api_key_env="MY_KEY", max_tokens=5, temperature=0.5)
    ask(["hi"], max_tokens=0, temperature=-1.0)
    (headers, body), (bare_headers, bare) = endpoint_server.requests
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "judge-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
        "max_tokens": 5,
        "temperature": 0.5,
    }
    assert bare == {"model": "judge-1", "messages": [{"role": "user", "content": "hi"}]}
    assert "Authorization" not in bare_headers


PASSING = {
    "server error": (500, "{}"),
    "bad gateway": (502, "<html>"),
    "request timeout": (408, ""),
    "full": (429, ""),
    "no JSON": (200, "{'choices': "),
    "no UTF-8": (200, b'"\xff"'),
    "no choices": (200, '{"choices": []}'),
    "an error as a success": (200, '{"error": {"message": "busy"}}'),
    "a list": (200, "[1]"),
    "no text in the parts": (200, '{"choices": [{"message": {"content": [1]}}]}'),
    "no text": (200, '{"choices": [{"message": {"content": null}}]}'),
    "an empty text": (200, '{"choices": [{"message": {"content": ""}}]}'),
    "blanks": (200, '{"choices": [{"message": {"content": " \\n"}, "finish_reason": "stop"}]}'),
    "broken off": (
        200,
        '{"choices": [{"message": {"content": "No, the predic"}, "finish_reason": "error"}]}',
    ),
    "filtered": (
        200,
        '{"choices": [{"message": {"content": "No, the"}, "finish_reason": "content_filter"}]}',
    ),
    "aborted": (200, '{"choices": [{"message": {"content": "Ye"}, "finish_reason": "abort"}]}'),
    "an error in the choice": (
        200,
        '{"choices": [{"message": {"content": "No"}, "error": {"code": 502}}]}',
    ),
    "closed connection": None,
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_is_tried_again(ask, endpoint_server, waits, kind):
    endpoint_server.script = {"a": [PASSING[kind], "at last"]}
    assert texts(ask(["a", "b"], concurrency=1)) == ["at last", "b #3"]
    assert endpoint_server.prompts() == ["a", "a", "b"]
    assert len(waits) == 1


def test_a_slow_reply_is_tried_again(ask, endpoint_server):
    release = threading.Event()
    endpoint_server.script = {"a": [lambda: release.wait(2) and "too late", "in time"]}
    (found,) = ask(["a"], timeout=0.1)
    release.set()
    assert (found.text, found.requests) == ("in time", 2)


def test_a_reply_that_trickles_in_meets_the_same_limit(ask, endpoint_server, monkeypatch):
    def trickle(handler, status, body):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for byte in body.encode():
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.02)

    monkeypatch.setattr(endpoint_server, "_send", trickle)
    (found,) = ask(["a"], timeout=0.15, attempts=1)
    assert found.text is None and found.reason == "no reply within 0.15 s (timeout)"


def test_waits_grow_and_one_failure_loses_nothing_else(ask, endpoint_server, waits):
    endpoint_server.script = {"bad": [(500, '{"error": {"message": "out of\\nmemory"}}')]}
    found = ask(["a", "bad", "c"], concurrency=1, attempts=5)
    assert texts(found) == ["a #1", None, "c #7"]
    assert found[1].reason == "status 500: out of memory (5 attempts)"
    assert [completion.retry for completion in found] == [False, True, False]
    assert found[1].requests == 5
    assert len(waits) == 4
    for wait, longest in zip(waits, (0.5, 1.0, 2.0, 4.0), strict=True):
        assert 0.5 * longest - 0.1 < wait <= longest


def test_back_off_is_jittered(ask, endpoint_server, waits):
    endpoint_server.script = {str(i): [(500, ""), "ok"] for i in range(8)}
    ask([str(i) for i in range(8)], concurrency=1)
    assert len({round(wait, 3) for wait in waits}) > 4


def test_retry_after_holds_every_worker(ask, endpoint_server, waits):
    refused = threading.Event()

    def refuse():
        threading.Timer(0.05, refused.set).start()
        return (429, "", {"Retry-After": "7"})

    endpoint_server.script = {
        "a": [refuse, "A"],
        "b": [lambda: refused.wait(2) and "B"],
        "c": ["C"],
    }
    assert texts(ask(["a", "b", "c"], concurrency=2)) == ["A", "B", "C"]
    assert len(waits) == 2  # before the second try of a, and before c
    assert all(6.5 < wait <= 7.0 for wait in waits)


def test_a_wait_that_is_too_long_is_a_failure(ask, endpoint_server, waits):
    endpoint_server.script = {"a": [(503, "", {"Retry-After": "3600"})]}
    found = ask(["a", "b"], concurrency=1)
    assert found[0].reason == "status 503, and the endpoint asks to wait 3600 s"
    assert found[0].retry
    assert found[1].text == "b #2" and not waits


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((400, '{"error": {"message": "too long"}}'), "status 400: too long"),
        ((422, '{"detail": "bad"}'), "status 422: bad"),
        (
            (200, '{"choices": [{"message": {"content": null, "refusal": "no"}}]}'),
            "the reply has no text (no)",
        ),
        (
            (200, '{"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}'),
            "raise max_tokens",
        ),
    ],
)
def test_what_is_wrong_with_one_prompt_is_not_tried_again(ask, endpoint_server, reply, reason):
    endpoint_server.script = {"bad": [reply]}
    found = ask(["a", "bad", "c"], concurrency=1)
    assert [completion.text is None for completion in found] == [False, True, False]
    assert found[1].requests == 1 and not found[1].retry
    assert endpoint_server.prompts() == ["a", "bad", "c"]
    assert reason in found[1].reason


def test_a_truncated_text_is_kept_and_marked(ask, endpoint_server):
    body = endpoint_server.completion("Once upon", finish_reason="length")
    endpoint_server.script = {"a": [(200, body)]}
    (found,) = ask(["a"])
    assert found.text == "Once upon" and found.truncated


@pytest.mark.parametrize(
    ("reply", "has_key", "change"),
    [
        (401, False, "set the environment variable JUDGE_KEY"),
        (401, True, "check the key in the environment variable JUDGE_KEY"),
        (403, True, "may use model 'judge-1'"),
        (404, True, "check base_url .*/v1/chat/completions. and model"),
        (402, True, "no credit or quota"),
        (429, True, "no credit or quota"),
        (307, True, "check base_url"),
    ],
)
def test_what_no_prompt_gets_past_stops_everything(
    ask, endpoint_server, monkeypatch, tmp_path, reply, has_key, change
):
    if has_key:
        monkeypatch.setenv("JUDGE_KEY", KEY)
    body = f'{{"error": {{"message": "{"x" * 290} {KEY}", "code": "insufficient_quota"}}}}'
    endpoint_server.script = {"b": [(reply, body, {"Location": f"http://elsewhere/{KEY}"})]}
    with pytest.raises(EndpointError, match=change) as caught:
        ask(["a", "b", "c"], concurrency=1, cache_dir=str(tmp_path), api_key_env="JUDGE_KEY")
    assert endpoint_server.prompts() == ["a", "b"]
    assert KEY[:10] not in str(caught.value)  # though the endpoint said it
    assert ask(["a"], cache_dir=str(tmp_path))[0].cached  # what was finished is kept


def test_no_quota_is_told_from_full(ask, endpoint_server):
    endpoint_server.script = {"a": [(429, '{"error": {"code": "rate_limit_exceeded"}}'), "ok"]}
    assert texts(ask(["a"])) == ["ok"]


def test_an_address_where_nothing_is(ask, endpoint_server, waits):
    endpoint_server.close()
    with pytest.raises(EndpointError, match=f"{endpoint_server.url} .*that the server runs"):
        ask(["a", "b"], concurrency=1, attempts=3)
    assert len(waits) == 2


def test_a_server_that_goes_away_leaves_reasons(ask, endpoint_server):
    last = (200, endpoint_server.completion("A"), {"Connection": "close"})
    endpoint_server.script = {"a": [last]}
    found = ask(["a", "b"], concurrency=1, attempts=2, report=lambda _: endpoint_server.close())
    assert found[0].text == "A"
    assert found[1].text is None and "connection failed" in found[1].reason and found[1].retry


def test_cost(ask, endpoint_server, tmp_path):
    endpoint_server.script = {"b": [(500, ""), "B"], "c": [(400, "")]}
    ask(["a"], cache_dir=str(tmp_path))
    completions = []
    ask(["a", "b", "c"], cache_dir=str(tmp_path), report=completions.append)
    assert endpoint.cost(completions) == {
        "completions": 3,
        "cached": 1,
        "failed": 1,
        "requests": 3,
        "prompt_tokens": 7,
        "completion_tokens": 2,
    }


def test_halves_of_surrogate_pairs_do_no_harm(ask, endpoint_server, tmp_path):
    body = r'{"choices": [{"message": {"content": "x\udc00\u0000y"}}]}'
    endpoint_server.script = {"q?": [(200, body)]}
    for cached in (False, True):
        (found,) = ask(["q\ud800"], cache_dir=str(tmp_path))
        assert (found.text, found.cached) == ("x?\0y", cached)


@pytest.fixture
def heeds_ctrl_c():
    """A process that was started in the background ignores SIGINT; this one does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_stops_at_once_and_keeps_what_is_finished(ask, endpoint_server, tmp_path):
    release = threading.Event()

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(5)
        return "never read"

    endpoint_server.script = {"b": [interrupt]}
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(["a", "b"], concurrency=1, cache_dir=str(tmp_path))
    assert time.monotonic() - start < 4
    release.set()
    assert ask(["a"], cache_dir=str(tmp_path))[0].cached


def test_an_error_of_the_caller_s_report_is_its_own(ask):
    with pytest.raises(ZeroDivisionError):
        ask(["a", "b"], report=lambda _: 1 / 0)


@pytest.mark.parametrize(
    ("url", "verified"), [("HTTPS://host/v1", True), ("https://host/v1", True), ("http://h", False)]
)
def test_certificates_are_checked_wherever_there_are_any(ask, monkeypatch, url, verified):
    seen = []

    def client(**arguments):
        seen.append(arguments["verify"])
        raise ZeroDivisionError

    monkeypatch.setattr(httpx2, "AsyncClient", client)
    with pytest.raises(ZeroDivisionError):
        ask(["a"], base_url=url)
    assert seen == [verified]


def test_real_waits_take_time(settings, endpoint_server):
    endpoint_server.script = {"a": [(429, "", {"Retry-After": "0.3"}), "ok"]}
    start = time.monotonic()
    assert texts(endpoint.complete(settings(), ["a"])) == ["ok"]
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"max_tokens": -1}, "max_tokens must be 0 or more"),
        ({"timeout": 0.0}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"base_url": "localhost:8000/v1"}, "base_url must look like"),
        ({"base_url": "http:///v1"}, "base_url must look like"),
        ({"base_url": "http://host:port/v1"}, "base_url must look like"),
        ({"base_url": "http://host/v1?key=1"}, "base_url must look like"),
        ({"base_url": "http://host/v1/chat/completions/"}, "must end before"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        EndpointSettings(**changes)


@pytest.mark.parametrize(
    "changes", [{"api_key_env": KEY}, {"base_url": f"https://me:{KEY}@host/v1"}]
)
def test_a_key_in_the_wrong_place_is_not_repeated(changes):
    with pytest.raises(ValueError, match="api_key_env") as caught:
        EndpointSettings(**changes)
    assert KEY not in str(caught.value)


def test_a_key_that_cannot_be_sent_is_not_repeated(ask, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\nsecond line")
    with pytest.raises(EndpointError, match="JUDGE_KEY") as caught:
        ask(["a"], api_key_env="JUDGE_KEY")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("missing", ["base_url", "model"])
def test_an_endpoint_that_is_not_set(ask, missing):
    with pytest.raises(EndpointError, match=f"{missing} is not set"):
        ask(["a"], **{missing: ""})


def test_without_the_library(ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(EndpointError, match=r"pip install 'seal_jax\[endpoint\]'"):
        ask(["a"])


BROKEN = ["no text", "an empty text", "blanks", "broken off", "filtered", "aborted"]


@pytest.mark.fault("9")
@pytest.mark.parametrize("kind", [*BROKEN, "an error in the choice"])
def test_a_reply_that_is_no_answer_is_tried_again_and_never_kept(
    ask, endpoint_server, tmp_path, kind
):
    endpoint_server.script = {"a": [PASSING[kind]]}
    (found,) = ask(["a"], attempts=3, cache_dir=str(tmp_path))
    assert (found.text, found.requests) == (None, 3) and "(3 attempts)" in found.reason
    assert found.retry == (kind != "filtered")  # a filter takes it the next time, too
    endpoint_server.script = {"a": ["at last"]}
    (found,) = ask(["a"], cache_dir=str(tmp_path))
    assert (found.text, found.cached) == ("at last", False)


@pytest.mark.fault("8")
@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "Yes"}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "No?"}]}, {"text": "Yes"}],
        [{"type": "reasoning", "text": "No?"}, {"type": "output_text", "text": "Y"}, "es"],
        ["Yes"],
    ],
)
def test_a_text_in_parts_is_read(ask, endpoint_server, content):
    body = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
    endpoint_server.script = {"a": [(200, body)]}
    assert texts(ask(["a"])) == ["Yes"]


def _refusing(parameter, said):
    """A reply for `endpoint_server.reply`, which refuses requests with a parameter."""

    def reply(body):
        if parameter in body:
            return (400, json.dumps({"error": {"message": said}}))
        return "Yes"

    return reply


@pytest.mark.fault("8")
@pytest.mark.parametrize(
    "said",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        "Unrecognized request argument supplied: max_tokens",
        "max_tokens: Extra inputs are not permitted",
        "unknown field `max_tokens`",
    ],
)
def test_a_judge_that_has_another_name_for_the_length_limit(ask, endpoint_server, said):
    endpoint_server.answer = _refusing("max_tokens", said)
    found = ask(["a", "b", "c"], concurrency=2, max_tokens=9, attempts=1)
    assert texts(found) == ["Yes"] * 3
    limits = [body.get("max_completion_tokens") for _, body in endpoint_server.requests]
    # Once known, it is asked so at once; two were asked together before.
    assert limits.count(9) == 3 and limits.count(None) <= 2


@pytest.mark.fault("8", control=True)
def test_a_length_limit_that_is_too_large_is_the_prompts_fault(ask, endpoint_server):
    said = "max_tokens is too large: 9000. This model supports at most 4096 completion tokens."
    endpoint_server.answer = _refusing("max_tokens", said)
    (found,) = ask(["a"], max_tokens=9000)
    assert said in found.reason and found.requests == 1


@pytest.mark.fault("8")
def test_a_judge_that_takes_no_temperature_says_so_at_once(ask, endpoint_server):
    said = "Unsupported value: 'temperature' does not support 0.0 with this model."
    endpoint_server.answer = _refusing("temperature", said)
    with pytest.raises(EndpointError, match=r"does not support 0\.0.*set temperature below 0"):
        ask(["a", "b"], concurrency=1)
    assert len(endpoint_server.requests) == 1
    assert texts(ask(["a"], temperature=-1.0)) == ["Yes"]


@pytest.fixture
def endless(endpoint_server, monkeypatch):
    """(status, headers, chunk) has the server send chunks until the client is gone."""
    sent = []

    def start(status, headers, chunk):
        def send(handler, *_):
            handler.send_response(status)
            for name, value in {"Transfer-Encoding": "chunked", **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            try:
                while sum(sent) < 200 << 20:
                    handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                    sent.append(len(chunk))
            except OSError:
                handler.close_connection = True

        monkeypatch.setattr(endpoint_server, "_send", send)
        return sent

    return start


@pytest.mark.fault("S3")
@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (200, {}, "takes more than 8 MiB"),
        (500, {}, "takes more than 8 MiB"),
        (200, {"Content-Encoding": "gzip"}, "is compressed"),
        (200, {"Content-Encoding": "br"}, "is compressed"),
    ],
)
def test_a_reply_without_an_end_is_a_reason(ask, endless, status, headers, reason):
    bomb = gzip.compress(bytes(100 << 20)) if headers else b"x" * (1 << 16)
    sent = endless(status, headers, bomb)
    tracemalloc.start()
    (found,) = ask(["a"], attempts=1, timeout=30)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.text is None and reason in found.reason and found.retry
    assert most < 40 << 20 and sum(sent) < 100 << 20


@pytest.mark.fault("S3", control=True)
def test_a_long_completion_is_read(ask, endpoint_server):
    endpoint_server.script = {"a": ["x" * (5 << 20)]}
    (found,) = ask(["a"])
    assert len(found.text) == 5 << 20


@pytest.mark.fault("S8")
@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
        "Fri, 99999999999999999999 Dec 2030 23:59:59 GMT",
        "Fri, 31 Dec 2030 99999999999999999999:00:00 GMT",
        "Fri, 31 Dec 2030 23:59:59 +99999999999999999999",
    ],
)
def test_a_date_that_is_none_asks_for_no_wait(ask, endpoint_server, date):
    endpoint_server.script = {"a": [(429, "", {"Retry-After": date}), "ok"]}
    assert texts(ask(["a"])) == ["ok"]


@pytest.mark.fault("S8")
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_judge_that_always_asks_to_wait_is_given_up(ask, endpoint_server, waits, concurrency):
    endpoint_server.answer = lambda body: (429, "", {"Retry-After": "299"})
    found = ask([str(i) for i in range(100)], concurrency=concurrency)
    assert all(one.text is None and one.retry for one in found)
    assert "completed nothing for 15 minutes (status 429)" in found[-1].reason
    assert sum(waits) < 3000 * concurrency  # of each of as many workers


@pytest.mark.fault("S8")
def test_a_judge_that_may_take_long_is_given_up_later(ask, endpoint_server, waits):
    endpoint_server.answer = lambda body: (429, "", {"Retry-After": "299"})
    found = ask([str(i) for i in range(20)], concurrency=1, timeout=600.0)
    assert "completed nothing for 50 minutes" in found[-1].reason
    assert 3000 < sum(waits) < 4000


@pytest.mark.fault("S8", control=True)
def test_a_judge_that_asks_to_wait_now_and_then_is_not_given_up(ask, endpoint_server, waits):
    prompts = [str(i) for i in range(20)]
    endpoint_server.script = {p: [(429, "", {"Retry-After": "200"}), "ok"] for p in prompts}
    assert texts(ask(prompts, concurrency=1)) == ["ok"] * 20
    assert sum(waits) > 900


@pytest.mark.fault("S7")
def test_a_giant_error_takes_no_time(ask, endpoint_server):
    endpoint_server.answer = lambda body: (400, "<html>" * 1_000_000)
    start = time.monotonic()
    (found,) = ask(["a"])
    assert len(found.reason) < 400 and time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("url", "variable", "sent"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY", True),
        ("https://mine.openai.azure.com/v1", "OPENAI_API_KEY", True),
        pytest.param(
            "https://api.mistral.ai/v1", "OPENAI_API_KEY", False, marks=pytest.mark.fault("S16")
        ),
        pytest.param(
            "https://openai.com.elsewhere.net/v1",
            "OPENAI_API_KEY",
            False,
            marks=pytest.mark.fault("S16"),
        ),
        pytest.param(
            "https://notopenai.com/v1", "OPENAI_API_KEY", False, marks=pytest.mark.fault("S16")
        ),
        pytest.param(
            "http://localhost:8000/v1", "OPENAI_API_KEY", False, marks=pytest.mark.fault("S16")
        ),
        ("https://api.mistral.ai/v1", "MISTRAL_API_KEY", True),
        ("https://api.openai.com/v1", "", False),
    ],
)
def test_a_key_goes_to_its_provider_or_to_whom_it_is_named_for(
    monkeypatch, ask, url, variable, sent
):
    seen = []

    def client(**arguments):
        seen.append(arguments["headers"].get("Authorization"))
        raise ZeroDivisionError

    monkeypatch.setattr(httpx2, "AsyncClient", client)
    for name in ("OPENAI_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, KEY)
    with pytest.raises(ZeroDivisionError):
        ask(["a"], base_url=url, api_key_env=variable)
    assert seen == [f"Bearer {KEY}" if sent else None]


@pytest.mark.fault("S16")
def test_an_endpoint_that_wants_a_key_is_not_given_openais(ask, endpoint_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint_server.script = {"a": [(401, "")]}
    with pytest.raises(EndpointError, match="goes to OpenAI alone: set api_key_env to the"):
        ask(["a"])
    assert "Authorization" not in endpoint_server.requests[0][0]


@pytest.mark.fault("S16")
def test_a_key_without_encryption_is_warned_of(ask, endpoint_server, monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    ask(["a"], api_key_env="JUDGE_KEY")
    assert f"the key in JUDGE_KEY goes to {endpoint_server.url} without encryption" in caplog.text
    assert KEY not in caplog.text
    caplog.clear()
    ask(["a"])  # none is sent
    assert not caplog.text
