// Hooks of Souk in JavaScript: short ways to say what hooks say most. What each interface means is said in hooks.wit.
//
// A module exports what it has: `describe` (with `description` below), and any of `prompt`, `answer` and `stream`. Names are those of
// hooks.wit in camel case, variants are `{ tag, val }`. Numbers are doubles: a seed above 2^53 loses its last digits.
import config from "souk:hooks/config@0.1.0";

/** How the hook was configured where it was attached; an empty object if it was not. */
export const configuration = () => JSON.parse(config.get());

/** What a hook says of itself: `export const describe = description("redact", "1.0.0", "Replaces words.", schema)`. */
export const description = (name, version, summary, configSchema = null) => ({
  get: () => ({ name, version, summary, configSchema: configSchema && JSON.stringify(configSchema) }),
});

/** The largest double below 2^64. */
const LARGEST_SEED = 18446744073709549568;

export const unchanged = { tag: "unchanged" };
/** The request goes on as this one; the carry, a text, is for the same hook's `answer` and `stream`. */
export function rewritten(request, carry = "") {
  const { parameters } = request;
  // The largest seeds are rounded to one that is none; the largest that a double can be goes back in its place.
  if (parameters.seed > LARGEST_SEED) parameters.seed = LARGEST_SEED;
  return { tag: "rewritten", val: { request, carry: toBytes(carry) } };
}
/** The model is not asked: this is every answer. */
export const answered = (text) => ({ tag: "answered", val: text });
export const replaced = (text) => ({ tag: "replaced", val: text });
export const refused = (status, message) => ({ tag: "refused", val: { status, message } });

/** What to do after a piece of a stream. */
export const send = (text) => ({ tag: "send", val: text });
export const end = (text) => ({ tag: "end", val: text });
export const refuse = (status, message) => ({ tag: "refuse", val: { status, message } });

/** Puts what `change` makes of each text of a request in its place. Says whether any is different now. */
export function eachText(request, change) {
  let isChanged = false;
  const put = (text) => {
    const changed = change(text);
    isChanged ||= changed !== text;
    return changed;
  };
  const { input } = request;
  if (input.tag === "text") {
    input.val = put(input.val);
  } else {
    for (const message of input.val) {
      if (message.content !== null && message.content !== undefined) message.content = put(message.content);
    }
  }
  return isChanged;
}

/**
 * Replaces each `from` of pairs `[from, to]` by its `to`: from left to right, and where several begin at a place the one that is listed
 * first. Unless the text is the last, it is decided up to where something may begin that is not all there yet: `{ sent, held }`.
 */
export function replace(pairs, text, isLast) {
  let sent = "";
  let at = 0;
  walk: while (at < text.length) {
    for (const [from, to] of pairs) {
      if (from === "") continue;
      if (text.startsWith(from, at)) {
        sent += to;
        at += from.length;
        continue walk;
      }
      if (!isLast && from.startsWith(text.slice(at))) break walk;
    }
    sent += text[at];
    at += 1;
  }
  return { sent, held: text.slice(at) };
}

/** Replaces them in a whole text. */
export const replaceAll = (pairs, text) => replace(pairs, text, true).sent;

/** A text as UTF-8. */
export const toBytes = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (byte) => byte.charCodeAt(0));
/** UTF-8 as a text. */
export const toText = (bytes) => decodeURIComponent(escape(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
