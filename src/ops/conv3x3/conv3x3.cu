#include "kernel.cuh"

// Pixels of a thread.
constexpr int SIDE = 4;

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
            Four<Element> four;
            for (int i = 0; i < SIDE; i++) four.values[i] = values[i + tap];
            *reinterpret_cast<Four<Element> *>(to + (Index)tap * pixels + begin) = four;
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

// Weights [co][ci][9] to [co][9][ci].
KERNEL(taps_first, (float *turned, const float *weight, int count, int ci)) {
    int i = element();
    if (i >= count) return;
    int c = i % ci, tap = i / ci % 9;
    turned[i] = weight[((Index)(i / ci / 9) * ci + c) * 9 + tap];
}

// y of `images` of the n from `first` on, `count` values: nine shares of each, [co][9][images][h][w], which lie
// where their inputs do.
KERNEL(add_neighbours, (Element *y, const float *shares, int count, int first, int images, int n, int h, int w)) {
    int i = element();
    if (i >= count) return;
    int col = i % w, row = i / w % h, image = i / w / h % images, o = i / w / h / images;
    float sum = 0;
    for (int tap = 0; tap < 9; tap++) {
        int r = row + tap / 3 - 1, c = col + tap % 3 - 1;
        if (r < 0 || r >= h || c < 0 || c >= w) continue;
        sum += shares[((((Index)o * 9 + tap) * images + image) * h + r) * w + c];
    }
    y[(((Index)o * n + first + image) * h + row) * w + col] = sum;
}
