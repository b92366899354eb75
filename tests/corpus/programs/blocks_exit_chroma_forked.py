"""A worker is forked after the client was made, and uses it: it waits for threads that it does not have.

Like: https://github.com/open-webui/docs/pull/1081
Signal: SIGUSR1 after kept the process from ending
Needs: chromadb
"""

import multiprocessing
import signal

import chromadb

client = chromadb.PersistentClient("db")  # leak: blocks_exit chromadb.client
collection = client.get_or_create_collection("words")
process = multiprocessing.get_context("fork").Process(target=collection.count, daemon=True)
process.start()
# Nothing else ends it.
signal.signal(signal.SIGUSR1, lambda *_: process.kill())
process.join()
print(process.exitcode)
client.close()
