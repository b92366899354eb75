"""The server of the soak: FastAPI with a chromadb and a lancedb, which does the usual things properly, and plants leaks when it is asked to."""

import asyncio
import gc
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import chromadb
import lancedb
from fastapi import FastAPI

DIMENSIONS = 8
ROWS = 200

kept = []


def vector(number):
    return [float((number * step) % 17) for step in range(1, DIMENSIONS + 1)]


@asynccontextmanager
async def lifespan(app):
    client = chromadb.PersistentClient("chroma")
    app.state.collection = client.get_or_create_collection("texts", embedding_function=None)
    ids = [str(number) for number in range(ROWS)]
    app.state.collection.upsert(ids=ids, embeddings=[vector(number) for number in range(ROWS)])
    rows = [{"id": number, "vector": vector(number)} for number in range(ROWS)]
    lancedb.connect("lance").create_table("texts", rows, mode="overwrite")
    app.state.clients = await asyncio.to_thread(lambda: ThreadPoolExecutor(4))
    yield
    app.state.clients.shutdown()
    client.close()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {}


@app.get("/chroma/{number}")
async def chroma(number: int):
    found = await asyncio.to_thread(app.state.collection.query, query_embeddings=[vector(number)], n_results=3)
    return {"ids": found["ids"][0]}


def nearest(number):
    return [row["id"] for row in lancedb.connect("lance").open_table("texts").search(vector(number)).limit(3).to_list()]


@app.get("/lance/{number}")
def lance(number: int):
    return {"ids": nearest(number)}


async def part(number):
    await asyncio.sleep(0)
    return number


@app.get("/tasks")
async def tasks():
    async def slow():
        await asyncio.sleep(600)

    waiting = asyncio.create_task(slow())
    done = await asyncio.gather(*(asyncio.create_task(part(number)) for number in range(20)))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return {"sum": sum(done)}


@app.get("/pool")
def pool():
    with ThreadPoolExecutor(2) as workers:
        return {"sum": sum(workers.map(abs, range(10)))}


@app.get("/child")
def child():
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    ran = subprocess.run([sys.executable, "-S", "-c", ""], check=False)
    return {"status": [process.exitcode, ran.returncode]}


@app.get("/plant")
async def plant():
    async def never():
        await asyncio.get_running_loop().create_future()

    asyncio.create_task(never())  # leak: lost_task asyncio.task
    kept.append(ThreadPoolExecutor(1))  # leak: not_shut_down thread_pool
    kept[-1].submit(int).result()
    return {}


@app.get("/plant-client")
def plant_client():
    kept.append(chromadb.PersistentClient("planted"))  # leak: not_closed chromadb.client
    return {}


@app.get("/numbers")
def numbers():
    gc.collect()
    return {"blocks": sys.getallocatedblocks()}
