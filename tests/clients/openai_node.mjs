// What the `openai` package for Node gets from a gateway; one line of JSON for each case.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const model = "bank";
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];

const cases = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages });
    return answer.choices[0].message.content;
  },
  async stream() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    let text = "";
    for await (const part of stream) text += part.choices[0]?.delta?.content ?? "";
    return text;
  },
  async usage() {
    const options = { include_usage: true };
    const stream = await client.chat.completions.create({
      model, messages, stream: true, stream_options: options,
    });
    let usage = null;
    for await (const part of stream) usage = part.usage ?? usage;
    return usage.total_tokens;
  },
  async completion() {
    return (await client.completions.create({ model, prompt: "p" })).choices[0].text;
  },
  async completionStream() {
    const stream = await client.completions.create({ model, prompt: "p", stream: true });
    let text = "";
    for await (const part of stream) text += part.choices[0]?.text ?? "";
    return text;
  },
  async plainTools() {
    const answer = await client.chat.completions.create({ model, messages, tools });
    const call = answer.choices[0].message.tool_calls[0];
    const result = { role: "tool", tool_call_id: call.id, content: "sunny" };
    const said = [...messages, answer.choices[0].message, result];
    const then = await client.chat.completions.create({ model, messages: said });
    return [call.function.name, JSON.parse(call.function.arguments).city, then.choices[0].message.content];
  },
  async tools() {
    const runner = client.chat.completions.stream({ model, messages, tools });
    const final = await runner.finalChatCompletion();
    return final.choices[0].message.tool_calls[0].function.arguments;
  },
  async structured() {
    const schema = { type: "object", properties: { intent: { type: "string" } } };
    const response_format = { type: "json_schema", json_schema: { name: "intent", schema } };
    const answer = await client.chat.completions.create({ model, messages, response_format });
    return JSON.parse(answer.choices[0].message.content).intent;
  },
  async embeddings() {
    const made = await client.embeddings.create({ model, input: ["x", "y"], encoding_format: "float" });
    return made.data.map((each) => each.embedding);
  },
  async responses() {
    return (await client.responses.create({ model, input: "hi" })).output_text;
  },
  async responsesStream() {
    let text = "";
    const stream = await client.responses.create({ model, input: "hi", stream: true });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    return text;
  },
  async missing() {
    try {
      await client.chat.completions.create({ model: "nobody", messages });
    } catch (error) {
      return [error.constructor.name, error.status, error.code];
    }
  },
  async unauthorized() {
    try {
      await new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list();
    } catch (error) {
      return [error.constructor.name, error.status];
    }
  },
  async refused() {
    const long = [{ role: "user", content: "long" }];
    try {
      await client.chat.completions.create({ model, messages: long });
    } catch (error) {
      return [error.constructor.name, error.status, error.code];
    }
  },
  async broken() {
    const breaking = [{ role: "user", content: "breaking" }];
    const stream = await client.chat.completions.create({ model, messages: breaking, stream: true });
    let text = "";
    try {
      for await (const part of stream) text += part.choices[0]?.delta?.content ?? "";
    } catch (error) {
      return [text, error instanceof OpenAI.APIError, error.code];
    }
  },
  async leftAlone() {
    const waiting = [{ role: "user", content: "waiting" }];
    const abort = new AbortController();
    const asking = client.chat.completions.create({ model, messages: waiting }, { signal: abort.signal });
    setTimeout(() => abort.abort(), 300);
    try {
      await asking;
    } catch (error) {
      return error.constructor.name;
    }
  },
  async retried() {
    const patient = new OpenAI({ baseURL, apiKey, maxRetries: 2 });
    const busy = [{ role: "user", content: "busy" }];
    return (await patient.chat.completions.create({ model, messages: busy })).choices[0].message.content;
  },
  async cancelled() {
    const endless = [{ role: "user", content: "endless" }];
    const stream = await client.chat.completions.create({ model, messages: endless, stream: true });
    for await (const part of stream) {
      stream.controller.abort();
    }
    return true;
  },
};

for (const [name, run] of Object.entries(cases)) {
  try {
    console.log(JSON.stringify([name, await run()]));
  } catch (error) {
    console.log(JSON.stringify([name, { failed: String(error) }]));
  }
}
