#include "patch.cuh"

constexpr float EPSILON = 1e-5f;

// A block takes 32 pixels; eight threads share the channels of one.
constexpr int PIXELS = 32, GROUPS = THREADS / PIXELS;
// Channels that a thread works on at once, so that it does not wait for one after the other.
constexpr int TOGETHER = 4;

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

// x [channels][pixels] to γ·x̂ + β, or without β to γ·x/√(σ² + ε); and where there is room for it a copy of x.
COOPERATIVE(layer_norm, (Element *y, Element *copy, const Element *x, const float *gamma, const float *beta,
                         int channels, int pixels)) {
    Index pixel = (Index)blockIdx.x * PIXELS + threadIdx.x;
    int end = pixel < pixels ? channels : 0;
    Norm norm(x + pixel, end, channels, pixels);
    float mean = beta ? norm.mean : 0;
    for (int c = threadIdx.y; c < end; c += GROUPS) {
        Index i = (Index)c * pixels + pixel;
        Element own = x[i];
        y[i] = fmaf((value(own) - mean) * norm.scale, gamma[c], beta ? beta[c] : 0);
        if (copy) copy[i] = own;
    }
}

// dx = dy + the gradient by way of the norm, whose results have the gradient dn, and dγ and dβ of a block's
// pixels, [blocks][count][channels]: without β `count` is 1. A block takes `tiles` of
// 32 pixels one after the other.
COOPERATIVE(layer_norm_backward, (Element *dx, float *sums, const Element *x, const Element *dn, const Element *dy,
                                  const float *gamma, int count, int channels, int pixels, int tiles)) {
    float *by_gamma = sums + (Index)blockIdx.x * count * channels, *by_beta = by_gamma + channels;
    bool biased = count > 1;
    for (int tile = 0; tile < tiles; tile++) {
        Index pixel = ((Index)blockIdx.x * tiles + tile) * PIXELS + threadIdx.x;
        int end = pixel < pixels ? channels : 0;
        Norm norm(x + pixel, end, channels, pixels);
        float mean = biased ? norm.mean : 0, g_mean = 0, gx_mean = 0;
        for (int c = threadIdx.y; c < end; c += GROUPS) {
            Index i = (Index)c * pixels + pixel;
            float g = value(dn[i]) * gamma[c];
            g_mean += g;
            gx_mean = fmaf(g, (value(x[i]) - mean) * norm.scale, gx_mean);
        }
        g_mean = pixel_sum(g_mean) / channels;
        gx_mean = pixel_sum(gx_mean) / channels;
        // Without β, μ is in σ alone: ∂x̂/∂x has x̂ − μ/√(σ² + ε) where it had x̂, and no mean of g.
        if (!biased) g_mean = -norm.mean * norm.scale * gx_mean;
        // As many rounds for all threads, since warps sum up as a whole.
        for (int round = 0; round < channels; round += GROUPS * TOGETHER) {
            int first = round + threadIdx.y;
            float normal[TOGETHER], d[TOGETHER], along[TOGETHER], both[2 * TOGETHER];
            for (int k = 0; k < TOGETHER; k++) {
                int c = first + k * GROUPS;
                Index i = (Index)c * pixels + pixel;
                bool there = c < end;
                normal[k] = there ? (value(x[i]) - mean) * norm.scale : 0;
                d[k] = there ? value(dn[i]) : 0;
                along[k] = there ? value(dy[i]) : 0;
            }
            for (int k = 0; k < TOGETHER; k++) {
                int c = first + k * GROUPS;
                if (c < end) {
                    float g = d[k] * gamma[c] - g_mean - normal[k] * gx_mean;
                    dx[(Index)c * pixels + pixel] = along[k] + norm.scale * g;
                }
                both[k] = d[k] * normal[k];
                both[TOGETHER + k] = d[k];
            }
            warp_sums(both);
            for (int k = 0; k < TOGETHER && threadIdx.x == 0; k++) {
                int c = first + k * GROUPS;
                if (c >= channels) break;
                by_gamma[c] = tile > 0 ? by_gamma[c] + both[k] : both[k];
                if (biased) by_beta[c] = tile > 0 ? by_beta[c] + both[TOGETHER + k] : both[TOGETHER + k];
            }
        }
    }
}

// The depthwise convolution of `planes`, [channels][n], and Σ y² of the parts of the first `squared` of them,
// [parts][squared].
COOPERATIVE(depthwise, (Element *y, float *squares, const Element *x, const float *taps, int planes, int squared,
                        int n, int h, int w)) {
    Part part(h, w);
    if (part.plane >= planes) return;
    Plane plane(x, part.plane, h, w);
    float square[1] = {};
    part.each([&](Patch patch) {
        Values values;
        patch.sum(values, plane, taps + part.plane / n * 9);
        patch.write(y, part.plane, h, w, values);
        for (int i = 0; i < SIDE; i++) {
            for (int j = 0; j < SIDE; j++) {
                float v = patch.row + i < h && patch.col + j < w ? values[i][j] : 0;
                square[0] = fmaf(v, v, square[0]);
            }
        }
    });
    if (part.plane >= squared) return;
    warp_sums(square);
    if (threadIdx.x % WARP == 0) squares[(Index)part.part * squared + part.plane] = square[0];
}

// Its gradient by x, from dy, and the parts of that by the taps, [n][parts][channels][9].
COOPERATIVE(depthwise_backward, (Element *dx, float *dtaps, const Element *dy, const Element *x, const float *taps,
                                 int planes, int n, int h, int w)) {
    Part part(h, w);
    if (part.plane >= planes) return;
    int channel = part.plane / n, image = part.plane % n;
    Plane d(dy, part.plane, h, w), plane(x, part.plane, h, w);
    float own[9], sums[9] = {};
    for (int tap = 0; tap < 9; tap++) own[tap] = taps[channel * 9 + 8 - tap];
    part.each([&](Patch patch) {
        Values centres, results;
        Around values;
        patch.around(values, d);
        patch.read(centres, plane);
        for (int at = 0; at < SIDE * SIDE; at++) {
            int i = at / SIDE, j = at % SIDE;
            results[i][j] = 0;
            for (int tap = 0; tap < 9; tap++) {
                float value = values[i + tap / 3][j + tap % 3];
                results[i][j] = fmaf(own[tap], value, results[i][j]);
                // dy at this place has x at the centre under the tap on the other side.
                sums[8 - tap] = fmaf(centres[i][j], value, sums[8 - tap]);
            }
        }
        patch.write(dx, part.plane, h, w, results);
    });
    warp_sums(sums);
    if (threadIdx.x % WARP != 0) return;
    Index first = ((Index)image * part.parts() + part.part) * (planes / n) + channel;
    for (int tap = 0; tap < 9; tap++) dtaps[first * 9 + tap] = sums[tap];
}
