#include "kernel.cuh"

// The values at some places.
KERNEL(gather, (float *values, const float *all, const int *places, int count)) {
    int i = element();
    if (i < count) values[i] = all[places[i]];
}

// Values to their places, which are all different.
KERNEL(scatter, (float *all, const float *values, const int *places, int count)) {
    int i = element();
    if (i < count) all[places[i]] = values[i];
}
