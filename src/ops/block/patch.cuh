// 3x3 windows of planes: a warp takes a part of a plane, its threads patches of 4 x 4 pixels one after the
// other, of which a row is one load.
#pragma once
#include "kernel.cuh"

namespace {

constexpr int SIDE = 4, LINE = SIDE + 2;

// Values of a patch.
typedef float Values[SIDE][SIDE];

// A row of a patch in memory.
struct alignas(SIDE * sizeof(Element)) Row {
    Element values[SIDE];
};

__device__ inline int patches_along(int size) { return (size + SIDE - 1) / SIDE; }

// Where a patch lies in a plane.
struct Patch {
    int row, col;

    // A row around the patch and the values beside it, zero beyond the borders.
    __device__ void line(float (&values)[LINE], const Plane &x, int down) const {
        int at = row + down;
        for (int i = 0; i < LINE; i++) values[i] = 0;
        if (at < 0 || at >= x.h) return;
        const Element *first = x.pixels + (Index)at * x.w + col;
        if (x.w % SIDE == 0) {
            Row own = *reinterpret_cast<const Row *>(first);
            for (int i = 0; i < SIDE; i++) values[1 + i] = value(own.values[i]);
        } else {
            for (int i = 0; i < SIDE; i++) {
                if (col + i < x.w) values[1 + i] = value(first[i]);
            }
        }
        if (col > 0) values[0] = value(first[-1]);
        if (col + SIDE < x.w) values[LINE - 1] = value(first[SIDE]);
    }

    // The sums of nine products around each pixel.
    __device__ void sum(Values &sums, const Plane &x, const float *taps) const {
        float own[9];
        for (int tap = 0; tap < 9; tap++) own[tap] = taps[tap];
        for (int i = 0; i < SIDE * SIDE; i++) sums[i / SIDE][i % SIDE] = 0;
#pragma unroll
        for (int from = -1; from <= SIDE; from++) {
            float around[LINE];
            line(around, x, from);
#pragma unroll
            for (int tap = 0; tap < 9; tap++) {
                int to = from + 1 - tap / 3;
                if (to < 0 || to >= SIDE) continue;
#pragma unroll
                for (int i = 0; i < SIDE; i++) {
                    sums[to][i] = fmaf(own[tap], around[i + tap % 3], sums[to][i]);
                }
            }
        }
    }

    __device__ void read(Values &values, const Plane &x) const {
#pragma unroll
        for (int i = 0; i < SIDE; i++) {
            float around[LINE];
            line(around, x, i);
            for (int j = 0; j < SIDE; j++) values[i][j] = around[1 + j];
        }
    }

    // To a plane, of the sizes that `Plane` has.
    __device__ void write(Element *y, Index plane, int h, int w, const Values &values) const {
        Element *first = y + (plane * h + row) * w + col;
#pragma unroll
        for (int i = 0; i < SIDE; i++, first += w) {
            if (row + i >= h) return;
            if (w % SIDE == 0) {
                Row own;
                for (int j = 0; j < SIDE; j++) own.values[j] = values[i][j];
                *reinterpret_cast<Row *>(first) = own;
            } else {
                for (int j = 0; j < SIDE && col + j < w; j++) first[j] = values[i][j];
            }
        }
    }
};

// What a warp takes: patches of a plane, as many in each part.
struct Part {
    static constexpr int PATCHES = 2 * WARP;

    int plane, part, h, w;

    __device__ Part(int h, int w) : h(h), w(w) {
        int warp = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
        plane = warp / parts();
        part = warp % parts();
    }

    __device__ int patches() const { return patches_along(h) * patches_along(w); }
    __device__ int parts() const { return (patches() + PATCHES - 1) / PATCHES; }

    // Calls `work` with the patches of this thread.
    template <class Work> __device__ void each(Work work) const {
        for (int i = threadIdx.x % WARP; i < PATCHES; i += WARP) {
            int patch = part * PATCHES + i, across = patches_along(w);
            if (patch < patches()) work(Patch{patch / across * SIDE, patch % across * SIDE});
        }
    }
};

} // namespace
