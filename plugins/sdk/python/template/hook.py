"""Puts the name that the configuration gives into prompts and below answers."""

import souk_hook
from name import name
from souk_hook import each_text, replaced, rewritten
from wit_world import exports
from wit_world.exports import prompt

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "description": 'Who is meant by "my name"; nobody if nothing is said.'}},
    "additionalProperties": False,
}


class Describe(exports.Describe):
    def get(self):
        return souk_hook.description("my-hook", "0.1.0", "Puts a name into prompts and below answers.", SCHEMA)


class Prompt(exports.Prompt):
    def on_prompt(self, request):
        is_changed = each_text(request, lambda text: text.replace("my name", name()))
        return rewritten(request) if is_changed else prompt.Outcome_Unchanged()


class Answer(exports.Answer):
    def on_answer(self, answer):
        return replaced(f"{answer.text}\n{name()}", answer)
