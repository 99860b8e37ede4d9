// Ensembles of decision trees: gs_trees_f32_run over floats, gs_trees_f64_run over doubles; ..._plain is their meaning.
//
// The structs are gs_trees_f32_t and gs_trees_f32_node. All nodes of all trees stand in one array. Sums are made in
// double whatever the type, so the order of trees does not show. What a classifier does with its scores (softmax,
// logistic, the vote) comes after and is not part of this.

#include "gs_pool.h"

enum { GS_LEQ, GS_LT, GS_GTE, GS_GT, GS_EQ, GS_NEQ };
enum { GS_TREES_SUM, GS_TREES_AVERAGE, GS_TREES_MIN, GS_TREES_MAX };

// Walks side by side, and rows that go through a tree before the next one is fetched.
#define GS_TREES_LANES 8
#define GS_TREES_ROWS 64

#define GS_X float
#define GS_TREE(name) gs_trees_f32##name
#include "gs_trees.inc"
#undef GS_X
#undef GS_TREE
#define GS_X double
#define GS_TREE(name) gs_trees_f64##name
#include "gs_trees.inc"
#undef GS_X
#undef GS_TREE
