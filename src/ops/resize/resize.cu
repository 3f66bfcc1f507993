#include "kernel.cuh"

// What one output position takes of the inputs `low` and the next.
struct Tap {
    int low, high;
    float far;

    __device__ Tap(int i, int from, int to) {
        double position = (i + 0.5) * from / to - 0.5;
        if (position < 0) position = 0;
        low = (int)position < from - 1 ? (int)position : from - 1;
        high = low + 1 < from ? low + 1 : from - 1;
        far = (float)(position - low);
    }

    // The weight of an input.
    __device__ float of(int input) const {
        return (input == low ? 1 - far : 0.0f) + (input == high ? far : 0.0f);
    }
};

// The outputs that an input may go into.
struct Reach {
    int first, end;

    __device__ Reach(int input, int from, int to) {
        // Positions within one of the input, with one more output on each side.
        first = input == 0 ? 0 : (int)((input - 0.5) * to / from - 0.5) - 1;
        end = input == from - 1 ? to : (int)((input + 1.5) * to / from - 0.5) + 3;
        if (first < 0) first = 0;
        if (end > to) end = to;
    }
};

// `count` elements of planes of height x width from planes of h x w.
KERNEL(resize, (float *y, const float *x, int count, int height, int width, int h, int w)) {
    int i = element();
    if (i >= count) return;
    Tap col(i % width, w, width), row(i / width % height, h, height);
    const float *plane = x + i / width / height * h * w;
    const float *upper = plane + (Index)row.low * w, *lower = plane + (Index)row.high * w;
    float above = upper[col.low] * (1 - col.far) + upper[col.high] * col.far;
    float below = lower[col.low] * (1 - col.far) + lower[col.high] * col.far;
    y[i] = above * (1 - row.far) + below * row.far;
}

// `count` elements of planes of h x w, each from all outputs that it went into.
KERNEL(resize_backward, (float *dx, const float *dy, int count, int height, int width, int h, int w)) {
    int i = element();
    if (i >= count) return;
    int col = i % w, row = i / w % h;
    const float *plane = dy + i / w / h * height * width;
    Reach rows(row, h, height), cols(col, w, width);
    float sum = 0;
    for (int r = rows.first; r < rows.end; r++) {
        float line = 0;
        for (int c = cols.first; c < cols.end; c++) {
            line = fmaf(Tap(c, w, width).of(col), plane[(Index)r * width + c], line);
        }
        sum = fmaf(Tap(r, h, height).of(row), line, sum);
    }
    dx[i] = sum;
}
