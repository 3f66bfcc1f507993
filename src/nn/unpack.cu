#include "kernel.cuh"

// Values from those of them whose bit is set, and zeros. `before` counts the bits before each word.
KERNEL(unpack, (float *values, const float *survivors, const unsigned long long *mask, const int *before,
                int count)) {
    int i = element();
    if (i >= count) return;
    unsigned long long word = mask[i / 64], bit = 1ull << i % 64;
    values[i] = word & bit ? survivors[before[i / 64] + __popcll(word & (bit - 1))] : 0;
}
