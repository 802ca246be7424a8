"""Hooks that mean ill, of one tenant, while another asks the same: one stage at a time, through the official client."""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
from common import BASE, KEY, URL, client

enemy, neighbour = (client(os.environ[name]) for name in ("SOUK_ENEMY_KEY", "SOUK_NEIGHBOUR_KEY"))
QUESTION = os.environ.get("SOUK_QUESTION", "Name three colours.")


def options(**more):
    message = {"role": "user", "content": QUESTION}
    return {"model": BASE, "messages": [message], "temperature": 0, "max_tokens": 16, **more}


def whole(api):
    answer = api.chat.completions.create(**options())
    return answer.choices[0].message.content, answer.usage.prompt_tokens


def streamed(api):
    chunks = list(api.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options()))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return "".join(texts), chunks[-1].usage.prompt_tokens


def outcome(call, api):
    """What came of a call: an answer, or the fields of its error, wherever in the answer it came."""
    try:
        text, prompt_tokens = call(api)
        return {"text": text, "prompt_tokens": prompt_tokens}
    except openai.APIStatusError as error:
        return {"status": error.status_code, "code": error.body["code"], "message": error.body["message"]}
    except openai.APIError as error:
        return {"code": error.body["code"], "message": error.body["message"]}


def check(found, expected, alone):
    if expected == "as without":
        assert found == alone, (found, alone)
        return
    if "text" in expected:
        assert found.get("text") == expected["text"], (found, expected)
        return
    for field in ("status", "code"):
        assert field not in expected or found.get(field, expected[field]) == expected[field], (found, expected)
    assert "text" not in found and expected["contains"] in found["message"], (found, expected)


def beside():
    """What is expected of whole and streamed answers comes several times at once, and a neighbour gets what it got alone."""
    expected = json.loads(os.environ["SOUK_EXPECTED"])
    alone = {call: outcome(call, neighbour) for call in (whole, streamed)}
    assert all("text" in answer for answer in alone.values()), alone
    calls = [(call, expected[name]) for name, call in (("whole", whole), ("streamed", streamed))] * 2
    with ThreadPoolExecutor(8) as pool:
        hostile = [(pool.submit(outcome, call, enemy), wanted, alone[call]) for call, wanted in calls]
        peaceful = [(pool.submit(outcome, call, neighbour), alone[call]) for call in (whole, streamed) * 2]
        for found, wanted, answer in hostile:
            check(found.result(), wanted, answer)
        for found, answer in peaceful:
            assert found.result() == answer, (found.result(), answer)


def metric(name):
    with urllib.request.urlopen(f"{URL}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def wait_for(what, holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def long(api):
    return api.chat.completions.create(stream=True, extra_body={"ignore_eos": True}, **options(max_tokens=4000))


def registry(method, path, key, body=None):
    request = urllib.request.Request(f"{URL}/registry/v1{path}", method=method, headers={"authorization": f"Bearer {key}"})
    if body is not None:
        request.add_header("content-type", "application/json")
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def leaves():
    """A client that leaves in the middle of a stream gives back the place and the hook, and what was used is in a row."""
    stream = long(enemy)
    request = stream.response.headers["x-request-id"]
    pieces = iter(stream)
    texts = [next(pieces).choices[0].delta.content or "" for _ in range(4)]
    assert any(texts) and "".join(texts) == "".join(texts).upper(), texts
    assert metric("souk_hook_streams_open") == 1
    # One stream at once is all that was said for the tenant.
    busy = outcome(streamed, enemy)
    assert busy["status"] == 429 and "your other calls have taken your share" in busy["message"], busy
    stream.close()
    wait_for("the place of the stream is free", lambda: metric("souk_hook_streams_open") == 0)
    assert outcome(streamed, enemy)["text"].isupper()
    row = None

    def is_written():
        nonlocal row
        try:
            row = registry("GET", f"/usage/{request}", os.environ["SOUK_ENEMY_KEY"])
        except urllib.error.HTTPError as error:
            assert error.code == 404, error
        return row is not None

    wait_for("the row is written", is_written)
    [job], [hook] = row["jobs"], row["hooks"]
    assert job["outcome"] == "caller_left" and job["charged_output_tokens"] == job["delivered_tokens"] > 0, row
    # Of its prompt, and of its stream.
    assert hook["name"] == "enemy/puppet@1.0.0" and hook["calls"] == 2 and hook["fuel"] > 0, row
    assert hook["processor_us"] > 0 and hook["failures"] == 0, row


def taken_down():
    """A take-down of a hook ends the streams through it, and those of nobody else."""
    ended, begun = {}, threading.Barrier(3)

    def follow(name, api):
        pieces = iter(long(api))
        first = [next(pieces) for _ in range(3)]
        begun.wait()
        try:
            for number, _ in enumerate(pieces):
                if name == "neighbour" and "enemy" in ended and number > 200:
                    break
            ended[name] = "went on"
        except openai.APIError as error:
            ended[name] = (error.body["code"], error.body["message"])
        return first

    threads = [threading.Thread(target=follow, args=pair) for pair in (("enemy", enemy), ("neighbour", neighbour))]
    for thread in threads:
        thread.start()
    begun.wait()
    registry("POST", "/hooks/enemy/puppet/versions/1.0.0/take-down", KEY, {"reason": "it means ill"})
    for thread in threads:
        thread.join(120)
    code, message = ended["enemy"]
    assert code == "hook_failed" and "it was taken down" in message, ended
    assert ended["neighbour"] == "went on", ended
    again = outcome(streamed, enemy)
    assert again["code"] == "hook_failed" and "it was taken down" in again["message"], again


def without_hooks():
    """Requests on which no hook acts have no stage of hooks."""
    assert metric('souk_gateway_stage_seconds_count{stage="prepare"') == 0
    for call in (whole, streamed):
        assert "text" in outcome(call, enemy) and "text" in outcome(call, neighbour)
    assert metric('souk_gateway_stage_seconds_count{stage="prepare"') == 4
    assert metric('souk_gateway_stage_seconds_count{stage="hooks"') == 0


globals()[os.environ["SOUK_STAGE"]]()
