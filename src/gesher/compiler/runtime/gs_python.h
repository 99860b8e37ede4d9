// The shortest way from `session.run(feeds)` into a compiled model: a Python function in C.
//
// Nothing of Python or numpy is included or linked: what is called of them comes as pointers, all of it in Python's
// stable interface but two places in the head of an array, which compiler/direct.py tries out before it uses this. Runs
// whose shapes were seen before are done here; for anything else the function gives None, and Python looks at it.

#include "gs_base.h"

typedef struct GsObject {
  intptr_t count;
  void* type;
} GsObject;

// The head of numpy's arrays.
typedef struct GsArray {
  GsObject head;
  char* data;
  int nd;
  intptr_t *dims, *strides;
  GsObject *base, *descr;
  int flags;
} GsArray;

enum { GS_ARRAY_CONTIGUOUS = 0x1, GS_ARRAY_ALIGNED = 0x100 };

typedef struct GsPython {
  void *dict_type, *array_type;
  GsObject *none;
  intptr_t (*dict_size)(GsObject*);
  GsObject* (*dict_get)(GsObject*, GsObject*);                 // borrowed
  GsObject* (*dict_new)(void);
  int (*dict_set)(GsObject*, GsObject*, GsObject*);
  GsObject* (*call)(GsObject*);                                // with no arguments
  void (*take)(GsObject*);
  void (*drop)(GsObject*);
  void* (*save_thread)(void);
  void (*restore_thread)(void*);
  void (*clear)(void);                                         // what was raised
  GsObject* (*tuple_get)(GsObject*, intptr_t);                 // borrowed
  void* (*number)(GsObject*);                                  // of an int
  GsObject* (*new_array)(void*, GsObject*, int, intptr_t*, intptr_t*, void*, int, GsObject*);  // takes the descr
} GsPython;

#define GS_MOST_DIMS 8
#define GS_MOST_PORTS 32

// An input or output. Of an input also where its value stands that conditions hang on, and how long it is (0: it is
// free).
typedef struct GsPort {
  GsObject *name, *descr;
  int64_t nd, dims[GS_MOST_DIMS];
  const char* value;
  int64_t value_bytes;
  int64_t slot;          // its place among the segment's; -1: it is not read
} GsPort;

// Sizes that were seen: the ports, and what the segment needs to know of them.
typedef struct GsSeen {
  const GsPort *inputs, *outputs;
  const int64_t* sizes;
  int64_t n_sizes;
} GsSeen;

#define GS_MOST_SEEN 16

typedef struct GsDirect {
  GsObject *acquire, *release;   // of the session's lock
  int (*run)(const GsCall*);
  GsCall* call;
  int64_t n_inputs, n_outputs, n_seen;
  GsSeen seen[GS_MOST_SEEN];
} GsDirect;

// Set once in a process, always to the same.
static GsPython gs_py;
GS_EXPORT void gs_python_is(const GsPython* python) { gs_py = *python; }

static int gs_direct_fits(const GsPort* p, const GsArray* x) {
  if (x->descr != p->descr || x->nd != p->nd) return 0;
  if ((x->flags & (GS_ARRAY_CONTIGUOUS | GS_ARRAY_ALIGNED)) != (GS_ARRAY_CONTIGUOUS | GS_ARRAY_ALIGNED)) return 0;
  for (int i = 0; i < x->nd; i++)
    if (x->dims[i] != p->dims[i]) return 0;
  return !p->value_bytes || !memcmp(x->data, p->value, (size_t)p->value_bytes);
}

// The outputs by name, or NULL. The session's lock is held.
static GsObject* gs_direct_run(GsDirect* d, GsArray* const* inputs) {
  GsObject *made[GS_MOST_PORTS], *result = 0;
  int64_t n = 0;
  const GsSeen *seen = d->seen, *end = seen + d->n_seen;
  for (; seen < end; seen++) {
    int64_t i = 0;
    while (i < d->n_inputs && gs_direct_fits(seen->inputs + i, inputs[i])) i++;
    if (i == d->n_inputs) break;
  }
  if (seen == end) return 0;
  for (int64_t i = 0; i < seen->n_sizes; i++) d->call->dims[i] = seen->sizes[i];
  for (int64_t i = 0; i < d->n_inputs; i++)
    if (seen->inputs[i].slot >= 0) ((void**)d->call->inputs)[seen->inputs[i].slot] = inputs[i]->data;
  for (; n < d->n_outputs; n++) {
    const GsPort* p = seen->outputs + n;
    intptr_t dims[GS_MOST_DIMS];
    for (int64_t i = 0; i < p->nd; i++) dims[i] = (intptr_t)p->dims[i];
    gs_py.take(p->descr);
    made[n] = gs_py.new_array(gs_py.array_type, p->descr, (int)p->nd, dims, 0, 0, 0, 0);
    if (!made[n]) break;
    ((void**)d->call->outputs)[p->slot] = ((GsArray*)made[n])->data;
  }
  if (n == d->n_outputs) {
    void* thread = gs_py.save_thread();
    int code = d->run(d->call);
    gs_py.restore_thread(thread);
    if (!code) result = gs_py.dict_new();
    for (int64_t i = 0; result && i < n; i++)
      if (gs_py.dict_set(result, seen->outputs[i].name, made[i])) {
        gs_py.drop(result);
        result = 0;
      }
  }
  for (int64_t i = 0; i < n; i++) gs_py.drop(made[i]);
  // Whatever went wrong goes wrong again where Python can tell of it.
  if (!result) gs_py.clear();
  return result;
}

// The Python function. `self` is a tuple whose first element is the address of a GsDirect.
GS_EXPORT GsObject* gs_direct(GsObject* self, GsObject* feeds) {
  GsDirect* d = gs_py.number(gs_py.tuple_get(self, 0));
  GsArray* inputs[GS_MOST_PORTS];
  GsObject* result = 0;
  int64_t n = 0;
  int interrupted = 0;
  if (!d->n_seen || feeds->type != gs_py.dict_type || gs_py.dict_size(feeds) != d->n_inputs) goto other;
  for (; n < d->n_inputs; n++) {
    GsObject* x = gs_py.dict_get(feeds, d->seen[0].inputs[n].name);
    if (!x || x->type != gs_py.array_type) break;
    // Others may change the feeds while this waits and runs.
    gs_py.take(x);
    inputs[n] = (GsArray*)x;
  }
  if (n == d->n_inputs) {
    GsObject* held = gs_py.call(d->acquire);
    interrupted = !held;
    if (held) {
      gs_py.drop(held);
      result = gs_direct_run(d, inputs);
      held = gs_py.call(d->release);
      if (held) gs_py.drop(held);
    }
  }
  for (int64_t i = 0; i < n; i++) gs_py.drop(&inputs[i]->head);
  if (interrupted) return 0;
other:
  gs_py.clear();
  if (result) return result;
  gs_py.take(gs_py.none);
  return gs_py.none;
}
