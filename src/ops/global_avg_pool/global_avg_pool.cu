#include "kernel.cuh"

// A block for each plane.
COOPERATIVE(global_avg_pool, (float *y, const Element *x, int pixels)) {
    const Element *plane = x + (Index)blockIdx.x * pixels;
    float sum = 0;
    for (int i = threadIdx.x; i < pixels; i += THREADS) sum += value(plane[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[blockIdx.x] = sum / pixels;
}

KERNEL(global_avg_pool_backward, (Element *dx, const float *dy, int count, int pixels)) {
    int i = element();
    if (i < count) dx[i] = dy[i / pixels] / pixels;
}
