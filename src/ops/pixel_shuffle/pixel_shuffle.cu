#include "kernel.cuh"

// Where an element of planes [c·r²][n][h][w] goes in planes [c][n][h·r][w·r].
__device__ static Index shuffled(int i, int r, int n, int h, int w) {
    int col = i % w, row = i / w % h, image = i / w / h % n, part = i / w / h / n;
    int channel = part / (r * r), down = part / r % r, right = part % r;
    return ((((Index)channel * n + image) * h + row) * r + down) * w * r + col * r + right;
}

KERNEL(pixel_shuffle, (Element *y, const Element *x, int count, int r, int n, int h, int w)) {
    int i = element();
    if (i < count) y[shuffled(i, r, n, h, w)] = x[i];
}

// h and w are those of y.
KERNEL(pixel_unshuffle, (Element *y, const Element *x, int count, int r, int n, int h, int w)) {
    int i = element();
    if (i < count) y[i] = x[shuffled(i, r, n, h, w)];
}
