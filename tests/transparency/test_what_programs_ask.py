"""Everything that a program can ask of Python's classes and functions has the same answer with the agent: one program, run twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAYS = {"module": (["-m", "leakagent"], {}), "environment": ([], {"LEAKAGENT": "1"})}

#: Every public class and function of the modules that are patched, not only what is patched today.
ASKED = """\
import asyncio, concurrent.futures, concurrent.futures.process, concurrent.futures.thread, enum, inspect, multiprocessing.context
import multiprocessing.managers, multiprocessing.pool, multiprocessing.process, multiprocessing.shared_memory, os, pickle, signal
import sqlite3, subprocess, sys, tempfile, threading, typing, warnings

# Annotations of the standard library that are no types any more, or not yet.
warnings.simplefilter("ignore")

def ask(question, *things):
    try:
        return question(*things)
    except Exception as error:
        return type(error).__name__

def text(thing):
    # Addresses differ from run to run.
    return str(thing).partition(" at 0x")[0]

# Functions of C code for which one in Python stands.
stood_in = {"signal.raise_signal", "signal.set_wakeup_fd", "sys.exit", "os._exit", "os.execv", "os.execve", "sqlite3.connect"}

def facts(path, thing):
    for name in ("__name__", "__qualname__", "__doc__"):
        yield name, getattr(thing, name, None)
    yield "signature", text(ask(inspect.signature, thing))
    yield "the same again", ask(lambda: pickle.loads(pickle.dumps(thing)) is thing)
    if path in stood_in:
        return
    yield "type", type(thing).__name__
    yield "module", getattr(thing, "__module__", None)
    yield "text", getattr(thing, "__text_signature__", None)
    yield "hints", text(ask(typing.get_type_hints, thing))
    yield "source", hash(ask(inspect.getsource, thing)) if inspect.isfunction(thing) else None
    for question in (inspect.isfunction, inspect.isbuiltin, inspect.ismethod, inspect.isroutine, inspect.iscoroutinefunction,
                     inspect.isgeneratorfunction, inspect.isabstract, inspect.ismethoddescriptor, callable):
        yield question.__name__, ask(question, thing)
    yield "pickle", ask(pickle.dumps, thing)
    if isinstance(thing, type):
        yield "bases", [base.__qualname__ for base in thing.__mro__]
        yield "metaclass", type(thing).__qualname__
        yield "subclasses", sorted(one.__qualname__ for one in type.__subclasses__(thing))
        yield "slots", getattr(thing, "__slots__", None)

def known(module):
    for name, thing in sorted(vars(module).items()):
        mine = getattr(thing, "__module__", None) == module.__name__ or module in (asyncio, signal, os, sqlite3, sys)
        if name.startswith("__") or not mine or not callable(thing) or isinstance(thing, enum.EnumMeta):
            continue
        yield f"{module.__name__}.{name}", thing
        for inner, member in sorted(vars(thing).items()) if isinstance(thing, type) else ():
            if callable(member):
                yield f"{module.__name__}.{name}.{inner}", member

modules = (asyncio, asyncio.base_events, asyncio.runners, asyncio.subprocess, asyncio.tasks, concurrent.futures._base,
           concurrent.futures.process, concurrent.futures.thread, multiprocessing.managers, multiprocessing.pool,
           multiprocessing.process, multiprocessing.shared_memory, os, signal, sqlite3, subprocess, sys, tempfile, threading)
for module in modules:
    for path, thing in known(module):
        for name, fact in facts(path, thing):
            print(path, name, repr(fact))
"""

USED = """\
import asyncio, concurrent.futures, copy, copyreg, functools, multiprocessing, multiprocessing.pool, pickle, subprocess, sys, threading

class Pool(concurrent.futures.ThreadPoolExecutor):
    def __init__(self, *, size):
        super().__init__(size, "mine", initializer=begin, initargs=("x",))
    def submit(self, function, /, *args):
        return super().submit(function, *args)
    def shutdown(self, wait=True, *, cancel_futures=False):
        print("my shutdown")
        super().shutdown(wait, cancel_futures=cancel_futures)

class Thread(threading.Thread):
    def start(self):
        print("my start")
        super().start()
    def run(self):
        print("my run")

class Child(multiprocessing.Process):
    def run(self):
        print("child", self.name, flush=True)

class Popen(subprocess.Popen):
    def __init__(self, *args, more=None, **kwargs):
        self.more = more
        super().__init__(*args, **kwargs)

class Loop(asyncio.SelectorEventLoop):
    def create_task(self, coro, **kwargs):
        print("my create_task", sorted(kwargs))
        return super().create_task(coro, **kwargs)

class Task(asyncio.Task):
    pass

begun = []
def begin(word):
    begun.append(word)

def begin_child(word):
    global said
    said = word

def answer(_):
    return said

async def three():
    return 3

def factory(loop, coro, **kwargs):
    kwargs.pop("eager_start", None)
    return Task(coro, loop=loop, **kwargs)

async def main():
    task = asyncio.create_task(three(), name="named")
    print(type(task).__name__, isinstance(task, asyncio.Task), isinstance(task, asyncio.Future), task.get_name(), await task)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    task = asyncio.create_task(three())
    print(type(task).__name__, await task)

if __name__ == "__main__":
    with Pool(size=1) as pool:
        print(pool.submit(abs, -1).result(), isinstance(pool, concurrent.futures.Executor), sorted(vars(pool)))
    print(begun)
    thread = Thread()
    thread.start()
    thread.join()
    print(sorted(vars(thread)), [name for name in vars(Thread) if not name.startswith("__")])
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, context, begin_child, ("initialised",)) as processes:
            print(list(processes.map(answer, [1])))
        with context.Pool(1, begin_child, ("initialised",)) as processes:
            print(processes.map(answer, [1]), isinstance(processes, multiprocessing.pool.Pool))
    with multiprocessing.pool.ThreadPool(1) as threads:
        print(threads.map(abs, [-4]))
    child = Child(name="mine")
    print(sorted(vars(child)))
    child.start()
    child.join()
    # A process object may be pickled only while it is spawned, with the agent as without it.
    for thing in (child, thread, pool):
        try:
            pickle.dumps(thing)
        except Exception as error:
            print(type(error).__name__, str(error).partition(" at 0x")[0])
    popen = Popen([sys.executable, "-S", "-c", ""], more=7)
    print(popen.wait(), popen.more, sorted(vars(popen)))
    loop = Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    print(functools.partial(threading.Thread.start).func is threading.Thread.start, copy.copy(threading.Thread) is threading.Thread)
    # Nothing was put on the instances, and the classes have the attributes that they had.
    for owner in (threading.Thread, subprocess.Popen, concurrent.futures.ThreadPoolExecutor, multiprocessing.Process, asyncio.BaseEventLoop):
        print(owner.__qualname__, sorted(vars(owner)), sorted(dir(owner)))
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", ["about", "by using them"])
def test_the_answers_are_the_same(way: str, asked: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    front, env = WAYS[way]
    env = {**env, "PYTHONHASHSEED": "0"}
    app = program(ASKED if asked == "about" else USED)
    bare = python(app, env={"PYTHONHASHSEED": "0"})
    assert bare.returncode == 0, bare
    assert len(bare.stdout.splitlines()) > 20, bare
    ran = python(*front, app, env=env)
    differ = [(one, other) for one, other in zip(bare.stdout.splitlines(), ran.stdout.splitlines(), strict=True) if one != other]
    assert differ == []
    assert (ran.returncode, ran.stderr) == (bare.returncode, bare.stderr), ran
