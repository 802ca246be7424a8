// Puts the name that the configuration gives into prompts and below answers.
import { configuration, description, eachText, replaced, rewritten, send, unchanged } from "./souk-hook.js";

export const describe = description("my-hook", "0.1.0", "Puts a name into prompts and below answers.", {
  type: "object",
  properties: { name: { type: "string", description: 'Who is meant by "my name"; nobody if nothing is said.' } },
  additionalProperties: false,
});

const name = () => configuration().name ?? "nobody";

export const prompt = {
  onPrompt(request) {
    return eachText(request, (text) => text.replaceAll("my name", name())) ? rewritten(request) : unchanged;
  },
};

export const answer = {
  onAnswer: ({ text }) => replaced(`${text}\n${name()}`),
};

class Transformer {
  push(piece) {
    return send(piece.text);
  }

  finish() {
    return send(`\n${name()}`);
  }
}

export const stream = { Transformer };
