#include "kernel.cuh"

// Planes [c][n][h][w], so that `pixels` are those of all images.
KERNEL(add_bias, (Element *y, const Element *x, const float *bias, int count, int pixels)) {
    int i = element();
    if (i < count) y[i] = value(x[i]) + bias[i / pixels];
}

// A block for each channel.
COOPERATIVE(add_bias_backward, (float *dbias, const Element *dy, int pixels)) {
    const Element *channel = dy + (Index)blockIdx.x * pixels;
    float sum = 0;
    for (int i = threadIdx.x; i < pixels; i += THREADS) sum += value(channel[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) dbias[blockIdx.x] = sum;
}
