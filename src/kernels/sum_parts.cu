#include "kernel.cuh"

namespace {

// The sum of what from(part) is for each part, of which the threads of a column take turns; the first one gets it.
template <class From> __device__ float column_sum(int parts, From from) {
    __shared__ float some[THREADS / WARP][WARP];
    float sum = 0;
    for (int part = threadIdx.y; part < parts; part += THREADS / WARP) sum += from(part);
    some[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (int y = 1; y < THREADS / WARP && threadIdx.y == 0; y++) sum += some[y][threadIdx.x];
    return sum;
}

} // namespace

// The sums over `parts` of `count` elements each.
COOPERATIVE(sum_parts, (float *sums, const float *all, int count, int parts)) {
    int i = blockIdx.x * WARP + threadIdx.x;
    float sum = column_sum(parts, [&](int part) { return i < count ? all[(Index)part * count + i] : 0; });
    if (threadIdx.y == 0 && i < count) sums[i] = sum;
}

// c [m][n], or c + , the sum of parts [parts][m][n], in rows that begin `c_row` and `row` elements apart.
COOPERATIVE(sum_products, (float *c, int c_row, const float *all, int m, int n, int row, int parts,
                           int accumulate)) {
    int i = blockIdx.x * WARP + threadIdx.x;
    bool there = i < m * n;
    const float *from = all + (Index)(i / n) * row + i % n;
    float sum = column_sum(parts, [&](int part) { return there ? from[(Index)part * m * row] : 0; });
    if (threadIdx.y > 0 || !there) return;
    float *to = c + (Index)(i / n) * c_row + i % n;
    *to = accumulate ? *to + sum : sum;
}
