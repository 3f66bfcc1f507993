#include "kernel.cuh"

// As kernels/similarity.rs has it, in double: variances are small differences of large means.
constexpr int WINDOW = 7, CHUNK = 16 * THREADS;
constexpr double COUNT = WINDOW * WINDOW, SAMPLE = COUNT / (COUNT - 1);
constexpr double C1 = 0.01 * 0.01, C2 = 0.03 * 0.03;

struct Similarity {
    // The four factors: luminance and structure, above and below the line.
    double a, b, c, d;
    double x, y;

    // Of the window that begins here.
    __device__ Similarity(const float *px, const float *py, int width) {
        double xx = 0, yy = 0, xy = 0;
        x = y = 0;
        for (int row = 0; row < WINDOW; row++) {
            for (int col = 0; col < WINDOW; col++) {
                double u = px[row * width + col], v = py[row * width + col];
                x += u, y += v, xx += u * u, yy += v * v, xy += u * v;
            }
        }
        x /= COUNT, y /= COUNT;
        a = 2 * x * y + C1;
        b = 2 * SAMPLE * (xy / COUNT - x * y) + C2;
        c = x * x + y * y + C1;
        d = SAMPLE * (xx / COUNT - x * x + yy / COUNT - y * y) + C2;
    }

    __device__ double value() const { return a * b / (c * d); }
};

// The sum of 1 − similarity of `CHUNK` of an image's `count` windows a block.
COOPERATIVE(image_dissimilarities, (float *parts, const float *x, const float *target, int images, int h,
                                    int w, int count)) {
    int image = blockIdx.y, first = blockIdx.x * CHUNK;
    int end = first + CHUNK < count ? first + CHUNK : count;
    int rows = h - WINDOW + 1, cols = w - WINDOW + 1;
    double sum = 0;
    for (int i = first + threadIdx.x; i < end; i += THREADS) {
        Index plane = (Index)(i / (rows * cols)) * images + image;
        Index at = (plane * h + i / cols % rows) * w + i % cols;
        sum += 1 - Similarity(x + at, target + at, w).value();
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[image * gridDim.x + blockIdx.x] = (float)sum;
}

// What a window's similarity gives to all of its pixels.
struct Slopes {
    double mean, square, product;
};

// Of `count` windows of all planes, by x.
KERNEL(similarity_slopes, (Slopes *slopes, const float *x, const float *y, int h, int w, int count)) {
    int i = element();
    if (i >= count) return;
    int rows = h - WINDOW + 1, cols = w - WINDOW + 1;
    Index at = ((Index)(i / (rows * cols)) * h + i / cols % rows) * w + i % cols;
    Similarity s(x + at, y + at, w);
    double below = s.c * s.d;
    double product = 2 * SAMPLE * s.a / below;
    double square = -SAMPLE * s.a * s.b / (below * s.d);
    double mean = 2 * s.y * s.b / below - 2 * s.x * s.a * s.b / (below * s.c);
    slopes[i] = {mean - s.y * product - 2 * s.x * square, square, product};
}

// `scale` times what each of `count` pixels gathers from the windows that it lies in.
KERNEL(similarity_gradient, (float *dx, const Slopes *slopes, const float *x, const float *y,
                             const float *gradient, int images, int h, int w, float scale, int count)) {
    int i = element();
    if (i >= count) return;
    int rows = h - WINDOW + 1, cols = w - WINDOW + 1;
    int plane = i / (h * w), row = i / w % h, col = i % w;
    Slopes sum = {0, 0, 0};
    for (int r = row < WINDOW ? 0 : row - WINDOW + 1; r <= row && r < rows; r++) {
        for (int c = col < WINDOW ? 0 : col - WINDOW + 1; c <= col && c < cols; c++) {
            Slopes one = slopes[((Index)plane * rows + r) * cols + c];
            sum.mean += one.mean, sum.square += one.square, sum.product += one.product;
        }
    }
    double slope = sum.mean + 2.0 * x[i] * sum.square + (double)y[i] * sum.product;
    dx[i] = (float)(gradient[plane % images] * (double)scale * slope / COUNT);
}
