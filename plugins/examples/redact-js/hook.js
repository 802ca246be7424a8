// Replaces words in requests and in answers; across the pieces of a stream as well.
import { configuration, description, eachText, replace, replaceAll, replaced, rewritten, send, unchanged } from "./souk-hook.js";

export const describe = description("redact-js", "0.1.0", "Replaces words before the model and after it.", {
  type: "object",
  properties: {
    words: {
      type: "array",
      items: { type: "string", minLength: 1 },
      description: "What is replaced, exactly as it is written. Where several begin at a place, the one that is listed first.",
    },
    mark: { type: "string", description: "What stands in their place; [redacted] if nothing is said." },
  },
  required: ["words"],
  additionalProperties: false,
});

export const prompt = {
  onPrompt(request) {
    const pairs = wordsAndMark();
    return eachText(request, (text) => replaceAll(pairs, text)) ? rewritten(request) : unchanged;
  },
};

export const answer = {
  onAnswer({ text }) {
    const changed = replaceAll(wordsAndMark(), text);
    return changed === text ? unchanged : replaced(changed);
  },
};

class Transformer {
  constructor() {
    this.pairs = wordsAndMark();
    this.held = "";
  }

  push(piece) {
    return this.go(piece.text, false);
  }

  finish() {
    return this.go("", true);
  }

  /** Sends what cannot be the beginning of a word. */
  go(text, isLast) {
    const { sent, held } = replace(this.pairs, this.held + text, isLast);
    this.held = held;
    return send(sent);
  }
}

export const stream = { Transformer };

/** The words, each with what stands in its place. */
function wordsAndMark() {
  const { words = [], mark = "[redacted]" } = configuration();
  return words.map((word) => [word, mark]);
}
