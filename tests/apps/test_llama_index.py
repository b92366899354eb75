"""LlamaIndex, the newest and 0.12.16: what is behind a streamed answer, a workflow, an agent is told when nobody waits for it, and only then."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENGINE = """\
import asyncio
import gc
import threading
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM
class LLM(MockLLM):
    def stream_chat(self, messages, **more):
        def answer():
            for n in range(3):
                if n == 1 and type(self) is Stuck:
                    threading.Event().wait()
                yield ChatResponse(message=ChatMessage(role="assistant", content="x"), delta="x")
        return answer()
    async def astream_chat(self, messages, **more):
        async def answer():
            for n in range(3):
                if n == 1 and type(self) is Stuck:
                    await asyncio.get_running_loop().create_future()
                await asyncio.sleep(0)
                yield ChatResponse(message=ChatMessage(role="assistant", content="x"), delta="x")
        return answer()
class Stuck(LLM):
    pass
index = VectorStoreIndex.from_documents([Document(text="a page")], embed_model=MockEmbedding(embed_dim=4))
print(len(index.as_retriever(similarity_top_k=1).retrieve("a question")))
def engine(stuck=False):
    return SimpleChatEngine.from_defaults(llm=Stuck() if stuck else LLM())
"""

CONSUMED = f"""\
{ENGINE}
chat = engine()
print("".join(chat.stream_chat("a question").response_gen), [message.content for message in chat.chat_history])
async def main():
    chat = engine()
    answer = await chat.astream_chat("a question")
    async for token in answer.async_response_gen():
        print(token)
    print([message.content for message in chat.chat_history])
asyncio.run(main())
"""

# The thread of `stream_chat` is no daemon: Python waits for it, and the answer gets into the history.
NOT_CONSUMED = f"""\
{ENGINE}
import atexit
chat = engine()
answer = chat.stream_chat("a question")
atexit.register(lambda: print("history", [message.content for message in chat.chat_history]))
"""

KEPT = f"""\
{ENGINE}
async def main():
    answer = await engine(stuck=True).astream_chat("a question")
    while answer.aqueue is None or answer.aqueue.empty():
        await asyncio.sleep(0)
    print("kept")
    return answer
kept = asyncio.run(main())
"""

DROPPED = f"""\
{ENGINE}
async def main():
    answer = await engine(stuck=True).astream_chat("a question")
    while answer.aqueue is None or answer.aqueue.empty():
        await asyncio.sleep(0)
    del answer
    gc.collect()
    print("dropped")
asyncio.run(main())
"""

HANGS = f"""\
{ENGINE}
async def main():
    answer = await engine(stuck=True).astream_chat("a question")
    async def read():
        async for token in answer.async_response_gen():
            print("token", flush=True)
    await WAIT
asyncio.run(main())
"""

STREAM_CHAT = "llama_index/core/chat_engine/simple.py"

#: Its workflows are a part of it, and a deadline of the program's own ends a stalled answer most of the time (`asyncio.wait_for` before 3.12 can lose it).
IS_OLD = version("llama-index-core").startswith("0.12")


@pytest.mark.parametrize("text", [CONSUMED, NOT_CONSUMED], ids=["consumed", "left to Python"])
def test_an_answer_that_comes_to_its_end(compare: Callable[..., Any], text: str) -> None:
    ran = compare(text)
    ran.check()
    assert "xxx" in ran.bare.stdout, ran.bare


def test_an_answer_that_is_dropped_while_it_waits(compare: Callable[..., Any]) -> None:
    ran = compare(DROPPED)
    assert ran.bare.stdout.splitlines() == ["1", "dropped"], ran.bare
    assert "Task was destroyed but it is pending!" in ran.bare.stderr, ran.bare
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (0, ran.bare.stdout), agent
        assert "Task was destroyed" not in agent.stderr, agent
        (found,) = report["findings"]
        assert (found["reason"], found["kind"], found["owner"]) == ("lost_task", "asyncio.task", "library")
        assert (found["site"]["file"], found["action"]) == (STREAM_CHAT, "cancelled")
        assert any("awrite_response_to_history" in line for line in found["evidence"])


def test_an_answer_that_is_kept_but_not_waited_for(compare: Callable[..., Any]) -> None:
    ran = compare(KEPT)
    ran.check(library=[("outlived_scope", "asyncio.task", STREAM_CHAT)])
    assert ran.bare.stdout.splitlines() == ["1", "kept"], ran.bare


STUCK_THREAD = f"""\
{ENGINE}
answer = engine(stuck=True).stream_chat("a question")
print("end of the main thread", flush=True)
sys.exit(5)
""".replace("import gc\n", "import gc\nimport sys\n")


def test_a_streaming_thread_that_is_stuck_is_named(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    # Bare, this program never ends.
    report = tmp_path / "report.json"
    ran = python("-m", "leakagent", "--budget", "4", "--report", f"json:{report}", program(STUCK_THREAD))
    assert (ran.returncode, ran.stdout.splitlines()) == (5, ["1", "end of the main thread"]), ran
    (found,) = json.loads(report.read_text(encoding="utf-8"))["findings"]
    assert (found["reason"], found["kind"], found["owner"], found["action"]) == ("blocks_exit", "thread", "library", "released")
    assert found["site"]["file"] == STREAM_CHAT
    assert any("app.py:" in line and "answer" in line for line in found["evidence"]), found


@pytest.mark.parametrize("wait", ["read()", *([] if IS_OLD else ["asyncio.wait_for(read(), 0.5)"])])
def test_a_backend_that_stalls_is_told_while_the_program_hangs(
    environment: Callable[..., dict[str, str]], program: Callable[..., Path], tmp_path: Path, wait: str
) -> None:
    # The newest `wait_for` never returns: `async_response_gen` waits in its clean-up for the task that writes the history.
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "leakagent", "--stalled-after", "1", "--report", f"text,json:{report}"]
    process = subprocess.Popen(
        [*command, program(HANGS.replace("WAIT", wait))],
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    late = threading.Timer(120, process.kill)
    late.start()
    try:
        lines = []
        while not lines or ("  fix  " not in lines[-1] and lines[-1]):
            lines.append(process.stderr.readline())
        told = "".join(lines)
        assert "leakagent: asyncio task stalled: no progress" in told
        assert f"library  {STREAM_CHAT}:" in told
        assert "awrite_response_to_history > app.py:" in told.replace(str(tmp_path) + "/", ""), told
        process.terminate()
        stdout, stderr = process.communicate()
        assert (process.returncode, stdout.splitlines()[-1]) == (-15, "token"), stderr
    finally:
        late.cancel()
        process.kill()
        process.communicate()
    found = [one for one in json.loads(report.read_text(encoding="utf-8"))["findings"] if one["reason"] == "stalled"]
    assert [(one["kind"], one["owner"], one["site"]["file"], one["action"]) for one in found] == [
        ("asyncio.task", "library", STREAM_CHAT, "cancelled")
    ]


def test_a_backend_that_stalls_is_in_the_live_view_and_in_the_metric(
    environment: Callable[..., dict[str, str]], program: Callable[..., Path], tmp_path: Path, until: Callable[..., None]
) -> None:
    # Telemetry that goes to the console goes to stderr: stdout is the program's.
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    env = environment({"XDG_RUNTIME_DIR": str(runtime), "OTEL_METRICS_EXPORTER": "console", "OTEL_METRIC_EXPORT_INTERVAL": "500"})
    command = [sys.executable, "-m", "leakagent", "--stalled-after", "1"]
    errors = tmp_path / "errors"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            [*command, program(HANGS.replace("WAIT", "read()"))], env=env, stdout=subprocess.DEVNULL, stderr=stderr
        ) as process,
    ):

        def dump() -> Any:
            asked = [sys.executable, "-m", "leakagent", "dump", str(process.pid)]
            ran = subprocess.run(asked, env=env, capture_output=True, text=True, check=False, timeout=120)
            return json.loads(ran.stdout)["findings"] if ran.returncode == 0 else []

        try:
            until(dump, "the live view shows it")
            (found,) = dump()
            assert (found["reason"], found["owner"], found["site"]["file"]) == ("stalled", "library", STREAM_CHAT)
            until(lambda: b'"leakagent.finding.reason": "stalled"' in errors.read_bytes(), "the metric counts it")
            process.terminate()
            assert process.wait(120) == -15
        finally:
            process.kill()


# A workflow that answers, one whose step fails, one whose step waits for ever and is timed out.
WORKFLOW = """\
import asyncio
import gc
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
class Half(Event):
    n: int
class Flow(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Half:
        ctx.write_event_to_stream(Half(n=1))
        return Half(n=2)
    @step
    async def end(self, ctx: Context, ev: Half) -> StopEvent:
        if how == "stalls":
            await asyncio.get_running_loop().create_future()
        if how == "refuses":
            raise ConnectionError
        return StopEvent(result=ev.n)
async def main():
    global how
    how = "answers"
    handler = Flow().run()
    print([type(event).__name__ async for event in handler.stream_events()], await handler)
    for how, seconds in (("refuses", None), ("stalls", 0.5)):
        try:
            await Flow(timeout=seconds).run()
        except Exception as error:
            print(type(error).__name__)
    await drop()
    print("end")
async def drop():
    pass
"""

DROPPED_WORKFLOW = """\
async def drop():
    handler = Flow(timeout=None).run()
    for _ in range(100):
        await asyncio.sleep(0)
    del handler
    gc.collect()
    for _ in range(100):
        await asyncio.sleep(0)
"""

RUN = "asyncio.run(main())\n"


def test_a_workflow_that_comes_to_its_end(compare: Callable[..., Any]) -> None:
    ran = compare(WORKFLOW + RUN)
    ran.check()
    assert ran.bare.stdout.splitlines()[0] == "['Half', 'StopEvent'] 2", ran.bare


def test_a_workflow_whose_handler_is_dropped(compare: Callable[..., Any]) -> None:
    ran = compare(WORKFLOW + DROPPED_WORKFLOW + RUN)
    assert "Task was destroyed but it is pending!" in ran.bare.stderr, ran.bare
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (0, ran.bare.stdout), agent
        assert "Task was destroyed" not in agent.stderr, agent
        assert {(one["reason"], one["owner"], one["action"]) for one in report["findings"]} == {
            ("lost_task", "library", "cancelled")
        }
        package = "llama_index/core/workflow/" if IS_OLD else "workflows/"
        assert any(one["site"]["file"].startswith(package) for one in report["findings"]), report["findings"]


# An agent with one tool, whose model is a script: it asks the tool once, and then answers.
AGENT = """\
import asyncio
from llama_index.core.agent.workflow import AgentWorkflow, ReActAgent
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.tools import FunctionTool
asked = []
class Scripted(CustomLLM):
    @property
    def metadata(self):
        return LLMMetadata()
    def complete(self, prompt, **more):
        asked.append(prompt)
        if len(asked) == 1:
            return CompletionResponse(text='Thought: I need a tool.\\nAction: add\\nAction Input: {"a": 2, "b": 3}\\n')
        return CompletionResponse(text="Thought: I can answer.\\nAnswer: five")
    def stream_complete(self, prompt, **more):
        text = self.complete(prompt).text
        yield CompletionResponse(text=text, delta=text)
async def add(a: int, b: int) -> int:
    if stalls:
        called.set()
        await asyncio.get_running_loop().create_future()
    if fails:
        raise ConnectionError
    return a + b
stalls = fails = False
def agent():
    tools = [FunctionTool.from_defaults(async_fn=add)]
    one = ReActAgent(name="calculator", description="adds", system_prompt="You add.", tools=tools, llm=Scripted())
    # An agent runs by itself since 0.12.34.
    return one if hasattr(one, "run") else AgentWorkflow(agents=[one])
"""

AGENTS_THAT_END = (
    AGENT
    + """\
async def main():
    global fails
    print(await agent().run(user_msg="two and three?"))
    asked.clear()
    handler = agent().run(user_msg="two and three?")
    print(len([event async for event in handler.stream_events()]) > 3, await handler)
    asked.clear()
    fails = True
    print(await agent().run(user_msg="two and three?"))
asyncio.run(main())
"""
)

AGENT_THAT_STALLS = (
    AGENT
    + """\
async def main():
    global stalls, called, kept
    stalls, called = True, asyncio.Event()
    kept = agent().run(user_msg="two and three?")
    await called.wait()
    print("the tool does not answer")
asyncio.run(main())
"""
)


def test_agents_that_come_to_their_end(compare: Callable[..., Any]) -> None:
    ran = compare(AGENTS_THAT_END)
    ran.check()
    assert ran.bare.stdout.splitlines() == ["five", "True five", "five"], ran.bare


def test_an_agent_whose_tool_does_not_answer(compare: Callable[..., Any]) -> None:
    ran = compare(AGENT_THAT_STALLS)
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (ran.bare.returncode, ran.bare.stdout), agent
        assert {one["owner"] for one in report["findings"]} == {"library"}, report["findings"]
        assert {one["action"] for one in report["findings"]} == {"cancelled"}, report["findings"]
        assert any("app.py" in text and " add" in text for one in report["findings"] for text in one["evidence"]), report[
            "findings"
        ]
