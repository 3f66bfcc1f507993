#include "kernel.cuh"

constexpr int CHUNK = 16 * THREADS;

// Kinds of losses, as cuda.rs numbers them.
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

// The sum of the penalties of `CHUNK` of an image's `count` errors a block, in planes of `plane` values.
COOPERATIVE(image_penalties, (float *parts, const float *errors, int kind, int images, int plane, int count)) {
    int image = blockIdx.y, first = blockIdx.x * CHUNK;
    int end = first + CHUNK < count ? first + CHUNK : count;
    double sum = 0;
    for (int i = first + threadIdx.x; i < end; i += THREADS) {
        sum += penalty(kind, errors[((Index)(i / plane) * images + image) * plane + i % plane]);
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

// The losses of all images, each times what it counts, by one block.
COOPERATIVE(batch_loss, (float *sum, const float *losses, const float *counts, int images)) {
    double all = 0;
    for (int i = threadIdx.x; i < images; i += THREADS) all += (double)counts[i] * losses[i];
    all = block_sum(all);
    if (threadIdx.x == 0) *sum = (float)all;
}

// The gradient of each image's loss by its errors, `scale` times that of their mean.
KERNEL(penalty_slopes, (float *slopes, const float *errors, const float *gradient, int kind, int images,
                        int plane, int count, float scale, int all)) {
    int i = element();
    if (i < all) slopes[i] = gradient[i / plane % images] * scale / count * slope(kind, errors[i]);
}

// a − b, or −b where a is null.
KERNEL(difference, (float *y, const float *a, const float *b, int count)) {
    int i = element();
    if (i < count) y[i] = (a ? a[i] : 0) - b[i];
}
