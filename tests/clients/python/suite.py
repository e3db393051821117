"""The official OpenAI Python SDK against the gateway.

Environment: GATEWAY (base URL), KEYED (base URL of a gateway that needs KEY), KEY, SIMULATOR (the
upstream's URL, to script faults and to see what it was sent).
"""

import json
import os
import time
import unittest
import urllib.request

import openai
from openai.lib.streaming.chat import ChatCompletionStreamState
from pydantic import BaseModel

GATEWAY = os.environ["GATEWAY"]
KEYED = os.environ["KEYED"]
KEY = os.environ["KEY"]
SIMULATOR = os.environ["SIMULATOR"]
MODEL = "llama3.2:3b"
HI = [{"role": "user", "content": "hi"}]


def client(base=GATEWAY, key="unused", retries=0):
    return openai.OpenAI(base_url=base, api_key=key, max_retries=retries, timeout=20)


def script(*faults):
    """Scripts what goes wrong with the requests to come."""
    body = json.dumps(faults).encode()
    urllib.request.urlopen(urllib.request.Request(SIMULATOR + "/_faults", data=body, method="POST"))


def seen():
    return json.load(urllib.request.urlopen(SIMULATOR + "/_seen"))


class Answer(BaseModel):
    answer: int


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Cached(unittest.TestCase):
    """An answer from the cache is what it was, but for its id and its time."""

    def ask(self, text, **more):
        messages = [{"role": "user", "content": text}]
        return client().chat.completions.with_raw_response.create(
            model=MODEL, messages=messages, temperature=0, **more
        )

    def twice(self, text, **more):
        answers = [self.ask(text, **more) for _ in range(2)]
        self.assertEqual([one.headers["x-cache"] for one in answers], ["miss", "hit-l1"])
        return [one.parse() for one in answers]

    def settled(self, answer):
        return answer.model_dump(exclude={"id", "created"})

    def test_whole(self):
        for text, more in CASES:
            with self.subTest(text):
                first, again = self.twice(f"whole {text}", **more)
                self.assertNotEqual(first.id, again.id)
                self.assertEqual(self.settled(first), self.settled(again))

    def test_streamed(self):
        for text, more in CASES:
            for options in ({}, {"stream_options": {"include_usage": True}}):
                with self.subTest(text, options=options):
                    named = f"streamed {text} {bool(options)}"
                    both = self.twice(named, stream=True, **options, **more)
                    first, again = (self.gathered(list(stream)) for stream in both)
                    self.assertEqual(first, again)

    def test_the_other_form(self):
        for text, more in CASES:
            with self.subTest(text):
                whole = self.ask(f"both {text}", **more).parse()
                streamed = self.ask(f"both {text}", stream=True, **more)
                self.assertEqual(streamed.headers["x-cache"], "hit-l1")
                gathered = self.gathered(list(streamed.parse()))
                message = whole.choices[0].message
                held = gathered["choices"][0]["message"]
                self.assertEqual(held["content"] or "", message.content or "")
                calls = [call.function.arguments for call in message.tool_calls or []]
                replayed = [call["function"]["arguments"] for call in held["tool_calls"] or []]
                self.assertEqual(replayed, calls)

    def gathered(self, chunks):
        """What the SDK's own helper makes of a stream."""
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        state = ChatCompletionStreamState()
        for chunk in chunks:
            state.handle_chunk(chunk)
        answer = state.get_final_completion().model_dump()
        return {name: answer[name] for name in ("choices", "usage", "model")}

    def test_embeddings(self):
        raw = client().embeddings.with_raw_response
        answers = [raw.create(model="all-minilm", input="cached?") for _ in range(2)]
        self.assertEqual([one.headers["x-cache"] for one in answers], ["miss", "hit-l1"])
        first, again = (one.parse().data[0].embedding for one in answers)
        self.assertEqual(first, again)


CASES = [
    ("text", {}),
    ("reasoning", {"reasoning_effort": "high"}),
    ("tools", {"tools": [TOOL]}),
]


class Chat(unittest.TestCase):
    def test_whole(self):
        answer = client().chat.completions.create(model=MODEL, messages=HI, max_completion_tokens=4)
        self.assertEqual(answer.choices[0].message.content, "The answer is forty")
        self.assertEqual(answer.usage.completion_tokens, 4)
        self.assertTrue(answer._request_id)

    def test_stream(self):
        stream = client().chat.completions.create(model=MODEL, messages=HI, stream=True)
        # Code that takes a choice for granted must not meet a chunk without one.
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        self.assertEqual(text, "The answer is forty-two, naturally.")

    def test_stream_with_usage(self):
        options = {"include_usage": True}
        stream = client().chat.completions.create(
            model=MODEL, messages=HI, stream=True, stream_options=options
        )
        self.assertEqual(list(stream)[-1].usage.completion_tokens, 8)

    def test_many_streams_on_one_client(self):
        shared = client()
        for _ in range(20):
            stream = shared.chat.completions.create(model=MODEL, messages=HI, stream=True)
            self.assertEqual(len([chunk for chunk in stream if chunk.choices[0].delta.content]), 8)

    def test_tools_streamed(self):
        with client().chat.completions.stream(model=MODEL, messages=HI, tools=[TOOL]) as stream:
            call = stream.get_final_completion().choices[0].message.tool_calls[0]
        self.assertEqual(call.function.name, "weather")
        self.assertEqual(json.loads(call.function.arguments), {"city": "Paris"})

    def test_structured_output(self):
        parsed = client().chat.completions.parse(
            model=MODEL, messages=HI, response_format=Answer
        )
        self.assertEqual(parsed.choices[0].message.parsed, Answer(answer=42))

    def test_legacy_completions(self):
        answer = client().completions.create(model=MODEL, prompt="hi", max_tokens=2)
        self.assertEqual(answer.choices[0].text, "The answer")
        chunks = client().completions.create(model=MODEL, prompt="hi", stream=True)
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks)[:10], "The answer")


class Others(unittest.TestCase):
    def test_embeddings(self):
        # The SDK asks for base64 unless told otherwise, and decodes it.
        coded = client().embeddings.create(model="all-minilm", input=["a", "b"])
        plain = client().embeddings.create(model="all-minilm", input=["a", "b"], encoding_format="float")
        self.assertEqual(len(coded.data), 2)
        for ours, theirs in zip(coded.data[1].embedding, plain.data[1].embedding):
            self.assertAlmostEqual(ours, theirs, places=5)

    def test_models(self):
        names = [model.id for model in client().models.list()]
        self.assertIn(MODEL, names)
        self.assertIn("assistant", names)
        self.assertEqual(client().models.retrieve(MODEL).id, MODEL)

    def test_route(self):
        answer = client().chat.completions.create(model="assistant", messages=HI)
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_responses(self):
        answer = client().responses.create(model=MODEL, input="hi")
        self.assertEqual(answer.output_text, "The answer is forty-two, naturally.")
        events = list(client().responses.create(model=MODEL, input="hi", stream=True))
        self.assertEqual(events[-1].type, "response.completed")
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        self.assertEqual("".join(deltas), answer.output_text)
        with client().responses.stream(model=MODEL, input="hi", reasoning={"effort": "low"}) as stream:
            self.assertEqual(stream.get_final_response().output_text, answer.output_text)


class Errors(unittest.TestCase):
    def raises(self, kind, status, **arguments):
        with self.assertRaises(kind) as caught:
            client(**arguments).chat.completions.create(model=MODEL, messages=HI)
        self.assertEqual(caught.exception.status_code, status)
        self.assertTrue(caught.exception.message)
        return caught.exception

    def test_each_status_has_its_class(self):
        refused = [
            (400, openai.BadRequestError),
            (403, openai.PermissionDeniedError),
            (404, openai.NotFoundError),
            (422, openai.UnprocessableEntityError),
            (429, openai.RateLimitError),
            (500, openai.InternalServerError),
            (503, openai.InternalServerError),
        ]
        for status, kind in refused:
            body = json.dumps({"error": {"message": "no", "type": "x", "param": None, "code": None}})
            script({"status": [status, body]})
            self.assertIn("no", self.raises(kind, status).message)

    def test_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            client().chat.completions.create(model="nope", messages=HI)
        self.assertEqual(caught.exception.code, "model_not_found")

    def test_keys(self):
        wrong = self.raises(openai.AuthenticationError, 401, base=KEYED, key="wrong")
        self.assertEqual(wrong.code, "invalid_api_key")
        with self.assertRaises(openai.PermissionDeniedError):
            client(KEYED, KEY).embeddings.create(model="all-minilm", input="x")
        client(KEYED, KEY).chat.completions.create(model=MODEL, messages=HI)

    def test_too_large(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            big = [{"role": "user", "content": "x" * (3 << 20)}]
            client(KEYED, KEY).chat.completions.create(model=MODEL, messages=big)
        self.assertEqual(caught.exception.status_code, 413)

    def test_retry_after_is_obeyed(self):
        script({"status_retry": [429, 1]})
        since = time.monotonic()
        client(retries=1).chat.completions.create(model=MODEL, messages=HI)
        self.assertGreater(time.monotonic() - since, 0.9)

    def test_a_cut_stream_raises(self):
        for fault in ({"cut_after": 3}, {"crash_after": 3}, {"end_after": 3}, {"error_after": 3}):
            script(fault)
            got = []
            with self.assertRaises(openai.APIError):
                for chunk in client().chat.completions.create(model=MODEL, messages=HI, stream=True):
                    got.append(chunk)
            self.assertGreaterEqual(len(got), 3)

    def test_a_cut_responses_stream_raises(self):
        script({"end_after": 3})
        with self.assertRaises(openai.APIError):
            list(client().responses.create(model=MODEL, input="hi", stream=True))


class Leaving(unittest.TestCase):
    def test_closing_a_stream_stops_the_upstream(self):
        before = seen()["aborted"]
        script({"stall_after": 2})
        stream = client().chat.completions.create(model=MODEL, messages=HI, stream=True)
        next(iter(stream))
        stream.close()
        until = time.monotonic() + 10
        while seen()["aborted"] == before and time.monotonic() < until:
            time.sleep(0.02)
        self.assertEqual(seen()["aborted"], before + 1)

    def test_a_timeout_stops_the_upstream(self):
        before = seen()["aborted"]
        script({"slow_first": 30000})
        with self.assertRaises(openai.APITimeoutError):
            client().with_options(timeout=0.3).chat.completions.create(model=MODEL, messages=HI)
        until = time.monotonic() + 10
        while seen()["aborted"] == before and time.monotonic() < until:
            time.sleep(0.02)
        self.assertEqual(seen()["aborted"], before + 1)


if __name__ == "__main__":
    unittest.main()
