#!/usr/bin/env python3
"""Prints every statement of the registry that a PostgreSQL log has, once and in order: queries.py LOG."""

import re
import sys

STATEMENT = re.compile(r"LOG:  duration: [0-9.]+ ms  (?:execute [^:]*|statement): (.*)")
# What the registry's own code sends; tests and the programs of PostgreSQL send others.
QUERY = re.compile(r'(?:SELECT|INSERT INTO|UPDATE|DELETE FROM) .*"(\w+)"')


def statements(lines):
    current = None
    for line in lines:
        found = STATEMENT.search(line)
        if found:
            if current is not None:
                yield current
            current = found.group(1)
        elif line.startswith("\t") and current is not None:
            current += " " + line.strip()
        elif current is not None:
            yield current
            current = None
    if current is not None:
        yield current


def shape(query):
    # A list of values is the same query however long it is.
    query = re.sub(r"IN \((\$\d+)(?:, \$\d+)*\)", r"IN (\1)", query)
    query = re.sub(r"(VALUES \([^()]*\))(?:, \([^()]*\))+", r"\1", query)
    numbers = {}
    return re.sub(r"\$\d+", lambda found: numbers.setdefault(found.group(), f"${len(numbers) + 1}"), query)


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        found = {shape(query) for query in statements(log)}
    skipped = ("seaql_migrations", "information_schema", "pg_catalog", "pg_type", "count(*) AS n")
    kept = [query for query in found if QUERY.match(query) and not any(word in query for word in skipped)]
    print("\n".join(sorted(kept)))


main()
