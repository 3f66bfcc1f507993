#include "kernel.cuh"

KERNEL(fill, (float *y, float value, int count)) {
    int i = element();
    if (i < count) y[i] = value;
}
