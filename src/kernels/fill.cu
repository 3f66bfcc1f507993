#include "kernel.cuh"

KERNEL(fill, (float *y, float value, int count)) {
    Index i = element();
    if (i < count) y[i] = value;
}
