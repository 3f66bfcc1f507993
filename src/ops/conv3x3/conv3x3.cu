#include "kernel.cuh"

constexpr int SIDE = 4;

// Values that are written at once.
struct alignas(SIDE * sizeof(Element)) Four {
    Element values[SIDE];
};

// The nine neighbours of the pixels of some rows, [channels][9][pixels]: rows from `first` on of those of all
// images [n·h]. A block for some pixels of a line, a thread for four.
KERNEL(neighbours, (Element *columns, const Element *x, int pixels, int first, int n, int h, int w)) {
    int begin = element() * SIDE, line = blockIdx.y, channel = line / 9, tap = line % 9;
    Element *to = columns + (Index)line * pixels;
    auto neighbour = [&](int row, int col) {
        Plane plane(x, (Index)channel * n + row / h, h, w);
        return plane.at(row % h + tap / 3 - 1, col + tap % 3 - 1);
    };
    if (w % SIDE == 0 && begin < pixels) {
        int row = first + begin / w, col = begin % w;
        Four four;
        for (int i = 0; i < SIDE; i++) four.values[i] = neighbour(row, col + i);
        *reinterpret_cast<Four *>(to + begin) = four;
        return;
    }
    for (int at = begin; at < begin + SIDE && at < pixels; at++) to[at] = neighbour(first + at / w, at % w);
}

// Weights [co][ci][9] to those of the convolution that backward is, [ci][co][9] with the taps reversed.
KERNEL(flip, (float *flipped, const float *weight, int count, int co, int ci)) {
    int i = element();
    if (i >= count) return;
    Index tap = i % 9, o = i / 9 % co, c = i / 9 / co;
    flipped[i] = weight[(o * ci + c) * 9 + 8 - tap];
}
