"""Calls a gateway with the SDKs of OpenAI, Anthropic and LangChain, with their default settings but for the base URL.

usage: clients.py BASE_URL [calls concurrency]

With calls and concurrency, it makes so many chat completions with OpenAI's SDK, so many at a time, and nothing else.
"""
import sys
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

base = sys.argv[1]
client = openai.OpenAI(base_url=base + "/v1", api_key="sk-test")
hello = [{"role": "user", "content": "hello"}]


def check(name, ok, got):
    if not ok:
        sys.exit(f"{name}: {got!r}")
    print(name)


if len(sys.argv) > 2:
    calls, concurrency = int(sys.argv[2]), int(sys.argv[3])
    with ThreadPoolExecutor(concurrency) as pool:
        answers = list(pool.map(lambda _: client.chat.completions.create(model="demo", messages=hello), range(calls)))
    check(f"{calls} calls", all(a.choices[0].message.content for a in answers), answers)
    sys.exit()

a = client.chat.completions.create(model="demo", messages=hello, max_tokens=20)
check("openai chat", a.choices[0].message.content and a.usage.completion_tokens == 20, a)
words = [c.choices[0].delta.content or "" for c in client.chat.completions.create(model="demo", messages=hello, max_tokens=20, stream=True) if c.choices]
check("openai chat stream", len([w for w in words if w]) > 1, words)
a = client.completions.create(model="demo", prompt="hello", max_tokens=20)
check("openai completion", a.choices[0].text, a)
a = client.embeddings.create(model="demo", input="hello")
check("openai embedding", len(a.data[0].embedding) > 0, a)
check("openai embedding again", client.embeddings.create(model="demo", input="hello").data[0].embedding == a.data[0].embedding, a)
r = client.embeddings.with_raw_response.create(model="demo", input="hello")
check("openai embedding from the cache", r.headers.get("x-flyball-cache") == "hit", dict(r.headers))
a = client.responses.create(model="demo", input="hello", max_output_tokens=20)
check("openai response", a.output_text, a)
events = [e.type for e in client.responses.create(model="demo", input="hello", max_output_tokens=20, stream=True)]
check("openai response stream", events[-1] in ("response.completed", "response.incomplete"), events)
a = client.models.list()
check("openai models", any(m.id == "demo" for m in a), a)

claude = anthropic.Anthropic(base_url=base, api_key="sk-test")
a = claude.messages.create(model="demo", messages=hello, max_tokens=20)
check("anthropic message", a.content[0].text and a.usage.output_tokens == 20, a)
with claude.messages.stream(model="demo", messages=hello, max_tokens=20) as s:
    text = "".join(s.text_stream)
    final = s.get_final_message()
check("anthropic message stream", text and final.usage.output_tokens == 20, (text, final))

chain = ChatOpenAI(model="demo", base_url=base + "/v1", api_key="sk-test", max_tokens=20)
check("langchain chat", chain.invoke("hello").content, None)
check("langchain chat stream", "".join(c.content for c in chain.stream("hello")), None)
e = OpenAIEmbeddings(model="demo", base_url=base + "/v1", api_key="sk-test", check_embedding_ctx_length=False)
check("langchain embeddings", len(e.embed_documents(["a", "b"])) == 2, None)
