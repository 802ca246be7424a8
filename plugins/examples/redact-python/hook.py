"""Replaces words in requests and in answers; across the pieces of a stream as well."""

import souk_hook
from souk_hook import each_text, replace_all, replaced, rewritten
from wit_world import exports
from wit_world.exports import prompt
from words import pairs

SCHEMA = {
    "type": "object",
    "properties": {
        "words": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "description": "What is replaced, exactly as it is written. Where several begin at a place, the one that is listed first.",
        },
        "mark": {"type": "string", "description": "What stands in their place; [redacted] if nothing is said."},
    },
    "required": ["words"],
    "additionalProperties": False,
}


class Describe(exports.Describe):
    def get(self):
        return souk_hook.description("redact-python", "0.1.0", "Replaces words before the model and after it.", SCHEMA)


class Prompt(exports.Prompt):
    def on_prompt(self, request):
        words = pairs()
        return rewritten(request) if each_text(request, lambda text: replace_all(words, text)) else prompt.Outcome_Unchanged()


class Answer(exports.Answer):
    def on_answer(self, answer):
        return replaced(replace_all(pairs(), answer.text), answer)
