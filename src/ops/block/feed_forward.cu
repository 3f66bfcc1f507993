#include "strip.cuh"

namespace {

// Φ(a), the distribution function of the standard normal, and its density.
__device__ float normal_cdf(float a) { return 0.5f * (1 + erff(a * 0.70710678f)); }
__device__ float normal_density(float a) { return 0.39894228f * expf(-0.5f * a * a); }

// Both halves of gated channels before the gate: u holds planes [2·hidden][n].
struct Halves {
    float a[Strip::ROWS], b[Strip::ROWS];

    __device__ Halves(Strip strip, const Element *u, const float *taps, int hidden, int n, int h, int w) {
        int channel = strip.plane / n;
        strip.sum(a, Plane(u, strip.plane, h, w), taps + channel * 9, false);
        Plane other(u, strip.plane + (Index)hidden * n, h, w);
        strip.sum(b, other, taps + (channel + hidden) * 9, false);
    }
};

} // namespace

// gelu(a)·b of [hidden][n] planes.
KERNEL(gate, (Element *gated, const Element *u, const float *taps, int hidden, int n, int h, int w)) {
    Strip strip;
    if (strip.col >= w) return;
    Halves half(strip, u, taps, hidden, n, h, w);
    for (int i = 0; i < Strip::ROWS; i++) half.a[i] *= normal_cdf(half.a[i]) * half.b[i];
    strip.write(gated, half.a, h, w);
}

// The gate again, and the gradient of both halves.
KERNEL(gate_backward, (Element *gated, Element *dhalves, const Element *dgated, const Element *u,
                       const float *taps, int hidden, int n, int h, int w)) {
    Strip strip;
    if (strip.col >= w) return;
    Halves half(strip, u, taps, hidden, n, h, w);
    Index at = strip.first(h, w), other = (Index)hidden * n * h * w;
    for (int i = 0; i < strip.rows(h); i++, at += w) {
        float a = half.a[i], b = half.b[i], cdf = normal_cdf(a), d = value(dgated[at]);
        gated[at] = a * cdf * b;
        dhalves[at] = d * b * fmaf(a, normal_density(a), cdf);
        dhalves[at + other] = d * a * cdf;
    }
}
