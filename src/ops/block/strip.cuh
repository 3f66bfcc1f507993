// 3x3 windows of planes: blocks of threads in columns and rows, each thread with a few rows.
#pragma once
#include "kernel.cuh"

namespace {

// What a thread computes: rows from `row` on of one column of a plane.
struct Strip {
    static constexpr int ROWS = 4;

    int plane, row, col;

    __device__ Strip()
        : plane(blockIdx.x), row((blockIdx.y * blockDim.y + threadIdx.y) * ROWS),
          col(blockIdx.z * blockDim.x + threadIdx.x) {}

    // The sums of nine products, with the taps in order or in reverse.
    __device__ void sum(float (&sums)[ROWS], Plane x, const float *taps, bool reverse) const {
        float own[9];
        for (int tap = 0; tap < 9; tap++) own[tap] = taps[reverse ? 8 - tap : tap];
        for (int i = 0; i < ROWS; i++) sums[i] = 0;
#pragma unroll
        for (int from = -1; from <= ROWS; from++) {
            float left = x.at(row + from, col - 1), centre = x.at(row + from, col);
            float right = x.at(row + from, col + 1);
#pragma unroll
            for (int down = -1; down <= 1; down++) {
                int to = from - down;
                if (to < 0 || to >= ROWS) continue;
                const float *line = own + (down + 1) * 3;
                sums[to] = fmaf(line[0], left, sums[to]);
                sums[to] = fmaf(line[1], centre, sums[to]);
                sums[to] = fmaf(line[2], right, sums[to]);
            }
        }
    }

    // The first of the elements of this strip, which lie w apart, and how many there are.
    __device__ Index first(int h, int w) const { return ((Index)plane * h + row) * w + col; }
    __device__ int rows(int h) const { return h - row < ROWS ? h - row : ROWS; }

    __device__ void write(Element *y, const float (&values)[ROWS], int h, int w) const {
        Index at = first(h, w);
        for (int i = 0; i < ROWS; i++, at += w) {
            if (i < rows(h)) y[at] = values[i];
        }
    }
};

} // namespace
