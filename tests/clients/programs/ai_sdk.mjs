// Drives the AI SDK through the provider that is named: "openai" (its chats), "responses" (what it asks by
// default) or "compatible".
// Reads what to ask from its input, prints JSON.
import { readFileSync } from "node:fs";
import { generateText, jsonSchema, streamText, tool } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const given = JSON.parse(readFileSync(0, "utf8"));
const responses = process.argv[2] === "responses";
const ofOpenAI = process.argv[2] === "openai" || responses;
const server = { name: "tokenlink", baseURL: given.url, apiKey: "none", includeUsage: true };
const chats = ofOpenAI ? (name) => createOpenAI(server).chat(name) : createOpenAICompatible(server);
const provider = responses ? createOpenAI(server) : chats;
const model = provider(given.model);
const user = { role: "user", content: given.asks.text };
const text = { model, maxRetries: 0, system: given.system, messages: [user] };
const shows = (name, part) => ({
  model, maxRetries: 0,
  messages: [{ role: "user", content: [{ type: "text", text: given.asks[name] }, part] }],
  // Else it refuses files that OpenAI's models do not read.
  ...responses && { providerOptions: { openai: { passThroughUnsupportedFiles: true } } },
});
const answer = async (asked) => ({ answer: (await generateText(asked)).text });
const { top_p: topP, ...sampled } = given.sampled;
const camera = given.tools[0].function;

const cases = {
  text: () => answer(text),
  picture: () => answer(shows("picture", { type: "image", image: Buffer.from(given.image, "base64") })),
  sound: () => answer(shows("sound", {
    type: "file", data: Buffer.from(given.sound, "base64"), mediaType: "audio/wav",
  })),
  video: async () => {
    try {
      return await answer(shows("video", {
        type: "file", data: Buffer.from(given.video, "base64"), mediaType: "video/mp4",
      }));
    } catch (error) {
      if (error.name === "AI_UnsupportedFunctionalityError") return { absent: error.message };
      throw error;
    }
  },
  stream: async () => {
    const found = streamText(text);
    let said = "";
    for await (const piece of found.textStream) said += piece;
    return { answer: said, tokens: (await found.usage).outputTokens };
  },
  tools: async () => {
    const found = await generateText({
      ...text,
      tools: { [camera.name]: tool({ description: camera.description, inputSchema: jsonSchema(camera.parameters) }) },
    });
    return { answer: found.text, calls: found.toolCalls.length };
  },
  history: () => answer({ model, maxRetries: 0, allowSystemInMessages: true, messages: [...given.history, user] }),
  ...responses && {
    again: async () => {
      // Else it refers to what the server has kept.
      const asked = { ...text, providerOptions: { openai: { store: false } } };
      const { messages } = (await generateText(asked)).response;
      return answer({ ...asked, messages: [user, ...messages, user] });
    },
  },
  sampled: () => responses ? { absent: "it sends no seed" } : answer({
    model, maxRetries: 0, messages: [{ role: "user", content: given.asks.open }], ...sampled, topP,
  }),
  stop: () => responses ? { absent: "it sends none" } : answer({ ...text, stopSequences: [given.stop] }),
  choices: () => ({ absent: "it asks for one answer" }),
  logprobs: async () => {
    if (!ofOpenAI) return { absent: "it asks for none" };
    const found = await generateText({ ...text, providerOptions: { openai: { logprobs: 2 } } });
    return { logprobs: found.providerMetadata.openai.logprobs.flat().map((each) => Math.round(each.logprob * 1e4) / 1e4) };
  },
  length: async () => ({ finish_reason: (await generateText({ ...text, maxOutputTokens: 1 })).finishReason }),
  refusal: async () => {
    try {
      await generateText({ ...text, model: provider("gpt-7") });
    } catch (error) {
      return { status: error.statusCode };
    }
    return { status: 200 };
  },
};
for (const [name, run] of Object.entries(cases)) {
  let found;
  try {
    found = await run();
  } catch (error) {
    found = { error: `${error.name}: ${error.message}`.slice(0, 300) };
  }
  console.log(JSON.stringify({ [name]: found }));
}
