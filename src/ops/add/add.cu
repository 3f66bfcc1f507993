#include "kernel.cuh"

KERNEL(add, (float *y, const float *a, const float *b, int count)) {
    int i = element();
    if (i < count) y[i] = a[i] + b[i];
}
