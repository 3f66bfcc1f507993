#include "kernel.cuh"

// `count` elements of planes of height x width, the upper left parts of planes of h x w.
KERNEL(crop, (float *y, const float *x, int count, int height, int width, int h, int w)) {
    int i = element();
    if (i >= count) return;
    Index col = i % width, row = i / width % height, plane = i / width / height;
    y[i] = x[(plane * h + row) * w + col];
}

// `count` elements of planes of h x w: those of dy, and zeros around them.
KERNEL(crop_backward, (float *dx, const float *dy, int count, int height, int width, int h, int w)) {
    int i = element();
    if (i >= count) return;
    Index col = i % w, row = i / w % h, plane = i / w / h;
    dx[i] = row < height && col < width ? dy[(plane * height + row) * width + col] : 0.0f;
}
