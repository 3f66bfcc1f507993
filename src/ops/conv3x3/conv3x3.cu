#include "kernel.cuh"

// The nine neighbours of the pixels of some rows, [channels][9][rows·w]: rows from `first` on of those
// of all images [n·h].
KERNEL(neighbours, (Element *columns, const Element *x, int count, int first, int rows, int n, int h, int w)) {
    int i = element();
    if (i >= count) return;
    int pixel = i % (rows * w), line = i / (rows * w);
    int row = first + pixel / w, channel = line / 9, tap = line % 9;
    Plane plane(x, (Index)channel * n + row / h, h, w);
    columns[i] = plane.at(row % h + tap / 3 - 1, pixel % w + tap % 3 - 1);
}

// Weights [co][ci][9] to those of the convolution that backward is, [ci][co][9] with the taps reversed.
KERNEL(flip, (float *flipped, const float *weight, int count, int co, int ci)) {
    int i = element();
    if (i >= count) return;
    Index tap = i % 9, o = i / 9 % co, c = i / 9 / co;
    flipped[i] = weight[(o * ci + c) * 9 + 8 - tap];
}
