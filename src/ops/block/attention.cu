#include "kernel.cuh"

// 1/‖x‖ of a channel from the square, 0 where it is dead: its products are 0 as those of x/ε with x = 0.
__device__ static float direction(float square) {
    float norm = sqrtf(square);
    return norm > 1e-12f ? 1 / norm : 0.0f;
}

// The number of a channel of those that are there: all where no list says otherwise.
__device__ static int channel(const int *channels, int i) { return channels ? channels[i] : i; }

// S = q̂·k̂ᵀ and softmax(τ·S) of each head, [n][c][ch]: a block for each row and image. `parts` holds
// q·kᵀ of all channels for each of an image's `chunks`, [n][chunks][c][c]; squares [2c][n].
COOPERATIVE(attention_scores, (float *attention, float *cosine, const float *parts, const float *squares,
                               const float *temperature, int chunks, int c, int ch, int n)) {
    Index i = blockIdx.x, image = blockIdx.y, head = i / ch;
    float *a = attention + (image * c + i) * ch, *s = cosine + (image * c + i) * ch;
    float q = direction(squares[i * n + image]), most = -INFINITY;
    for (int first = 0; first < ch; first += WARP) {
        int j = first + threadIdx.x % WARP;
        Index k = head * ch + j;
        float sum = warps_sum(chunks, [&](int chunk) {
            return j < ch ? parts[((image * chunks + chunk) * c + i) * c + k] : 0;
        });
        if (threadIdx.x >= WARP || j >= ch) continue;
        s[j] = sum * q * direction(squares[(c + k) * n + image]);
        a[j] = s[j] * temperature[head];
        most = fmaxf(most, a[j]);
    }
    most = block_max(most);
    float total = 0;
    for (Index j = threadIdx.x; j < ch; j += THREADS) {
        a[j] = expf(a[j] - most);
        total += a[j];
    }
    total = block_sum(total);
    for (Index j = threadIdx.x; j < ch; j += THREADS) a[j] /= total;
}

// The columns of M = W_out·A at the channels of v that are there, [n][c][cv]: a thread for four rows.
KERNEL(attention_mixing, (Element *mixing, const float *out, const float *attention, const int *channels,
                          int count, int c, int cv, int ch)) {
    constexpr int ROWS = 4;
    int at = element(), groups = (c + ROWS - 1) / ROWS;
    if (at >= count) return;
    int d = at / cv % groups * ROWS, image = at / cv / groups;
    int j = channel(channels, at % cv), first = j / ch * ch;
    const float *a = attention + ((Index)image * c + first) * ch + j - first;
    const float *rows[ROWS];
    for (int row = 0; row < ROWS; row++) rows[row] = out + (Index)min(d + row, c - 1) * c + first;
    float sums[ROWS] = {};
    for (int i = 0; i < ch; i++) {
        float value = a[(Index)i * ch];
        for (int row = 0; row < ROWS; row++) sums[row] = fmaf(rows[row][i], value, sums[row]);
    }
    for (int row = 0; row < ROWS && d + row < c; row++) {
        mixing[((Index)image * c + d + row) * cv + at % cv] = sums[row];
    }
}

// E [n][c][c] from its parts of the channels of v that are there, [n][chunks][c][cv].
KERNEL(attention_outer, (float *outer, const float *parts, const int *channels, int count, int chunks,
                         int c, int cv)) {
    int at = element();
    if (at >= count) return;
    int row = at / cv % c, image = at / cv / c;
    const float *part = parts + (Index)image * chunks * c * cv + at % (c * cv);
    float sum = 0;
    for (int p = 0; p < chunks; p++) sum += part[(Index)p * c * cv];
    outer[((Index)image * c + row) * c + channel(channels, at % cv)] = sum;
}

// Threads along the sides of a block that multiplies tiles, twice as large, TILE columns and rows at a time.
constexpr int TILE = 16, SIDE = 2 * TILE;

// Rows of k of one side of a product, one column more for the banks.
typedef float Tile[TILE][SIDE + 1];

// Fills a tile by from(k, row), which threads of a row take side by side along k, or along rows.
template <bool ALONG_K, class From> __device__ void fill(Tile &tile, From from) {
    for (int half = 0; half < SIDE; half += TILE) {
        int k = ALONG_K ? threadIdx.x : threadIdx.y, row = (ALONG_K ? threadIdx.y : threadIdx.x) + half;
        tile[k][row] = from(k, row);
    }
}

// What a thread computes of a·bᵀ: rows y and y + TILE, columns x and x + TILE.
struct Product {
    float sums[2][2] = {};

    __device__ void add(const Tile &a, const Tile &b) {
        for (int k = 0; k < TILE; k++) {
            float rows[2] = {a[k][threadIdx.y], a[k][threadIdx.y + TILE]};
            float columns[2] = {b[k][threadIdx.x], b[k][threadIdx.x + TILE]};
            for (int i = 0; i < 4; i++) sums[i / 2][i % 2] = fmaf(rows[i / 2], columns[i % 2], sums[i / 2][i % 2]);
        }
    }

    // Calls to(row, column, value).
    template <class To> __device__ void each(To to) const {
        for (int i = 0; i < 4; i++) to(threadIdx.y + i / 2 * TILE, threadIdx.x + i % 2 * TILE, sums[i / 2][i % 2]);
    }
};

// dW_out = Σ E·Aᵀ over images, from E [n][c][c]: blocks for tiles of the columns of each head.
COOPERATIVE(attention_out_backward, (float *dout, const float *outer, const float *attention, int c, int ch,
                                     int n)) {
    __shared__ Tile e, a;
    int tiles = (ch + SIDE - 1) / SIDE, first = blockIdx.x / tiles * ch;
    int column = blockIdx.x % tiles * SIDE, row = blockIdx.y * SIDE;
    Product product;
    for (Index image = 0; image < n; image++) {
        for (int from = 0; from < ch; from += TILE) {
            fill<true>(e, [&](int k, int d) {
                bool there = from + k < ch && row + d < c;
                return there ? outer[(image * c + row + d) * c + first + from + k] : 0;
            });
            fill<true>(a, [&](int k, int i) {
                bool there = from + k < ch && column + i < ch;
                return there ? attention[(image * c + first + column + i) * ch + from + k] : 0;
            });
            __syncthreads();
            product.add(e, a);
            __syncthreads();
        }
    }
    product.each([&](int d, int i, float sum) {
        if (row + d < c && column + i < ch) dout[(Index)(row + d) * c + first + column + i] = sum;
    });
}

// dA = W_outᵀ·E in the columns of each head, [n][c][ch]: blocks for tiles of the rows of each head.
COOPERATIVE(attention_backward, (float *da, const float *outer, const float *out, int c, int ch)) {
    __shared__ Tile o, e;
    int tiles = (ch + SIDE - 1) / SIDE, first = blockIdx.x / tiles * ch;
    int row = blockIdx.x % tiles * SIDE, column = blockIdx.y * SIDE;
    Index image = blockIdx.z;
    Product product;
    for (int from = 0; from < c; from += TILE) {
        fill<false>(o, [&](int k, int i) {
            bool there = from + k < c && row + i < ch;
            return there ? out[(Index)(from + k) * c + first + row + i] : 0;
        });
        fill<false>(e, [&](int k, int j) {
            bool there = from + k < c && column + j < ch;
            return there ? outer[(image * c + from + k) * c + first + column + j] : 0;
        });
        __syncthreads();
        product.add(o, e);
        __syncthreads();
    }
    product.each([&](int i, int j, float sum) {
        if (row + i < ch && column + j < ch) da[(image * c + first + row + i) * ch + column + j] = sum;
    });
}

// From dA to dZ, the gradient of τ·S, in its place, and Σ dZ·S of each row, [n][c]: a block for each row and
// image.
COOPERATIVE(attention_scores_backward, (float *dz, float *sums, const float *attention, const float *cosine, int c,
                                        int ch)) {
    Index i = blockIdx.x, image = blockIdx.y, row = (image * c + i) * ch;
    float mean = 0;
    for (Index j = threadIdx.x; j < ch; j += THREADS) mean = fmaf(attention[row + j], dz[row + j], mean);
    mean = block_sum(mean);
    float along = 0;
    for (Index j = threadIdx.x; j < ch; j += THREADS) {
        dz[row + j] = attention[row + j] * (dz[row + j] - mean);
        along = fmaf(dz[row + j], cosine[row + j], along);
    }
    along = block_sum(along);
    if (threadIdx.x == 0) sums[image * c + i] = along;
}

// dτ of each head, a block for each.
COOPERATIVE(attention_temperature, (float *dtemperature, const float *sums, int heads, int ch, int n)) {
    int head = blockIdx.x;
    float sum = 0;
    for (int i = threadIdx.x; i < n * ch; i += THREADS) sum += sums[(i / ch * heads + head) * ch + i % ch];
    sum = block_sum(sum);
    if (threadIdx.x == 0) dtemperature[head] = sum;
}

// What takes [q; k] to [dq; dk], [n][2c][2c]: between q and k of a head dS/(‖q‖·‖k‖) and its transposed,
// on the diagonal −Σ dS·S/‖·‖².
KERNEL(attention_between, (Element *between, const float *dz, const float *sums, const float *cosine,
                           const float *squares, const float *temperature, int count, int c, int ch,
                           int n)) {
    int at = element();
    if (at >= count) return;
    int column = at % (2 * c), row = at / (2 * c) % (2 * c), image = at / (2 * c) / (2 * c);
    float result = 0;
    if (row == column) {
        float scale = direction(squares[row * n + image]);
        int i = row % c, first = i / ch * ch;
        float sum = sums[image * c + i];
        if (row >= c) {
            sum = 0;
            for (int q = first; q < first + ch; q++) {
                Index at = ((Index)image * c + q) * ch + i - first;
                sum = fmaf(dz[at], cosine[at], sum);
            }
        }
        result = -temperature[i / ch] * sum * scale * scale;
    } else if ((row < c) != (column < c)) {
        int q = row < c ? row : column, k = (row < c ? column : row) - c;
        if (q / ch == k / ch) {
            float scale = direction(squares[q * n + image]) * direction(squares[(c + k) * n + image]);
            result = temperature[q / ch] * dz[((Index)image * c + q) * ch + k % ch] * scale;
        }
    }
    between[at] = result;
}
