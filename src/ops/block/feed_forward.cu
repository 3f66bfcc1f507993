#include "patch.cuh"

namespace {

// Φ(a), the distribution function of the standard normal, and its density.
__device__ float normal_cdf(float a) { return 0.5f * (1 + erff(a * 0.70710678f)); }
__device__ float normal_density(float a) { return 0.39894228f * expf(-0.5f * a * a); }

// Both halves of gated channels before the gate: u holds planes [2·hidden][n].
struct Halves {
    Values a, b;

    __device__ Halves(const Part &part, Patch patch, const Element *u, const float *taps, int hidden, int n) {
        int channel = part.plane / n;
        patch.sum(a, Plane(u, part.plane, part.h, part.w), taps + channel * 9);
        Plane other(u, part.plane + (Index)hidden * n, part.h, part.w);
        patch.sum(b, other, taps + (channel + hidden) * 9);
    }
};

} // namespace

// gelu(a)·b of [hidden][n] planes.
KERNEL(gate, (Element *gated, const Element *u, const float *taps, int hidden, int n, int h, int w)) {
    Part part(h, w);
    if (part.plane >= hidden * n) return;
    part.each([&](Patch patch) {
        Halves half(part, patch, u, taps, hidden, n);
        for (int i = 0; i < SIDE; i++) {
            for (int j = 0; j < SIDE; j++) half.a[i][j] *= normal_cdf(half.a[i][j]) * half.b[i][j];
        }
        patch.write(gated, part.plane, h, w, half.a);
    });
}

// The gate again, and the gradient of both halves.
KERNEL(gate_backward, (Element *gated, Element *dhalves, const Element *dgated, const Element *u,
                       const float *taps, int hidden, int n, int h, int w)) {
    Part part(h, w);
    if (part.plane >= hidden * n) return;
    part.each([&](Patch patch) {
        Halves half(part, patch, u, taps, hidden, n);
        Values d;
        patch.read(d, Plane(dgated, part.plane, h, w));
        Values &da = half.a, &db = half.b;
        for (int i = 0; i < SIDE; i++) {
            for (int j = 0; j < SIDE; j++) {
                float a = half.a[i][j], b = half.b[i][j], cdf = normal_cdf(a), along = d[i][j];
                d[i][j] = a * cdf * b;
                da[i][j] = along * b * fmaf(a, normal_density(a), cdf);
                db[i][j] = along * a * cdf;
            }
        }
        patch.write(gated, part.plane, h, w, d);
        patch.write(dhalves, part.plane, h, w, da);
        patch.write(dhalves, part.plane + (Index)hidden * n, h, w, db);
    });
}
