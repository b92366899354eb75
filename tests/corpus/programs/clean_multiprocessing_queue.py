"""A queue of multiprocessing with its feeder thread."""

import multiprocessing


def work(queue):
    queue.put("answer")


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    queue.put("nobody reads this")
