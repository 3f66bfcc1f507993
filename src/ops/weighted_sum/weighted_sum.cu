#include "kernel.cuh"

// weights [len][n] and set [len][c][pixels] to y [c][n][pixels].
KERNEL(weighted_sum, (float *y, const float *weights, const float *set, int count, int len, int c, int n,
                      int pixels)) {
    int i = element();
    if (i >= count) return;
    Index pixel = i % pixels, image = i / pixels % n, channel = i / pixels / n;
    float sum = 0;
    for (Index l = 0; l < len; l++) {
        sum = fmaf(weights[l * n + image], set[(l * c + channel) * pixels + pixel], sum);
    }
    y[i] = sum;
}

// A block for each image of the set and each image.
COOPERATIVE(weighted_sum_weights, (float *dweights, const float *dy, const float *set, int c, int n,
                                   int pixels)) {
    Index l = blockIdx.x, image = blockIdx.y;
    float sum = 0;
    for (int i = threadIdx.x; i < c * pixels; i += THREADS) {
        int channel = i / pixels, pixel = i % pixels;
        sum = fmaf(dy[((Index)channel * n + image) * pixels + pixel], set[l * c * pixels + i], sum);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) dweights[l * n + image] = sum;
}

KERNEL(weighted_sum_set, (float *dset, const float *dy, const float *weights, int count, int c, int n,
                          int pixels)) {
    int i = element();
    if (i >= count) return;
    Index pixel = i % pixels, channel = i / pixels % c, l = i / pixels / c;
    float sum = 0;
    for (Index image = 0; image < n; image++) {
        sum = fmaf(weights[l * n + image], dy[(channel * n + image) * pixels + pixel], sum);
    }
    dset[i] = sum;
}
