"""A local cluster of dask: the same results bare and under the agent, and what its workers leak is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CLUSTER = """\
import sys
from concurrent.futures import ThreadPoolExecutor

def square(number):
    return number * number

def leaks(number):
    global pool
    pool = ThreadPoolExecutor(1)  # leak: not_shut_down thread_pool
    return pool.submit(square, number).result()

def main():
    from dask.distributed import Client, LocalCluster
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    if "leak" not in sys.argv:
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            print(client.gather(client.map(square, range(5))))
            print(client.submit(sum, client.map(square, range(5))).result())
        return
    client = Client(LocalCluster(**options))
    print(client.gather(client.map(leaks, range(4))))

if __name__ == "__main__":
    main()
"""


def test_proper_use_is_not_told(compare: Callable[..., Any]) -> None:
    after = compare(CLUSTER)
    assert after.bare.stdout == "[0, 1, 4, 9, 16]\n30\n", after.bare
    assert [report["findings"] for report in after.reports] == [[], []]
    for ran, report in after.agents.values():
        assert (ran.returncode, ran.stdout, report["agent"]["disabled"]) == (0, after.bare.stdout, []), ran


def test_same_results_and_leaks_of_workers(compare: Callable[..., Any]) -> None:
    # dask's own exit handler closes the cluster that the program has left open.
    compare(CLUSTER, "leak").check()
