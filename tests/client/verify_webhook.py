"""Verifies a delivery as docs/webhooks.md says.

    verify_webhook.py SECRET < HEADERS_AND_BODY

The input is JSON: {"headers": {...}, "body": "..."}.
"""

import base64
import hashlib
import hmac
import json
import sys
import time


def verify(headers, body, secret):
    """`body` as it came, in bytes. Raises if it is not from who knows `secret`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    if not any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split(" ")):
        raise ValueError("not signed with this secret")
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        raise ValueError("too old")


if __name__ == "__main__":
    TAKEN = json.load(sys.stdin)
    verify(TAKEN["headers"], TAKEN["body"].encode(), sys.argv[1])
    print(json.loads(TAKEN["body"])["type"])
