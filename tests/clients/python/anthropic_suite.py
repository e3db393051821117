"""The official Anthropic Python SDK against the gateway, for a model that is run with a `num_ctx`.

Environment: as for suite.py.
"""

import json
import os
import unittest
import urllib.request

import anthropic

GATEWAY = os.environ["GATEWAY"].removesuffix("/v1")
KEYED = os.environ["KEYED"].removesuffix("/v1")
KEY = os.environ["KEY"]
SIMULATOR = os.environ["SIMULATOR"]
MODEL = "llama3.2:3b"
HI = [{"role": "user", "content": "hi"}]
TOOL = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def client(base=GATEWAY, key="unused"):
    return anthropic.Anthropic(base_url=base, api_key=key, max_retries=0, timeout=20)


def last():
    """What the upstream was sent last, and where."""
    last = json.load(urllib.request.urlopen(SIMULATOR + "/_seen"))["last"]
    return last["path"], json.loads(last["body"])


def script(*faults):
    body = json.dumps(faults).encode()
    urllib.request.urlopen(urllib.request.Request(SIMULATOR + "/_faults", data=body, method="POST"))


class Messages(unittest.TestCase):
    def ask(self, **more):
        return client().messages.create(model=MODEL, max_tokens=64, **{"messages": HI, **more})

    def test_text(self):
        message = self.ask(system="Be brief.", stop_sequences=["END"])
        self.assertEqual(message.content[0].type, "text")
        self.assertTrue(message.content[0].text)
        self.assertEqual((message.stop_reason, message.role), ("end_turn", "assistant"))
        self.assertGreater(message.usage.input_tokens, 0)
        self.assertGreater(message.usage.output_tokens, 0)
        path, body = last()
        self.assertEqual(path, "/api/chat")
        self.assertEqual(body["options"]["num_ctx"], 16384)
        self.assertEqual(body["options"]["stop"], ["END"])
        self.assertEqual(body["messages"][0], {"role": "system", "content": "Be brief."})

    def test_limit(self):
        message = client().messages.create(model=MODEL, max_tokens=2, messages=HI)
        self.assertEqual(message.stop_reason, "max_tokens")

    def test_stream(self):
        whole = self.ask().content[0].text
        with client().messages.stream(model=MODEL, max_tokens=64, messages=HI) as stream:
            self.assertEqual("".join(stream.text_stream), whole)
            message = stream.get_final_message()
        self.assertEqual(message.stop_reason, "end_turn")
        self.assertGreater(message.usage.output_tokens, 0)

    def test_thinking(self):
        thinking = {"type": "enabled", "budget_tokens": 1024}
        with client().messages.stream(
            model=MODEL, max_tokens=2048, messages=HI, thinking=thinking
        ) as stream:
            message = stream.get_final_message()
        self.assertEqual([block.type for block in message.content], ["thinking", "text"])
        self.assertTrue(message.content[0].thinking)
        # What the model thought goes back with the next turn.
        turn = [*HI, {"role": "assistant", "content": message.content}, *HI]
        self.ask(messages=turn)
        self.assertEqual(last()[1]["messages"][1]["thinking"], message.content[0].thinking)

    def test_a_tool_is_called_and_its_result_taken(self):
        for streamed in [False, True]:
            if streamed:
                with client().messages.stream(
                    model=MODEL, max_tokens=64, messages=HI, tools=[TOOL]
                ) as stream:
                    message = stream.get_final_message()
            else:
                message = self.ask(tools=[TOOL])
            self.assertEqual(message.stop_reason, "tool_use")
            call = message.content[-1]
            self.assertEqual((call.type, call.name, type(call.input)), ("tool_use", "weather", dict))
            self.assertTrue(call.input)
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "42 degrees"}
            turn = [
                *HI,
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": [result, {"type": "text", "text": "so?"}]},
            ]
            self.ask(messages=turn)
            sent = last()[1]["messages"]
            self.assertEqual([one["role"] for one in sent], ["user", "assistant", "tool", "user"])
            self.assertEqual(sent[1]["tool_calls"][0]["function"]["arguments"], call.input)
            self.assertEqual(sent[2]["tool_call_id"], call.id)

    def test_tokens_are_counted(self):
        count = client().messages.count_tokens(model=MODEL, messages=HI)
        self.assertGreater(count.input_tokens, 0)

    def test_errors_are_of_the_kinds_that_programs_expect(self):
        with self.assertRaises(anthropic.BadRequestError) as raised:
            self.ask(messages=[{"role": "user", "content": "word " * 20000}])
        self.assertEqual(raised.exception.body["type"], "error")
        self.assertEqual(raised.exception.body["error"]["type"], "invalid_request_error")
        with self.assertRaises(anthropic.NotFoundError):
            client().messages.create(model="nobody:1b", max_tokens=8, messages=HI)
        with self.assertRaises(anthropic.AuthenticationError):
            client(KEYED, "wrong").messages.create(model=MODEL, max_tokens=8, messages=HI)
        message = client(KEYED, KEY).messages.create(model=MODEL, max_tokens=8, messages=HI)
        self.assertEqual(message.type, "message")

    def test_a_stream_that_breaks_off_raises(self):
        script({"crash_after": 2})
        with self.assertRaises(anthropic.APIError):
            with client().messages.stream(model=MODEL, max_tokens=64, messages=HI) as stream:
                stream.get_final_message()


if __name__ == "__main__":
    unittest.main()
