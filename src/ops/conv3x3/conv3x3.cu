#include "kernel.cuh"

// The nine neighbours of the pixels of some rows, [channels][9][rows·w]: rows from `first` on of those
// of all images [n·h].
KERNEL(neighbours, (float *columns, const float *x, int count, int first, int rows, int n, int h, int w)) {
    Index i = element();
    if (i >= count) return;
    Index pixel = i % ((Index)rows * w), line = i / ((Index)rows * w);
    Index row = first + pixel / w, channel = line / 9;
    int tap = line % 9;
    Index plane = channel * n + row / h;
    columns[i] = window(x, plane, h, w, row % h * w + pixel % w).at(tap / 3 - 1, tap % 3 - 1);
}

// Weights [co][ci][9] to those of the convolution that backward is, [ci][co][9] with the taps reversed.
KERNEL(flip, (float *flipped, const float *weight, int count, int co, int ci)) {
    Index i = element();
    if (i >= count) return;
    Index tap = i % 9, o = i / 9 % co, c = i / 9 / co;
    flipped[i] = weight[(o * ci + c) * 9 + 8 - tap];
}
