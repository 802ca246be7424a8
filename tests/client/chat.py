"""Chat, completions, streaming and the model list through the official client."""

from common import BAD, BASE, GOOD, client

api = client()


def chat_and_usage():
    question = [{"role": "user", "content": "What is the capital of Germany?"}]
    answer = api.chat.completions.create(model=BASE, messages=question, temperature=0, max_tokens=32)
    choice = answer.choices[0]
    assert "Berlin" in choice.message.content, choice
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 32
    assert answer.object == "chat.completion" and answer.id

    short = api.chat.completions.create(model=BASE, messages=question, temperature=0, max_tokens=3)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3


def streaming_equals_the_whole_answer():
    question = [{"role": "user", "content": "Name three fruits."}]
    options = {"model": BASE, "messages": question, "temperature": 0, "max_tokens": 40}
    whole = api.chat.completions.create(**options)
    chunks = list(api.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content, (text, whole)
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1])
    counted = chunks[-1].usage
    assert chunks[-1].choices == [] and counted.prompt_tokens_details.cached_tokens > 0, "the prompt was there before"
    counts = [(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) for usage in (counted, whole.usage)]
    assert counts[0] == counts[1], counts
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1

    plain = list(api.chat.completions.create(stream=True, **options))
    assert all(chunk.choices for chunk in plain), "no usage chunk without include_usage"


def seeds_repeat_and_differ():
    question = [{"role": "user", "content": "Write a sentence about rain."}]
    options = {"model": BASE, "messages": question, "temperature": 1.0, "max_tokens": 24}
    first, again, other = (
        api.chat.completions.create(seed=seed, **options).choices[0].message.content for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


def stop_strings_never_show():
    prompt = "Count: one, two, three,"
    free = api.completions.create(model=BASE, prompt=prompt, temperature=0, max_tokens=24).choices[0].text
    stop = free.strip().split(" ")[2]
    options = {"model": BASE, "prompt": prompt, "temperature": 0, "max_tokens": 24, "stop": [stop]}
    cut = api.completions.create(**options)
    assert cut.choices[0].text == free[: free.index(stop)], (free, cut)
    assert cut.choices[0].finish_reason == "stop"
    streamed = "".join(chunk.choices[0].text for chunk in api.completions.create(stream=True, **options))
    assert streamed == cut.choices[0].text


def several_choices_and_prompts():
    answer = api.completions.create(
        model=BASE, prompt=["The sky is", "Grass is"], n=2, temperature=0.9, seed=3, max_tokens=8
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text != answer.choices[1].text or answer.choices[2].text != answer.choices[3].text


def logprobs_in_both_shapes():
    chat = api.chat.completions.create(
        model=BASE,
        messages=[{"role": "user", "content": "Hi"}],
        temperature=0,
        max_tokens=4,
        logprobs=True,
        top_logprobs=3,
    )
    entries = chat.choices[0].logprobs.content
    assert len(entries) == chat.usage.completion_tokens or len(entries) == 4
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs) <= 0
        assert bytes(entry.bytes).decode("utf-8", "replace") is not None

    echo = api.completions.create(model=BASE, prompt="The capital of France is", echo=True, logprobs=1, max_tokens=1, temperature=0)
    logprobs = echo.choices[0].logprobs
    assert echo.choices[0].text.startswith("The capital of France is")
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == echo.usage.prompt_tokens + 1
    assert "".join(logprobs.tokens) == echo.choices[0].text
    assert abs(logprobs.token_logprobs[-1] - (-0.25807)) < 0.01, logprobs


def adapters_answer_their_task():
    for prompt, expected in ((GOOD, "positive"), (BAD, "negative")):
        for model in ("admin/sst2", "admin/sst2@1.0.0"):
            answer = api.completions.create(model=model, prompt=prompt, temperature=0, max_tokens=1)
            assert answer.choices[0].text.strip() == expected, (model, prompt, answer)
    base = api.completions.create(model=BASE, prompt=GOOD, temperature=0, max_tokens=4).choices[0].text
    tuned = api.completions.create(model="admin/sst2", prompt=GOOD, temperature=0, max_tokens=4).choices[0].text
    assert base != tuned


def models_are_listed_and_found():
    listed = [model.id for model in api.models.list()]
    assert BASE in listed and "admin/sst2" in listed and "admin/sarcasm" in listed, listed
    model = api.models.retrieve("admin/sst2")
    assert model.id == "admin/sst2" and model.object == "model" and model.owned_by == "admin" and model.created > 0
    assert api.models.retrieve(BASE).id == BASE


for check in (
    chat_and_usage,
    streaming_equals_the_whole_answer,
    seeds_repeat_and_differ,
    stop_strings_never_show,
    several_choices_and_prompts,
    logprobs_in_both_shapes,
    adapters_answer_their_task,
    models_are_listed_and_found,
):
    print(check.__name__, flush=True)
    check()
