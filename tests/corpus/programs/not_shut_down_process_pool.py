"""A process pool kept in a class attribute, without ``shutdown``.

Like: https://github.com/python/cpython/issues/83386
"""

from concurrent.futures import ProcessPoolExecutor


class Embedder:
    pool = None

    def embed(self, text):
        if Embedder.pool is None:
            Embedder.pool = ProcessPoolExecutor(1)  # leak: not_shut_down process_pool
        return Embedder.pool.submit(len, text).result()


if __name__ == "__main__":
    print(Embedder().embed("abc"))
