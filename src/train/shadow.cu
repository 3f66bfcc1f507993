#include "kernel.cuh"

// average += share · (w − average)
KERNEL(average_weights, (float *average, const float *w, float share, int count)) {
    int i = element();
    if (i < count) average[i] = fmaf(w[i] - average[i], share, average[i]);
}

// sums −= g · w, unless loss or norm, the `outcome`, are not finite.
KERNEL(add_movement, (float *sums, const float *w, const float *g, const float *outcome, int count)) {
    int i = element();
    if (i >= count || !isfinite(outcome[0]) || !isfinite(outcome[1])) return;
    sums[i] = fmaf(-g[i], w[i], sums[i]);
}
