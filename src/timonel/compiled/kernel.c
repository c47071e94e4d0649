/* Sums of the leaves that rows reach in an ensemble of trees.

   The upper part of each tree, up to 64 exits, is decided for a whole block of rows without a
   branch: every exit has a bit, numbered from left to right; a row that goes right at a node
   loses the bits of what is left of it; the lowest bit that remains is its exit. Compilers turn
   that loop into vector instructions. From exits that are no leaves the rest is walked, some
   steps at a time for all rows that are still on their way: leaves lead to themselves.

   Sums are of doubles, so that equal votes stay equal whatever their order. Indices are checked
   by the caller. */

#include <stdint.h>

#define BLOCK 256
#define STEPS 4
#define EXITS 64
#define LANES 4

typedef struct {
    float threshold;
    int32_t feature;
    int32_t next;  /* the left child; the right one stands behind it; a leaf's is itself */
    int32_t stray; /* 1 when a missing value goes right */
} Node;

typedef struct {
    float threshold;
    int32_t feature;
    uint64_t keep; /* the exits that are left to a row that goes right */
    int32_t stray;
} Top;

typedef struct {
    int32_t trees, classes, width, features; /* width: classes, rounded up to LANES */
    const int32_t *first;                    /* of a tree's tops; one more than there are trees */
    const Top *tops;
    const int32_t *exits; /* EXITS a tree: a leaf's number, or -1 - the node to walk from */
    const Node *nodes;
    const int32_t *leaves;  /* a node's leaf number */
    const double *weights;  /* width a leaf */
    const double *base;     /* width */
} Ensemble;

static void add(double *sum, const double *weight, int32_t width)
{
    for (int32_t lane = 0; lane < width; lane += LANES)
        for (int32_t c = 0; c < LANES; c++)
            sum[lane + c] += weight[lane + c];
}

static inline void walk(const Ensemble *e, const float *values, int32_t *at, int32_t *row,
                        int32_t active, double *sums, const int whole)
{
    while (active) {
        for (int32_t step = 0; step < STEPS; step++)
            for (int32_t k = 0; k < active; k++) {
                const Node *node = e->nodes + at[k];
                float value = values[node->feature * BLOCK + row[k]];
                at[k] = node->next + ((value > node->threshold)
                                      | (!whole && (value != value) & node->stray));
            }
        int32_t left = 0;
        for (int32_t k = 0; k < active; k++) {
            int32_t node = at[k], r = row[k];
            if (e->nodes[node].next == node) {
                add(sums + r * e->width, e->weights + (int64_t)e->leaves[node] * e->width,
                    e->width);
            } else {
                at[left] = node;
                row[left++] = r;
            }
        }
        active = left;
    }
}

static void tree(const Ensemble *e, int32_t number, const float *values, int32_t count,
                 double *sums, int whole)
{
    uint64_t open[BLOCK];
    int32_t at[BLOCK], row[BLOCK], active = 0;
    const int32_t *exits = e->exits + (int64_t)number * EXITS;
    for (int32_t r = 0; r < BLOCK; r++)
        open[r] = UINT64_MAX;
    for (int32_t i = e->first[number]; i < e->first[number + 1]; i++) {
        const float *value = values + (int64_t)e->tops[i].feature * BLOCK;
        const float threshold = e->tops[i].threshold;
        const uint64_t keep = e->tops[i].keep;
        if (e->tops[i].stray)
            for (int32_t r = 0; r < BLOCK; r++)
                open[r] &= value[r] <= threshold ? UINT64_MAX : keep;
        else
            for (int32_t r = 0; r < BLOCK; r++)
                open[r] &= value[r] > threshold ? keep : UINT64_MAX;
    }
    for (int32_t r = 0; r < count; r++) {
        int32_t found = exits[__builtin_ctzll(open[r])];
        if (found >= 0) {
            add(sums + r * e->width, e->weights + (int64_t)found * e->width, e->width);
        } else {
            at[active] = -1 - found;
            row[active++] = r;
        }
    }
    if (whole)
        walk(e, values, at, row, active, sums, 1);
    else
        walk(e, values, at, row, active, sums, 0);
}

/* scores: count × classes; labels: count; values: BLOCK × features and sums: BLOCK × width, to
   work in. */
void timonel_score(const Ensemble *e, const float *rows, int64_t count, float *scores,
                   int64_t *labels, float *values, double *sums)
{
    for (int64_t first = 0; first < count; first += BLOCK) {
        const int32_t n = count - first < BLOCK ? (int32_t)(count - first) : BLOCK;
        int whole = 1; /* no value is missing */
        for (int32_t f = 0; f < e->features; f++)
            for (int32_t r = 0; r < BLOCK; r++) {
                float value = rows[(first + (r < n ? r : 0)) * e->features + f];
                values[(int64_t)f * BLOCK + r] = value;
                whole &= value == value;
            }
        for (int32_t r = 0; r < n; r++)
            for (int32_t c = 0; c < e->width; c++)
                sums[r * e->width + c] = e->base[c];
        for (int32_t t = 0; t < e->trees; t++)
            tree(e, t, values, n, sums, whole);
        for (int32_t r = 0; r < n; r++) {
            const double *sum = sums + r * e->width;
            int32_t best = 0;
            for (int32_t c = 0; c < e->classes; c++) {
                if (sum[c] > sum[best])
                    best = c;
                scores[(first + r) * e->classes + c] = (float)sum[c];
            }
            labels[first + r] = best;
        }
    }
}
