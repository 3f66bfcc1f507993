#include "kernel.cuh"

constexpr int CHUNK = 16 * THREADS;

// Kinds of losses, as mod.rs numbers them.
constexpr int L1 = 0, L2 = 1;
constexpr float EPSILON_SQUARED = 1e-6f;

__device__ inline float penalty(int kind, float error) {
    if (kind == L1) return fabsf(error);
    if (kind == L2) return error * error;
    return sqrtf(error * error + EPSILON_SQUARED);
}

__device__ inline float slope(int kind, float error) {
    if (kind == L1) return error > 0 ? 1.0f : error < 0 ? -1.0f : 0.0f;
    if (kind == L2) return 2 * error;
    return error / sqrtf(error * error + EPSILON_SQUARED);
}

// The sum of the penalties of `CHUNK` of an image's `count` elements a block, planes of `plane` pixels.
COOPERATIVE(image_penalties, (float *parts, const float *x, const float *target, int kind, int images,
                              int plane, int count)) {
    int image = blockIdx.y, first = blockIdx.x * CHUNK;
    int end = first + CHUNK < count ? first + CHUNK : count;
    double sum = 0;
    for (int i = first + threadIdx.x; i < end; i += THREADS) {
        Index at = ((Index)(i / plane) * images + image) * plane + i % plane;
        sum += penalty(kind, x[at] - target[at]);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[image * gridDim.x + blockIdx.x] = (float)sum;
}

// `scale` times the mean of an image's `count` penalties from the sums of `blocks`, a block an image.
COOPERATIVE(image_losses, (float *losses, const float *parts, int blocks, int count, float scale)) {
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += THREADS) sum += parts[blockIdx.x * blocks + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = (float)(scale * sum / count);
}

// The mean of the losses of all images, by one block.
COOPERATIVE(mean_loss, (float *mean, const float *losses, int images)) {
    double sum = 0;
    for (int i = threadIdx.x; i < images; i += THREADS) sum += losses[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *mean = (float)(sum / images);
}

KERNEL(loss_backward, (float *dx, float *dtarget, const float *x, const float *target,
                       const float *gradient, int kind, int images, int plane, int count, float scale,
                       int all)) {
    int i = element();
    if (i >= all) return;
    float d = gradient[i / plane % images] * scale / count * slope(kind, x[i] - target[i]);
    dx[i] = d;
    dtarget[i] = -d;
}
