// A pool of threads for the loops of one session: exactly as many as it was given, the caller's among them.
//
//   gs_parallel_for(pool, n_tasks, fn, arg)   calls fn(arg, begin, end, thread) so that [0, n_tasks) is covered once.
//   gs_parallel_soon(...)                     the same for some microseconds of work, which are no reason to wake
//                                             anybody unless such loops come one after the other.
//
// The partition is static: thread t gets the t-th of `size` nearly equal parts, so equal shapes give equal sums on
// every run. Workers spin briefly after their work, because the next loop of a model comes within microseconds, then
// sleep. A pool of NULL, of one thread, or busy with another loop (a loop within a loop, or a second caller) runs the
// whole loop in the caller. Threads start at the first loop that needs them; a forked child, which has none, starts
// its own. `thread` is below gs_pool_size(pool) and unique among those of one loop, so it may pick scratch memory. A
// loop within a loop and a second caller name thread 0 again: their scratch must be their own.

#include "gs_base.h"
#include <time.h>

typedef void (*GsRangeFn)(void* arg, int64_t begin, int64_t end, int thread);

GS_LOCAL int64_t gs_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#ifdef GS_NO_THREADS

// For targets without threads: the same interface, one thread.
GS_INLINE int gs_pool_size(const GsPool* pool) { (void)pool; return 1; }
GS_LOCAL void gs_parallel_for(GsPool* pool, int64_t n_tasks, GsRangeFn fn, void* arg) {
  (void)pool;
  if (n_tasks > 0) fn(arg, 0, n_tasks, 0);
}
GS_LOCAL void gs_parallel_soon(GsPool* pool, int64_t n_tasks, GsRangeFn fn, void* arg) {
  gs_parallel_for(pool, n_tasks, fn, arg);
}

#else

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct GsWorker {
  GsPool* pool;
  int index;
  pthread_t thread;
} GsWorker;

struct GsPool {
  int size;               // threads, the caller's among them
  int started;            // workers that run: size - 1, fewer where the system refused, 0 before the first loop
  int64_t spin_ns;
  _Atomic int64_t soon_ns;  // when the last loop of `gs_parallel_soon` ended
  atomic_int busy;        // a loop is running
  GsRangeFn fn;           // the loop: written before `turn` is raised, read after it was seen raised
  void* arg;
  int64_t n_tasks;
  int parts;
  _Alignas(64) atomic_uint turn;   // one more with each loop; workers wait for it to change
  _Alignas(64) atomic_int left;    // workers that have not finished the loop; the caller waits for 0
  _Alignas(64) atomic_int sleepers;
  atomic_int awaited;              // the caller sleeps until `left` is 0
  atomic_int stop;
  pthread_mutex_t mutex;
  pthread_cond_t wake, done;
  GsWorker* workers;
};

GS_INLINE void gs_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// The clock is asked once in so many looks: it costs as much as a few of them.
#define GS_POOL_LOOKS 64

// Whether the time to spin is over, asked after `looks` looks; `until` is 0 before the first answer.
GS_INLINE int gs_spun(const GsPool* pool, unsigned looks, int64_t* until) {
  gs_pause();
  if (looks % GS_POOL_LOOKS) return 0;
  int64_t now = gs_now_ns();
  if (!*until) *until = now + pool->spin_ns;
  return now >= *until;
}

GS_INLINE int gs_pool_size(const GsPool* pool) { return pool ? pool->size : 1; }

GS_LOCAL void gs_pool_part(const GsPool* pool, int index) {
  int64_t n = pool->n_tasks, parts = pool->parts;
  int64_t begin = n / parts * index + gs_min_i64(index, n % parts);
  int64_t end = begin + n / parts + (index < n % parts);
  if (begin < end) pool->fn(pool->arg, begin, end, index);
}

GS_LOCAL void* gs_pool_work(void* arg) {
  GsWorker* self = arg;
  GsPool* pool = self->pool;
  unsigned seen = 0;
  for (;;) {
    int64_t until = 0;
    for (unsigned looks = 1; pool->spin_ns > 0; looks++)
      if (atomic_load_explicit(&pool->turn, memory_order_acquire) != seen || gs_spun(pool, looks, &until)) break;
    if (atomic_load_explicit(&pool->turn, memory_order_acquire) == seen) {
      pthread_mutex_lock(&pool->mutex);
      atomic_fetch_add(&pool->sleepers, 1);
      // The turn is looked at again after saying that we sleep: the caller raises it first and looks for sleepers
      // second.
      while (atomic_load(&pool->turn) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
      atomic_fetch_sub(&pool->sleepers, 1);
      pthread_mutex_unlock(&pool->mutex);
    }
    seen = atomic_load_explicit(&pool->turn, memory_order_acquire);
    if (atomic_load(&pool->stop)) return 0;
    if (self->index < pool->parts) gs_pool_part(pool, self->index);
    // The caller says that it sleeps first and looks at `left` second.
    if (atomic_fetch_sub(&pool->left, 1) == 1 && atomic_load(&pool->awaited)) {
      pthread_mutex_lock(&pool->mutex);
      pthread_cond_signal(&pool->done);
      pthread_mutex_unlock(&pool->mutex);
    }
  }
}

GS_LOCAL void gs_pool_start(GsPool* pool) {
  atomic_store(&pool->turn, 0);
  atomic_store(&pool->stop, 0);
  for (int i = 0; i < pool->size - 1; i++) {
    GsWorker* worker = &pool->workers[i];
    worker->pool = pool;
    worker->index = i + 1;
    if (pthread_create(&worker->thread, 0, gs_pool_work, worker)) break;
    pool->started = i + 1;
  }
  // The system gave fewer: the loops are cut for those that run.
  pool->size = pool->started + 1;
}

GS_LOCAL void gs_pool_post(GsPool* pool) {
  atomic_fetch_add(&pool->turn, 1);
  if (atomic_load(&pool->sleepers) > 0) {
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
  }
}

GS_LOCAL void gs_parallel_for(GsPool* pool, int64_t n_tasks, GsRangeFn fn, void* arg) {
  if (n_tasks <= 0) return;
  if (!pool || pool->size < 2 || n_tasks < 2 || atomic_exchange(&pool->busy, 1)) {
    fn(arg, 0, n_tasks, 0);
    return;
  }
  if (!pool->started) gs_pool_start(pool);
  pool->fn = fn;
  pool->arg = arg;
  pool->n_tasks = n_tasks;
  pool->parts = (int)gs_min_i64(pool->size, n_tasks);
  atomic_store(&pool->left, pool->started);
  if (pool->started) gs_pool_post(pool);
  gs_pool_part(pool, 0);
  int64_t until = 0;
  for (unsigned looks = 1; atomic_load_explicit(&pool->left, memory_order_acquire) > 0; looks++) {
    if (!gs_spun(pool, looks, &until)) continue;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->awaited, 1);
    while (atomic_load(&pool->left) > 0) pthread_cond_wait(&pool->done, &pool->mutex);
    atomic_store(&pool->awaited, 0);
    pthread_mutex_unlock(&pool->mutex);
  }
  atomic_store_explicit(&pool->busy, 0, memory_order_release);
}

GS_LOCAL void gs_parallel_soon(GsPool* pool, int64_t n_tasks, GsRangeFn fn, void* arg) {
  int awake = pool && pool->started && !atomic_load_explicit(&pool->sleepers, memory_order_relaxed);
  // Whoever calls again within the time for which threads spin finds them awake the next time.
  int again = pool && gs_now_ns() - atomic_load_explicit(&pool->soon_ns, memory_order_relaxed) < pool->spin_ns;
  gs_parallel_for(awake || again ? pool : 0, n_tasks, fn, arg);
  if (pool) atomic_store_explicit(&pool->soon_ns, gs_now_ns(), memory_order_relaxed);
}

// NULL where there is no memory. No thread is started yet.
GS_EXPORT GsPool* gs_pool_create(int threads, int64_t spin_microseconds) {
  GsPool* pool = 0;
  if (posix_memalign((void**)&pool, 64, sizeof(GsPool))) return 0;
  memset(pool, 0, sizeof *pool);
  pool->size = threads < 1 ? 1 : threads;
  pool->spin_ns = spin_microseconds * 1000;
  pool->workers = calloc((size_t)pool->size, sizeof(GsWorker));
  if (!pool->workers) {
    free(pool);
    return 0;
  }
  pthread_mutex_init(&pool->mutex, 0);
  pthread_cond_init(&pool->wake, 0);
  pthread_cond_init(&pool->done, 0);
  return pool;
}

// No loop may be running.
GS_EXPORT void gs_pool_destroy(GsPool* pool) {
  if (!pool) return;
  if (pool->started) {
    atomic_store(&pool->stop, 1);
    gs_pool_post(pool);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->workers[i].thread, 0);
  }
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  free(pool->workers);
  free(pool);
}

// In a forked child: the threads stayed with the parent, and whoever held the mutex is not here to let it go.
GS_EXPORT void gs_pool_forked(GsPool* pool) {
  pool->started = 0;
  atomic_store(&pool->busy, 0);
  atomic_store(&pool->sleepers, 0);
  atomic_store(&pool->left, 0);
  atomic_store(&pool->awaited, 0);
  pthread_mutex_init(&pool->mutex, 0);
  pthread_cond_init(&pool->wake, 0);
  pthread_cond_init(&pool->done, 0);
}

#endif
