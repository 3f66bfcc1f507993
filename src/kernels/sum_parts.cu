#include "kernel.cuh"

// The sums over `parts` of `count` elements each: the threads of a column share the parts.
COOPERATIVE(sum_parts, (float *sums, const float *all, int count, int parts)) {
    __shared__ float some[THREADS / WARP][WARP];
    int i = blockIdx.x * WARP + threadIdx.x;
    float sum = 0;
    for (int part = threadIdx.y; part < parts && i < count; part += THREADS / WARP) {
        sum += all[(Index)part * count + i];
    }
    some[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || i >= count) return;
    for (int y = 1; y < THREADS / WARP; y++) sum += some[y][threadIdx.x];
    sums[i] = sum;
}

// c [m][n], or c + , the sum of parts [parts][m][n], in rows that begin `c_row` and `row` elements apart.
KERNEL(sum_products, (float *c, int c_row, const float *all, int m, int n, int row, int parts, int accumulate)) {
    int i = element();
    if (i >= m * n) return;
    float *to = c + (Index)(i / n) * c_row + i % n;
    const float *from = all + (Index)(i / n) * row + i % n;
    float sum = accumulate ? *to : 0;
    for (int part = 0; part < parts; part++) sum += from[(Index)part * m * row];
    *to = sum;
}
