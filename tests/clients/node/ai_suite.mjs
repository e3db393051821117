// Vercel's AI SDK against the gateway, by OpenAI's Responses API, its default. Environment as for the Python
// suite; the model's route has a context of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { GATEWAY, MODULES } = process.env;
const resolve = createRequire(`${MODULES}/`).resolve;
const load = (name) => import(pathToFileURL(resolve(name)).href);
const { createOpenAI } = await load("@ai-sdk/openai");
const { generateText, Output, stepCountIs, streamText, tool } = await load("ai");
const { z } = await load("zod");

const TEXT = "The answer is forty-two, naturally.";
const ask = {
  model: createOpenAI({ baseURL: GATEWAY, apiKey: "unused" })("llama3.2:3b"),
  prompt: "hi",
  maxRetries: 0,
  // Nothing is stored that an item could be named by.
  providerOptions: { openai: { store: false } },
};
const weather = tool({
  description: "Tells the weather",
  inputSchema: z.object({}).loose(),
  execute: async () => "fair",
});

test("whole", async () => {
  const { text, finishReason, usage } = await generateText(ask);
  assert.deepEqual([text, finishReason], [TEXT, "stop"]);
  assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
});

test("streamed", async () => {
  const deltas = [];
  const { textStream, finishReason } = streamText({ ...ask, onError: ({ error }) => assert.fail(error) });
  for await (const delta of textStream) deltas.push(delta);
  assert.ok(deltas.length > 1);
  assert.equal(deltas.join(""), TEXT);
  assert.equal(await finishReason, "stop");
});

test("cut by its limit", async () => {
  const cut = { ...ask, maxOutputTokens: 2 };
  assert.equal((await generateText(cut)).finishReason, "length");
  assert.equal(await streamText(cut).finishReason, "length");
});

test("tools, whole and streamed, with their results", async () => {
  const tools = { ...ask, tools: { weather }, stopWhen: stepCountIs(2) };
  const streamed = streamText({ ...tools, onError: ({ error }) => assert.fail(error) });
  await streamed.consumeStream();
  for (const steps of [(await generateText(tools)).steps, await streamed.steps]) {
    assert.equal(steps.length, 2);
    assert.deepEqual(steps.map(({ toolResults }) => toolResults[0]?.output), ["fair", "fair"]);
  }
});

test("an object", async () => {
  const output = Output.object({ schema: z.object({ answer: z.number() }) });
  const answer = await generateText({ ...ask, output });
  assert.deepEqual(answer.output, { answer: 42 });
});
