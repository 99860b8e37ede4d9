"""The pool of threads: every task once, exactly the threads given, clean ends, forks."""

import ctypes
import os
import threading

import numpy as np
import pytest

from gesher.base.errors import RunError
from gesher.compiler.build import build
from gesher.compiler.library import Library, Pool

SOURCE = """
#include "gs_pool.h"
#include <unistd.h>
#include <sys/syscall.h>
typedef struct { int64_t* count; int64_t* who; GsPool* inner; } Job;
static int64_t thread_id(void) { return (int64_t)(uintptr_t)pthread_self(); }
static void one(void* arg, int64_t begin, int64_t end, int thread) {
  Job* job = arg;
  for (int64_t i = begin; i < end; i++) { job->count[i]++; job->who[thread] = thread_id(); }
}
static void nested(void* arg, int64_t begin, int64_t end, int thread) {
  Job* job = arg;
  for (int64_t i = begin; i < end; i++) {
    Job inside = {job->count + i * 10, job->who, 0};
    gs_parallel_for(job->inner, 10, one, &inside);
  }
}
GS_EXPORT void run(GsPool* pool, int64_t n, int64_t* count, int64_t* who, int64_t times) {
  Job job = {count, who, 0};
  for (int64_t i = 0; i < times; i++) gs_parallel_for(pool, n, one, &job);
}
GS_EXPORT void run_soon(GsPool* pool, int64_t n, int64_t* count, int64_t* who, int64_t times) {
  Job job = {count, who, 0};
  for (int64_t i = 0; i < times; i++) gs_parallel_soon(pool, n, one, &job);
}
GS_EXPORT void run_nested(GsPool* pool, int64_t n, int64_t* count, int64_t* who) {
  Job job = {count, who, pool};
  gs_parallel_for(pool, n, nested, &job);
}
"""


@pytest.fixture(scope="module")
def library():
    return Library(build(SOURCE).library)


def run(library, pool, n, times=1, name="run"):
    count, who = np.zeros(max(n, 1), np.int64), np.zeros(pool.threads, np.int64)
    library.function(name, None, *[ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64])(
        pool.address, n, count.ctypes.data, who.ctypes.data, times)
    return count[:n], who


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_short_loops_run_every_task_once_alone_and_together(library, threads):
    pool = Pool(library, threads)
    for n in (0, 1, 100):
        for _ in range(3):
            count, _ = run(library, pool, n, 500, "run_soon")
            assert np.all(count == 500)
    pool.close()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 1000])
def test_every_task_runs_once(library, threads, n):
    pool = Pool(library, threads)
    count, _ = run(library, pool, n)
    assert np.all(count == 1)
    pool.close()


def test_many_short_loops_lose_no_task(library):
    pool = Pool(library, 2)
    count, _ = run(library, pool, 5, times=20000)
    assert np.all(count == 20000)


def test_sleeping_workers_wake(library):
    pool = Pool(library, 3, spin_microseconds=0)
    count, _ = run(library, pool, 9, times=2000)
    assert np.all(count == 2000)


def test_a_pool_has_exactly_its_threads(library):
    def ours():
        return len(os.listdir("/proc/self/task"))

    if not os.path.isdir("/proc/self/task"):
        pytest.skip("this system does not list a process's threads")
    before = ours()
    pool = Pool(library, 4)
    assert ours() == before, "threads start with the first loop, not before"
    _, who = run(library, pool, 100)
    assert ours() == before + 3
    assert len(set(who.tolist())) == 4
    pool.close()
    assert ours() == before
    alone = Pool(library, 1)
    run(library, alone, 100)
    assert ours() == before


def test_a_dropped_pool_stops_its_threads(library):
    before = threading.active_count(), len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
    pool = Pool(library, 3)
    run(library, pool, 10)
    del pool
    after = threading.active_count(), len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
    assert after == before


def test_a_loop_within_a_loop_is_whole(library):
    pool = Pool(library, 2)
    count, who = np.zeros(40, np.int64), np.zeros(2, np.int64)
    library.function("run_nested", None, *[ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p])(
        pool.address, 4, count.ctypes.data, who.ctypes.data)
    assert np.all(count == 1)


def test_two_callers_of_one_pool_both_get_whole_loops(library):
    pool, results = Pool(library, 2), []

    def work():
        results.append(run(library, pool, 50, times=3000)[0])

    callers = [threading.Thread(target=work) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 3 and all(np.all(r == 3000) for r in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(library):
    pool = Pool(library, 2)
    run(library, pool, 10)
    child = os.fork()
    if child == 0:
        count, who = run(library, pool, 10, times=50)
        pool.close()
        os._exit(0 if np.all(count == 50) and len(set(who.tolist())) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.all(run(library, pool, 10)[0] == 1)


def test_a_pool_of_no_threads_is_refused(library):
    with pytest.raises(RunError, match="at least one thread"):
        Pool(library, 0)
