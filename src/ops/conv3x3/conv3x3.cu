#include "kernel.cuh"

constexpr int SIDE = 4;

// Values that are written at once.
struct alignas(SIDE * sizeof(Element)) Four {
    Element values[SIDE];
};

// The nine neighbours of the pixels of some rows, [channels][9][pixels]: rows from `first` on of those of all
// images [n·h]. Blocks for some pixels and three neighbours in a row, a thread for four pixels.
KERNEL(neighbours, (Element *columns, const Element *x, int pixels, int first, int n, int h, int w)) {
    int begin = element() * SIDE, channel = blockIdx.y / 3, down = (int)(blockIdx.y % 3) - 1;
    Element *to = columns + (Index)blockIdx.y * 3 * pixels;
    if (begin >= pixels) return;
    if (w % SIDE == 0) {
        int row = first + begin / w, col = begin % w;
        Plane plane(x, (Index)channel * n + row / h, h, w);
        row = row % h + down;
        Element values[SIDE + 2];
        for (int i = 0; i < SIDE + 2; i++) values[i] = plane.at(row, col + i - 1);
        for (int tap = 0; tap < 3; tap++) {
            Four four;
            for (int i = 0; i < SIDE; i++) four.values[i] = values[i + tap];
            *reinterpret_cast<Four *>(to + (Index)tap * pixels + begin) = four;
        }
        return;
    }
    for (int at = begin; at < begin + SIDE && at < pixels; at++) {
        int row = first + at / w;
        Plane plane(x, (Index)channel * n + row / h, h, w);
        for (int tap = 0; tap < 3; tap++) {
            to[(Index)tap * pixels + at] = plane.at(row % h + down, at % w + tap - 1);
        }
    }
}

// Weights [co][ci][9] to those of the convolution that backward is, [ci][co][9] with the taps reversed.
KERNEL(flip, (float *flipped, const float *weight, int count, int co, int ci)) {
    int i = element();
    if (i >= count) return;
    Index tap = i % 9, o = i / 9 % co, c = i / 9 / co;
    flipped[i] = weight[(o * ci + c) * 9 + 8 - tap];
}
