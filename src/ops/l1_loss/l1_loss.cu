#include "kernel.cuh"

constexpr int CHUNK = 16 * THREADS;

// The sum of the errors of `CHUNK` elements a block.
COOPERATIVE(l1_loss, (float *parts, const float *x, const float *target, int count)) {
    Index first = (Index)blockIdx.x * CHUNK;
    Index end = first + CHUNK < count ? first + CHUNK : count;
    double sum = 0;
    for (Index i = first + threadIdx.x; i < end; i += THREADS) sum += fabsf(x[i] - target[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = (float)sum;
}

// The mean of `count` errors from the sums of `blocks`, by one block.
COOPERATIVE(l1_loss_mean, (float *loss, const float *parts, int blocks, int count)) {
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += THREADS) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss = (float)(sum / count);
}

KERNEL(l1_loss_backward, (float *dx, float *dtarget, const float *x, const float *target,
                          const float *gradient, int count)) {
    int i = element();
    if (i >= count) return;
    float scale = *gradient / count, error = x[i] - target[i];
    float d = error > 0 ? scale : error < 0 ? -scale : 0.0f;
    dx[i] = d;
    dtarget[i] = -d;
}
