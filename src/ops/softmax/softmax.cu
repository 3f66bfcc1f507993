#include "kernel.cuh"

// What the exponentials of an image's values [len][n] are divided by, and what is taken from the
// values before.
struct Normaliser {
    float most, total;

    __device__ Normaliser(const float *x, int len, int n) : most(x[0]), total(0) {
        for (int l = 1; l < len; l++) most = fmaxf(most, x[(Index)l * n]);
        for (int l = 0; l < len; l++) total += expf(x[(Index)l * n] - most);
    }

    __device__ float operator()(float x) const { return expf(x - most) / total; }
};

// A thread for each image.
KERNEL(softmax, (float *y, const float *x, int len, int n)) {
    int image = element();
    if (image >= n) return;
    Normaliser normal(x + image, len, n);
    for (int l = 0; l < len; l++) y[(Index)l * n + image] = normal(x[(Index)l * n + image]);
}

KERNEL(softmax_backward, (float *dx, const float *dy, const float *x, int len, int n)) {
    int image = element();
    if (image >= n) return;
    Normaliser normal(x + image, len, n);
    float mean = 0;
    for (int l = 0; l < len; l++) {
        Index i = (Index)l * n + image;
        mean = fmaf(normal(x[i]), dy[i], mean);
    }
    for (int l = 0; l < len; l++) {
        Index i = (Index)l * n + image;
        dx[i] = normal(x[i]) * (dy[i] - mean);
    }
}
