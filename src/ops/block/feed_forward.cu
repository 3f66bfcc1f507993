#include "kernel.cuh"

// Φ(a), the distribution function of the standard normal, and its density.
__device__ static float normal_cdf(float a) { return 0.5f * (1 + erff(a * 0.70710678f)); }
__device__ static float normal_density(float a) { return 0.39894228f * expf(-0.5f * a * a); }

// Both halves of a gated channel before the gate, at one pixel: u holds planes [2·hidden][n].
struct Halves {
    float a, b;

    __device__ Halves(const float *u, const float *taps, Index plane, Index pixel, int hidden, int n,
                      int h, int w) {
        Index channel = plane / n;
        a = window(u, plane, h, w, pixel).sum(taps + channel * 9, false);
        b = window(u, plane + (Index)hidden * n, h, w, pixel).sum(taps + (channel + hidden) * 9, false);
    }
};

// gelu(a)·b of [hidden][n] planes, `count` elements.
KERNEL(gate, (float *gated, const float *u, const float *taps, int count, int hidden, int n, int h,
              int w)) {
    Index i = element();
    if (i >= count) return;
    Halves half(u, taps, i / ((Index)h * w), i % ((Index)h * w), hidden, n, h, w);
    gated[i] = half.a * normal_cdf(half.a) * half.b;
}

// The gate again, and the gradient of both halves.
KERNEL(gate_backward, (float *gated, float *dhalves, const float *dgated, const float *u,
                       const float *taps, int count, int hidden, int n, int h, int w)) {
    Index i = element();
    if (i >= count) return;
    Halves half(u, taps, i / ((Index)h * w), i % ((Index)h * w), hidden, n, h, w);
    float cdf = normal_cdf(half.a), d = dgated[i];
    gated[i] = half.a * cdf * half.b;
    dhalves[i] = d * half.b * fmaf(half.a, normal_density(half.a), cdf);
    dhalves[i + count] = d * half.a * cdf;
}
