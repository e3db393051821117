// The official OpenAI Node SDK against the gateway. Environment as for the Python suite.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { GATEWAY, KEYED, KEY, SIMULATOR, MODULES } = process.env;
const resolve = createRequire(`${MODULES}/`).resolve;
const { default: OpenAI } = await import(pathToFileURL(resolve("openai")).href);

const MODEL = "llama3.2:3b";
const messages = [{ role: "user", content: "hi" }];
const TEXT = "The answer is forty-two, naturally.";

const client = (baseURL = GATEWAY, apiKey = "unused") =>
  new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });

const script = (...faults) =>
  fetch(`${SIMULATOR}/_faults`, { method: "POST", body: JSON.stringify(faults) });
const aborted = async () => (await (await fetch(`${SIMULATOR}/_seen`)).json()).aborted;

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("chat, whole", async () => {
  const { data, response } = await client()
    .chat.completions.create({ model: MODEL, messages, max_completion_tokens: 4 })
    .withResponse();
  assert.equal(data.choices[0].message.content, "The answer is forty");
  assert.ok(response.headers.get("x-request-id"));
});

test("chat, streamed, many on one connection", async () => {
  const shared = client();
  for (let round = 0; round < 20; round++) {
    const chunks = await collect(
      await shared.chat.completions.create({ model: MODEL, messages, stream: true }),
    );
    assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), TEXT);
  }
});

test("usage in a stream, where asked for", async () => {
  const chunks = await collect(
    await client().chat.completions.create({
      model: MODEL,
      messages,
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
  assert.equal(chunks.at(-1).usage.completion_tokens, 8);
});

test("tools, streamed", async () => {
  const parameters = { type: "object", properties: { city: { type: "string" } } };
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  const stream = client().chat.completions.stream({ model: MODEL, messages, tools });
  const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
  assert.equal(call.function.name, "weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
});

test("structured output", async () => {
  const schema = { type: "object", properties: { answer: { type: "integer" } } };
  const answer = await client().chat.completions.create({
    model: MODEL,
    messages,
    response_format: { type: "json_schema", json_schema: { name: "answer", schema } },
  });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { answer: 42 });
});

test("embeddings in base64", async () => {
  const input = ["a", "b"];
  const coded = await client().embeddings.create({ model: "all-minilm", input });
  const plain = await client().embeddings.create({
    model: "all-minilm",
    input,
    encoding_format: "float",
  });
  coded.data[1].embedding.forEach((value, index) =>
    assert.ok(Math.abs(value - plain.data[1].embedding[index]) < 1e-5),
  );
});

test("models", async () => {
  const names = (await collect(await client().models.list())).map((model) => model.id);
  assert.ok(names.includes(MODEL) && names.includes("assistant"));
  assert.equal((await client().models.retrieve(MODEL)).id, MODEL);
});

test("responses", async () => {
  const answer = await client().responses.create({ model: MODEL, input: "hi" });
  assert.equal(answer.output_text, TEXT);
  const events = await collect(
    await client().responses.create({ model: MODEL, input: "hi", stream: true }),
  );
  assert.equal(events.at(-1).type, "response.completed");
});

test("a response as the SDK puts it together, thoughts and all", async () => {
  const asked = { model: MODEL, input: "hi", reasoning: { effort: "low" } };
  const answer = await client().responses.stream(asked).finalResponse();
  assert.equal(answer.output_text, TEXT);
  assert.equal(answer.status, "completed");
});

test("each status has its class", async () => {
  const classes = [
    [400, OpenAI.BadRequestError],
    [403, OpenAI.PermissionDeniedError],
    [404, OpenAI.NotFoundError],
    [422, OpenAI.UnprocessableEntityError],
    [429, OpenAI.RateLimitError],
    [500, OpenAI.InternalServerError],
    [503, OpenAI.InternalServerError],
  ];
  for (const [status, kind] of classes) {
    await script({ status: [status, JSON.stringify({ error: { message: "no" } })] });
    await assert.rejects(client().chat.completions.create({ model: MODEL, messages }), (error) => {
      assert.ok(error instanceof kind, `${status}: ${error.constructor.name}`);
      assert.match(error.message, /no/);
      return true;
    });
  }
});

test("keys and sizes", async () => {
  const ask = (key, content) =>
    client(KEYED, key).chat.completions.create({ model: MODEL, messages: [{ role: "user", content }] });
  await assert.rejects(ask("wrong", "hi"), OpenAI.AuthenticationError);
  assert.ok(await ask(KEY, "hi"));
  await assert.rejects(ask(KEY, "x".repeat(3 << 20)), (error) => error.status === 413);
});

test("a cut stream raises", async () => {
  for (const fault of [{ cut_after: 3 }, { crash_after: 3 }, { end_after: 3 }, { error_after: 3 }]) {
    await script(fault);
    const stream = await client().chat.completions.create({ model: MODEL, messages, stream: true });
    await assert.rejects(collect(stream), OpenAI.APIError);
  }
});

test("an abort stops the upstream", async () => {
  const before = await aborted();
  await script({ stall_after: 2 });
  const stream = await client().chat.completions.create({ model: MODEL, messages, stream: true });
  for await (const _ of stream) break;
  stream.controller.abort();
  const until = Date.now() + 10_000;
  while ((await aborted()) === before && Date.now() < until) {
    await new Promise((wake) => setTimeout(wake, 20));
  }
  assert.equal(await aborted(), before + 1);
});

test("an answer from the cache is what it was, whole and streamed", async () => {
  const ask = (stream) =>
    client()
      .chat.completions.create({
        model: MODEL,
        messages: [{ role: "user", content: "from the cache, in Node" }],
        temperature: 0,
        stream,
      })
      .withResponse();
  const first = await ask(false);
  const again = await ask(false);
  assert.equal(first.response.headers.get("x-cache"), "miss");
  assert.equal(again.response.headers.get("x-cache"), "hit-l1");
  const settled = ({ id, created, ...rest }) => rest;
  assert.deepEqual(settled(again.data), settled(first.data));
  const streamed = await ask(true);
  assert.equal(streamed.response.headers.get("x-cache"), "hit-l1");
  const chunks = await collect(streamed.data);
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), TEXT);
});
