#include "kernel.cuh"

// The sums over `parts` of `count` elements each.
COOPERATIVE(sum_parts, (float *sums, const float *all, int count, int parts)) {
    int i = blockIdx.x * WARP + threadIdx.x % WARP;
    float sum = warps_sum(parts, [&](int part) { return i < count ? all[(Index)part * count + i] : 0; });
    if (threadIdx.x < WARP && i < count) sums[i] = sum;
}

// c [m][n], or c + , the sum of parts [parts][m][n], in rows that begin `c_row` and `row` elements apart.
COOPERATIVE(sum_products, (float *c, int c_row, const float *all, int m, int n, int row, int parts,
                           int accumulate)) {
    int i = blockIdx.x * WARP + threadIdx.x % WARP;
    bool there = i < m * n;
    const float *from = all + (Index)(i / n) * row + i % n;
    float sum = warps_sum(parts, [&](int part) { return there ? from[(Index)part * m * row] : 0; });
    if (threadIdx.x >= WARP || !there) return;
    float *to = c + (Index)(i / n) * c_row + i % n;
    *to = accumulate ? *to + sum : sum;
}
