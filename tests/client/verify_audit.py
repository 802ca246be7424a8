"""Verifies an export of audit entries, and that published heads are met, by what docs/audit.md says and nothing else.

    verify_audit.py EXPORT [HEADS]
"""

import hashlib
import json
import sys


def text(value):
    """JSON as the hash has it: no spaces, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def hash_of(before, chain, entry):
    lines = [
        "souk-audit-1",
        before,
        chain,
        str(entry["number"]),
        str(entry["at_ms"]),
        entry["actor_kind"],
        entry["actor_id"],
        entry["actor_key"] or "",
        entry["action"],
        text(entry["subject"]),
        text(text(entry["details"])),
    ]
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def verify(export, heads):
    *lines, nothing = export.split("\n")
    assert nothing == "", "cut off"
    first, *entries, last = [json.loads(line) for line in lines]
    assert first["souk_audit"] == 1, "no export"
    chain, number, before = first["chain"], first["after"], first["after_hash"]
    published = {head["number"]: head["hash"] for head in heads if head["chain"] == chain}
    if number == 0:
        assert before == "0" * 64, "the first entry follows zeros"
    elif published:
        assert published.get(number) == before, f"entries up to {number} are missing"
    for entry in entries:
        number += 1
        assert entry["number"] == number, f"entry {number} is missing, or another was put in"
        assert hash_of(before, chain, entry) == entry["hash"], f"entry {number} was changed"
        before = entry["hash"]
        assert published.get(number, before) == before, f"entry {number} has another hash than its published head"
    assert last == {"end": number, "hash": before}, "cut off"
    assert max(published, default=0) <= number, "cut off before a published head"
    return number


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8", newline="\n") as file:
        EXPORT = file.read()
    HEADS = []
    if len(sys.argv) > 2:
        with open(sys.argv[2], encoding="utf-8") as file:
            HEADS = [json.loads(line) for line in file]
    print(f"{verify(EXPORT, HEADS)} entries fit")
