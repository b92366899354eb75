"""A child process that is joined."""

import multiprocessing


def work():
    print("child", flush=True)


if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
