#include "kernel.cuh"

// Zeroes the values whose bit is not set.
KERNEL(apply_mask, (float *values, const unsigned long long *mask, int count)) {
    int i = element();
    if (i < count && !(mask[i / 64] >> i % 64 & 1)) values[i] = 0;
}
