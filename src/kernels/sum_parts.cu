#include "kernel.cuh"

// `count` sums over `parts` of `size` elements each, group by group: [groups][parts][size].
KERNEL(sum_parts, (float *sums, const float *all, int count, int parts, int size)) {
    int i = element();
    if (i >= count) return;
    const float *part = all + i / size * parts * size + i % size;
    float sum = 0;
    for (int p = 0; p < parts; p++) sum += part[(Index)p * size];
    sums[i] = sum;
}
