"""Answers that are sent piece by piece: componentize-py looks for the class in a module of the interface's name."""

from souk_hook import replace, send
from wit_world.exports import stream
from words import pairs


class Transformer(stream.Transformer):
    def __init__(self, opening):
        self.pairs = pairs()
        self.held = ""

    def push(self, piece):
        return self.go(piece.text, False)

    def finish(self, ending):
        return self.go("", True)

    def go(self, text, is_last):
        """Sends what cannot be the beginning of a word."""
        sent, self.held = replace(self.pairs, self.held + text, is_last)
        return send(sent)
