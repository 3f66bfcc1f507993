// 3x3 windows of planes: a warp takes a part of a plane, its threads patches of 4 x 4 pixels one after the
// other, of which a row is one load.
#pragma once
#include "kernel.cuh"

namespace {

constexpr int SIDE = 4, LINE = SIDE + 2;

// Values of a patch, and with those around it.
typedef float Values[SIDE][SIDE];
typedef float Around[LINE][LINE];

// A row of a patch in memory.
typedef Four<Element> Row;

__device__ inline int patches_along(int size) { return (size + SIDE - 1) / SIDE; }

// Where a patch lies in a plane.
struct Patch {
    int row, col;

    // Whether patches of a plane lie in it as a whole, so that rows are loaded as such.
    __device__ static bool whole(int h, int w) { return h % SIDE == 0 && w % SIDE == 0; }

    // The values from one row and column before the patch to one after it, zero beyond the borders. All loads
    // come before the first use, without branches: each would wait for its own.
    __device__ void around(Around &values, const Plane &x) const {
        if (!whole(x.h, x.w)) {
            for (int i = 0; i < LINE; i++) {
                for (int j = 0; j < LINE; j++) values[i][j] = x.at(row + i - 1, col + j - 1);
            }
            return;
        }
        bool top = row == 0, bottom = row + SIDE == x.h, left = col == 0, right = col + SIDE == x.w;
        const Element *first = x.pixels + (Index)row * x.w + col, *line = first - (top ? 0 : x.w);
        Element before[LINE], after[LINE];
        Row own[LINE];
        for (int i = 0; i < LINE; i++) {
            own[i] = *reinterpret_cast<const Row *>(line);
            before[i] = line[left ? 0 : -1];
            after[i] = line[right ? 0 : SIDE];
            line = first + (i + 1 < LINE - 1 || !bottom ? i : i - 1) * x.w;
        }
        for (int i = 0; i < LINE; i++) {
            bool there = !(i == 0 && top) && !(i == LINE - 1 && bottom);
            values[i][0] = there && !left ? value(before[i]) : 0;
            for (int j = 0; j < SIDE; j++) values[i][1 + j] = there ? value(own[i].values[j]) : 0;
            values[i][LINE - 1] = there && !right ? value(after[i]) : 0;
        }
    }

    // The sums of nine products around each pixel.
    __device__ void sum(Values &sums, const Plane &x, const float *taps) const {
        Around values;
        around(values, x);
        float own[9];
        for (int tap = 0; tap < 9; tap++) own[tap] = taps[tap];
        for (int at = 0; at < SIDE * SIDE; at++) {
            int i = at / SIDE, j = at % SIDE;
            sums[i][j] = 0;
            for (int tap = 0; tap < 9; tap++) {
                sums[i][j] = fmaf(own[tap], values[i + tap / 3][j + tap % 3], sums[i][j]);
            }
        }
    }

    // The values of a patch, zero beyond the borders.
    __device__ void read(Values &values, const Plane &x) const {
        Row own[SIDE];
        for (int i = 0; i < SIDE; i++) {
            if (whole(x.h, x.w)) {
                own[i] = *reinterpret_cast<const Row *>(x.pixels + (Index)(row + i) * x.w + col);
            } else {
                for (int j = 0; j < SIDE; j++) own[i].values[j] = x.at(row + i, col + j);
            }
        }
        for (int i = 0; i < SIDE; i++) {
            for (int j = 0; j < SIDE; j++) values[i][j] = value(own[i].values[j]);
        }
    }

    // To a plane, of the sizes that `Plane` has.
    __device__ void write(Element *y, Index plane, int h, int w, const Values &values) const {
        Element *first = y + (plane * h + row) * w + col;
        for (int i = 0; i < SIDE; i++, first += w) {
            if (whole(h, w)) {
                Row own;
                for (int j = 0; j < SIDE; j++) own.values[j] = values[i][j];
                *reinterpret_cast<Row *>(first) = own;
            } else {
                for (int j = 0; j < SIDE; j++) {
                    if (row + i < h && col + j < w) first[j] = values[i][j];
                }
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
