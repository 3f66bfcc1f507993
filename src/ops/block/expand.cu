#include "kernel.cuh"
#include "strip.cuh"

constexpr float EPSILON = 1e-5f;

// A block takes 32 pixels; eight threads share the channels of one.
constexpr int PIXELS = 32, GROUPS = THREADS / PIXELS;

namespace {

// The sum over the threads of a pixel.
__device__ float pixel_sum(float value) {
    __shared__ float sums[GROUPS][PIXELS];
    sums[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    float total = 0;
    for (int group = 0; group < GROUPS; group++) total += sums[group][threadIdx.x];
    __syncthreads();
    return total;
}

// The mean over the channels of a pixel and 1/√(σ² + ε). A pixel that is not there has `end` 0.
struct Norm {
    float mean, scale;

    __device__ Norm(const Element *x, int end, int channels, int pixels) {
        float sum = 0;
        for (int c = threadIdx.y; c < end; c += GROUPS) sum += value(x[(Index)c * pixels]);
        mean = pixel_sum(sum) / channels;
        sum = 0;
        for (int c = threadIdx.y; c < end; c += GROUPS) {
            float centred = value(x[(Index)c * pixels]) - mean;
            sum = fmaf(centred, centred, sum);
        }
        scale = 1 / sqrtf(pixel_sum(sum) / channels + EPSILON);
    }
};

} // namespace

// x [channels][pixels] to γ·x̂ + β.
COOPERATIVE(layer_norm, (Element *y, const Element *x, const float *gamma, const float *beta, int channels,
                         int pixels)) {
    Index pixel = (Index)blockIdx.x * PIXELS + threadIdx.x;
    int end = pixel < pixels ? channels : 0;
    Norm norm(x + pixel, end, channels, pixels);
    for (int c = threadIdx.y; c < end; c += GROUPS) {
        Index i = (Index)c * pixels + pixel;
        y[i] = fmaf((value(x[i]) - norm.mean) * norm.scale, gamma[c], beta[c]);
    }
}

// dx = dy + the gradient by way of the norm, whose results have the gradient dn; mean and scale of
// each pixel to `norms` [2][pixels].
COOPERATIVE(layer_norm_backward, (Element *dx, float *norms, const Element *x, const Element *dn, const Element *dy,
                                  const float *gamma, int channels, int pixels)) {
    Index pixel = (Index)blockIdx.x * PIXELS + threadIdx.x;
    int end = pixel < pixels ? channels : 0;
    Norm norm(x + pixel, end, channels, pixels);
    float g_mean = 0, gx_mean = 0;
    for (int c = threadIdx.y; c < end; c += GROUPS) {
        Index i = (Index)c * pixels + pixel;
        float g = value(dn[i]) * gamma[c];
        g_mean += g;
        gx_mean = fmaf(g, (value(x[i]) - norm.mean) * norm.scale, gx_mean);
    }
    g_mean = pixel_sum(g_mean) / channels;
    gx_mean = pixel_sum(gx_mean) / channels;
    for (int c = threadIdx.y; c < end; c += GROUPS) {
        Index i = (Index)c * pixels + pixel;
        float normal = (value(x[i]) - norm.mean) * norm.scale;
        float g = value(dn[i]) * gamma[c];
        dx[i] = value(dy[i]) + norm.scale * (g - g_mean - normal * gx_mean);
    }
    if (threadIdx.y == 0 && end > 0) {
        norms[pixel] = norm.mean;
        norms[pixels + pixel] = norm.scale;
    }
}

// dγ and dβ, [parts][2][channels]: a block for each channel and `part` pixels.
COOPERATIVE(layer_norm_parameters, (float *sums, const Element *x, const Element *dn, const float *norms,
                                    int pixels, int part)) {
    Index channel = blockIdx.x, first = (Index)blockIdx.y * part;
    Index end = first + part < pixels ? first + part : pixels;
    float by_gamma = 0, by_beta = 0;
    for (Index pixel = first + threadIdx.x; pixel < end; pixel += THREADS) {
        Index i = channel * pixels + pixel;
        float d = value(dn[i]);
        by_gamma = fmaf(d, (value(x[i]) - norms[pixel]) * norms[pixels + pixel], by_gamma);
        by_beta += d;
    }
    float both[2] = {by_gamma, by_beta};
    block_join(both, Add());
    if (threadIdx.x == 0) {
        float *to = sums + (Index)blockIdx.y * 2 * gridDim.x + channel;
        to[0] = both[0];
        to[gridDim.x] = both[1];
    }
}

// The depthwise convolution of planes [channels][n], or its transposed with the taps in reverse.
KERNEL(depthwise, (Element *y, const Element *x, const float *taps, int n, int h, int w, int reverse)) {
    Strip strip;
    if (strip.col >= w) return;
    float sums[Strip::ROWS];
    strip.sum(sums, Plane(x, strip.plane, h, w), taps + strip.plane / n * 9, reverse);
    strip.write(y, sums, h, w);
}

// The gradient of the taps, [n][channels][9]: a block for each channel and image. A thread goes down a
// column with the nine values around it, three of which are new in each row.
COOPERATIVE(depthwise_taps, (float *dtaps, const Element *dy, const Element *x, int n, int h, int w)) {
    Index channel = blockIdx.x, image = blockIdx.y;
    Plane d(dy, channel * n + image, h, w), plane(x, channel * n + image, h, w);
    int lanes = w > 16 ? 32 : 16, groups = THREADS / lanes;
    int rows = (h + groups - 1) / groups, first = threadIdx.x / lanes * rows;
    int end = first + rows < h ? first + rows : h;
    float sums[9] = {};
    for (int col = threadIdx.x % lanes; col < w; col += lanes) {
        float around[9];
        for (int i = 3; i < 9; i++) around[i] = plane.at(first + i / 3 - 2, col + i % 3 - 1);
        for (int row = first; row < end; row++) {
            for (int i = 0; i < 6; i++) around[i] = around[i + 3];
            for (int i = 6; i < 9; i++) around[i] = plane.at(row + 1, col + i % 3 - 1);
            float value = d.at(row, col);
            for (int tap = 0; tap < 9; tap++) sums[tap] = fmaf(value, around[tap], sums[tap]);
        }
    }
    block_join(sums, Add());
    for (int tap = 0; tap < 9 && threadIdx.x == 0; tap++) {
        dtaps[(image * gridDim.x + channel) * 9 + tap] = sums[tap];
    }
}
