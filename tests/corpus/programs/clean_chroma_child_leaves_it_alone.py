"""A child is forked beside an open client, does not touch it, and ends.

Needs: chromadb
"""

import multiprocessing

import chromadb

with chromadb.PersistentClient("db") as client:
    client.get_or_create_collection("words")
    process = multiprocessing.get_context("fork").Process(target=print, args=("child",))
    process.start()
    process.join()
    print(process.exitcode, client.count_collections())
