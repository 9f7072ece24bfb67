// Calls a gateway with OpenAI's SDK for Node, with its default settings but for the base URL.
//
// usage: node clients.mjs BASE_URL [calls concurrency]
//
// With calls and concurrency, it makes so many chat completions, so many at a time, and nothing else. The SDK is found from the directory of
// this file.
import OpenAI from "openai";

const [base, calls, concurrency] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base + "/v1", apiKey: "sk-test" });
const messages = [{ role: "user", content: "hello" }];

function check(name, ok, got) {
  if (!ok) {
    console.error(name, JSON.stringify(got));
    process.exit(1);
  }
  console.log(name);
}

if (calls) {
  let left = Number(calls);
  let answered = 0;
  const caller = async () => {
    while (left-- > 0) {
      const a = await client.chat.completions.create({ model: "demo", messages });
      if (a.choices[0].message.content) answered++;
    }
  };
  await Promise.all(Array.from({ length: Number(concurrency) }, caller));
  check(`${calls} calls`, answered === Number(calls), answered);
  process.exit(0);
}

let a = await client.chat.completions.create({ model: "demo", messages, max_tokens: 20 });
check("openai-node chat", a.choices[0].message.content && a.usage.completion_tokens === 20, a);
const words = [];
for await (const c of await client.chat.completions.create({ model: "demo", messages, max_tokens: 20, stream: true })) {
  if (c.choices.length && c.choices[0].delta.content) words.push(c.choices[0].delta.content);
}
check("openai-node chat stream", words.length > 1, words);
a = await client.embeddings.create({ model: "demo", input: "hello" });
check("openai-node embedding", a.data[0].embedding.length > 0, a);
a = await client.responses.create({ model: "demo", input: "hello", max_output_tokens: 20 });
check("openai-node response", a.output_text, a);
const events = [];
for await (const e of await client.responses.create({ model: "demo", input: "hello", max_output_tokens: 20, stream: true })) events.push(e.type);
check("openai-node response stream", ["response.completed", "response.incomplete"].includes(events.at(-1)), events);
const ids = [];
for await (const m of client.models.list()) ids.push(m.id);
check("openai-node models", ids.includes("demo"), ids);
try {
  await client.chat.completions.create({ model: "demo", messages, n: "bad" }, { path: "/nowhere/../x" });
} catch (e) {
  check("openai-node error", e instanceof OpenAI.APIError, e);
}
