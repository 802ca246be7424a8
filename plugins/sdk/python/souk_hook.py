"""Hooks of Souk in Python: short ways to say what hooks say most. What each interface means is said in hooks.wit.

A module has a class for each interface that it exports: `Describe`, and any of `Prompt`, `Answer` and, for streams, `Transformer`.
"""

import json
from typing import Callable

from wit_world.exports import answer as _answer
from wit_world.exports import describe as _describe
from wit_world.exports import prompt as _prompt
from wit_world.exports import stream as _stream
from wit_world.imports import config as _config
from wit_world.imports import types

Pairs = list[tuple[str, str]]


def configuration() -> dict:
    """How the hook was configured where it was attached; empty if it was not."""
    return json.loads(_config.get())


def description(name: str, version: str, summary: str, config_schema: dict | None = None) -> _describe.Description:
    """What a hook says of itself."""
    return _describe.Description(name, version, summary, None if config_schema is None else json.dumps(config_schema))


def rewritten(request: types.Request, carry: bytes = b"") -> _prompt.Outcome:
    """The request goes on as this one; the carry is for the same hook's answer and stream."""
    return _prompt.Outcome_Rewritten(_prompt.Rewritten(request, carry))


def answered(text: str) -> _prompt.Outcome:
    """The model is not asked: this is every answer."""
    return _prompt.Outcome_Answered(text)


def refused(status: int, message: str) -> _prompt.Outcome:
    """The request is refused."""
    return _prompt.Outcome_Refused(types.Refusal(status, message))


def replaced(text: str, whole: _answer.Whole) -> _answer.Outcome:
    """This text is sent, unless it is the answer's own."""
    return _answer.Outcome_Unchanged() if text == whole.text else _answer.Outcome_Replaced(text)


def send(text: str) -> _stream.Step:
    """Send this and go on."""
    return _stream.Step_Send(text)


def end(text: str) -> _stream.Step:
    """Send this and end the answer."""
    return _stream.Step_End(text)


def each_text(request: types.Request, change: Callable[[str], str]) -> bool:
    """Puts what `change` makes of each text of a request in its place. Says whether any is different now."""
    if isinstance(request.input, types.Input_Text):
        places = [(request.input, "value")]
    else:
        places = [(message, "content") for message in request.input.value if message.content is not None]
    is_changed = False
    for holder, name in places:
        text = getattr(holder, name)
        changed = change(text)
        is_changed |= changed != text
        setattr(holder, name, changed)
    return is_changed


def replace(pairs: Pairs, text: str, is_last: bool) -> tuple[str, str]:
    """Replaces each first of a pair by its second: from left to right, and where several begin at a place the one that is listed first.

    Unless the text is the last, it is decided up to where something may begin that is not all there yet: what is sent, and what is held.
    """
    sent = []
    at = 0
    while at < len(text):
        for this, by in pairs:
            if this and text.startswith(this, at):
                sent.append(by)
                at += len(this)
                break
            if this and not is_last and this.startswith(text[at:]):
                return "".join(sent), text[at:]
        else:
            sent.append(text[at])
            at += 1
    return "".join(sent), ""


def replace_all(pairs: Pairs, text: str) -> str:
    """Replaces them in a whole text."""
    return replace(pairs, text, True)[0]
