// What kernels begin with: how they are declared, and what they share.
//
// Images of sizes [n, h, c, w] lie in the memory of a GPU as planes [c][n][h][w]: a 1x1 convolution is
// one matrix product over all pixels of all images.
#pragma once

#ifdef EMULATED
#include "emulator.h"
#else
// A kernel whose threads do not talk to each other.
#define KERNEL(name, parameters) extern "C" __global__ void name parameters
// A kernel of 256 threads a block, which wait for each other.
#define COOPERATIVE(name, parameters) extern "C" __global__ void __launch_bounds__(256) name parameters
#endif

typedef long long Index;

constexpr int THREADS = 256;

// The number of this thread among those of all blocks.
__device__ inline Index element() { return (Index)blockIdx.x * blockDim.x + threadIdx.x; }

// Joins N values of each of a block's 256 threads, in an order that is always the same; all get the
// results.
template <int N, class T, class Join> __device__ void block_join(T (&values)[N], Join join) {
    constexpr int FOLDED = 32;
    __shared__ T all[N][THREADS], folded[N][FOLDED];
    int t = threadIdx.x;
    for (int v = 0; v < N; v++) all[v][t] = values[v];
    __syncthreads();
    for (int at = t; at < N * FOLDED; at += THREADS) {
        int v = at / FOLDED, first = at % FOLDED;
        T joined = all[v][first];
        for (int i = first + FOLDED; i < THREADS; i += FOLDED) joined = join(joined, all[v][i]);
        folded[v][first] = joined;
    }
    __syncthreads();
    for (int v = 0; v < N; v++) {
        values[v] = folded[v][0];
        for (int i = 1; i < FOLDED; i++) values[v] = join(values[v], folded[v][i]);
    }
    __syncthreads();
}

struct Add {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};

struct Max {
    template <class T> __device__ T operator()(T a, T b) const { return a > b ? a : b; }
};

template <class T> __device__ T block_sum(T value) {
    T values[1] = {value};
    block_join(values, Add());
    return values[0];
}

template <class T> __device__ T block_max(T value) {
    T values[1] = {value};
    block_join(values, Max());
    return values[0];
}

// Where a 3x3 window's nine values come from: a pixel of a plane of h x w, zero beyond its borders.
struct Window {
    const float *plane;
    int h, w, row, col;

    __device__ float at(int down, int right) const {
        int r = row + down, c = col + right;
        return r < 0 || r >= h || c < 0 || c >= w ? 0.0f : plane[(Index)r * w + c];
    }

    // The sum of nine products, with the taps in order or in reverse.
    __device__ float sum(const float *taps, bool reverse) const {
        float sum = 0;
        for (int tap = 0; tap < 9; tap++) {
            sum = fmaf(taps[reverse ? 8 - tap : tap], at(tap / 3 - 1, tap % 3 - 1), sum);
        }
        return sum;
    }
};

__device__ inline Window window(const float *x, Index plane, int h, int w, Index pixel) {
    return Window{x + plane * h * w, h, w, (int)(pixel / w), (int)(pixel % w)};
}
