#include "kernel.cuh"

// x [ci][n] to y [co][n].
KERNEL(linear, (float *y, const float *x, const float *weight, const float *bias, int co, int ci, int n)) {
    int i = element();
    if (i >= (Index)co * n) return;
    Index o = i / n, image = i % n;
    float sum = bias[o];
    for (Index c = 0; c < ci; c++) sum = fmaf(weight[o * ci + c], x[c * n + image], sum);
    y[i] = sum;
}

// A thread for each element of dx [ci][n], then of dweight [co][ci], then of dbias [co].
KERNEL(linear_backward, (float *dx, float *dweight, float *dbias, const float *dy, const float *x,
                         const float *weight, int co, int ci, int n)) {
    int i = element();
    float sum = 0;
    if (i < (Index)ci * n) {
        Index c = i / n, image = i % n;
        for (Index o = 0; o < co; o++) sum = fmaf(weight[o * ci + c], dy[o * n + image], sum);
        dx[i] = sum;
        return;
    }
    i -= (Index)ci * n;
    if (i < (Index)co * ci) {
        Index o = i / ci, c = i % ci;
        for (Index image = 0; image < n; image++) sum = fmaf(dy[o * n + image], x[c * n + image], sum);
        dweight[i] = sum;
        return;
    }
    i -= (Index)co * ci;
    if (i < co) {
        for (Index image = 0; image < n; image++) sum += dy[i * n + image];
        dbias[i] = sum;
    }
}
