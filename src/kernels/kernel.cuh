// What kernels begin with: how they are declared, and what they share.
//
// Images of sizes [n, h, c, w] lie in the memory of a GPU as planes [c][n][h][w]: a 1x1 convolution is
// one matrix product over all pixels of all images.
#pragma once

#ifdef EMULATED
#include "emulator.h"
#else
#include <cuda_bf16.h>
#define DECLARE(name, parameters) extern "C" __global__ void name parameters
#define DECLARE_COOPERATIVE(name, parameters)                                                      \
    extern "C" __global__ void __launch_bounds__(256) name parameters
#endif

// What activations are held in. Files that say so are compiled for both; sums are float in both.
#ifdef BFLOAT16
typedef __nv_bfloat16 Element;
#define NAME(name) name##_bf16
#else
typedef float Element;
#define NAME(name) name
#endif

// A kernel whose threads do not talk to each other.
#define KERNEL(name, parameters) DECLARE(NAME(name), parameters)
// A kernel of 256 threads a block, which wait for each other.
#define COOPERATIVE(name, parameters) DECLARE_COOPERATIVE(NAME(name), parameters)

__device__ inline float value(float x) { return x; }
__device__ inline float value(__nv_bfloat16 x) { return __bfloat162float(x); }

// Offsets in memory. What is divided is an int: GPUs take ten times as long to divide 64 bits.
typedef long long Index;

constexpr int THREADS = 256, WARP = 32;

// The number of this thread among those of all blocks.
__device__ inline int element() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Joins N values of each of a block's 256 threads, in an order that is always the same; all get the
// results.
template <int N, class T, class Join> __device__ void block_join(T (&values)[N], Join join) {
    constexpr int FOLDED = 32;
    static_assert(N <= FOLDED);
    // One more, so that the threads of the last fold read from different banks.
    __shared__ T all[N][THREADS], folded[N][FOLDED + 1];
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
    if (t < N) {
        T joined = folded[t][0];
        for (int i = 1; i < FOLDED; i++) joined = join(joined, folded[t][i]);
        folded[t][0] = joined;
    }
    __syncthreads();
    for (int v = 0; v < N; v++) values[v] = folded[v][0];
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

// The sum of part(i) for each of `parts`, which a block's warps share; the first warp gets it, each lane its own.
template <class Part> __device__ float warps_sum(int parts, Part part) {
    constexpr int WARPS = THREADS / WARP;
    __shared__ float sums[WARPS][WARP];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    float sum = 0;
    for (int i = warp; i < parts; i += WARPS) sum += part(i);
    sums[warp][lane] = sum;
    __syncthreads();
    for (int other = 1; other < WARPS && warp == 0; other++) sum += sums[other][lane];
    __syncthreads();
    return sum;
}

// Values that are read or written at once.
template <class T> struct alignas(4 * sizeof(T)) Four {
    T values[4];
};

#ifndef EMULATED
// Sums up each of N values over the threads of a warp, in an order that is always the same; all get the
// results. A warp comes here as a whole.
template <int N> __device__ void warp_sums(float (&values)[N]) {
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
        for (int v = 0; v < N; v++) values[v] += __shfl_xor_sync(~0u, values[v], apart);
    }
}
#endif

// What knows `Element` belongs to one compilation alone.
namespace {

// A plane of h x w pixels, zero beyond its borders.
struct Plane {
    const Element *pixels;
    int h, w;

    __device__ Plane(const Element *x, Index plane, int h, int w) : pixels(x + plane * h * w), h(h), w(w) {}

    __device__ float at(int row, int col) const {
        if (row < 0 || row >= h || col < 0 || col >= w) return 0;
        return value(pixels[(Index)row * w + col]);
    }
};

} // namespace
