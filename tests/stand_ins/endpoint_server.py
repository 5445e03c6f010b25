"""A stand-in for an OpenAI-compatible endpoint, for the tests of what asks one."""

import http.server
import json
import threading


class EndpointServer:
    """Plays an OpenAI-compatible endpoint on loopback.

    `script` maps a prompt to its replies in turn; the last one is repeated. A reply is a text, a
    status with a text and headers, a function (called in the server's thread) that returns one of
    these, or None to close the connection without a word. Other prompts are answered with
    "<prompt> #<number of the request>".

    Attributes:
      answer: a function from a request's body to a reply to it, in place of the script.
      requests: (headers, body) of each request, in order of arrival.
      most_at_once: the largest number of requests that were under way together.
    """

    def __init__(self):
        self.script = {}
        self.answer = None
        self.requests = []
        self.most_at_once = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def prompts(self):
        """The prompts of all requests, in order of arrival."""
        return [body["messages"][-1]["content"] for _, body in self.requests]

    @staticmethod
    def completion(text, **choice):
        """The body of a reply that holds a completion; `choice` adds to it."""
        choices = [{"index": 0, "message": {"role": "assistant", "content": text}, **choice}]
        usage = {"prompt_tokens": 7, "completion_tokens": 2}
        return json.dumps({"choices": choices, "usage": usage})

    def close(self):
        """Stops listening; twice does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self):
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # one packet a reply, or each takes 40 ms

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner._reply(self, body)

            def log_message(self, *_):
                pass

        return Handler

    def _reply(self, handler, body):
        prompt = body["messages"][-1]["content"]
        with self._lock:
            self.requests.append((handler.headers, body))
            number = len(self.requests)
            replies = self.script.get(prompt, [])
            reply = replies.pop(0) if len(replies) > 1 else (replies or [f"{prompt} #{number}"])[0]
            if self.answer:
                reply = self.answer(body)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            reply = reply() if callable(reply) else reply
            reply = (200, self.completion(reply)) if isinstance(reply, str) else reply
            self._send(handler, *(reply or ()))
        except OSError:
            pass  # the client went away
        finally:
            with self._lock:
                self._under_way -= 1

    def _send(self, handler, status=0, body="", headers=()):
        if not status:
            handler.close_connection = True
            return
        data = body if isinstance(body, bytes) else body.encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in dict(headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)
