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
    for (Index j = threadIdx.x; j < ch; j += THREADS) {
        Index k = head * ch + j;
        float sum = 0;
        for (Index part = image * chunks; part < (image + 1) * chunks; part++) {
            sum += parts[(part * c + i) * c + k];
        }
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

// The columns of M = W_out·A at the channels of v that are there, [n][c][cv].
KERNEL(attention_mixing, (Element *mixing, const float *out, const float *attention, const int *channels,
                          int count, int c, int cv, int ch)) {
    int at = element();
    if (at >= count) return;
    Index j = channel(channels, at % cv), d = at / cv % c, image = at / cv / c, first = j / ch * ch;
    float sum = 0;
    for (Index i = first; i < first + ch; i++) {
        sum = fmaf(out[d * c + i], attention[(image * c + i) * ch + j - first], sum);
    }
    mixing[at] = sum;
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

constexpr int TILE = 16;

// Adds a[own row]·b[own column] of two tiles in rows of k, of a block of TILE x TILE threads.
__device__ static float tile_product(float sum, float (&a)[TILE][TILE + 1], float (&b)[TILE][TILE + 1]) {
    for (int k = 0; k < TILE; k++) sum = fmaf(a[threadIdx.y][k], b[threadIdx.x][k], sum);
    return sum;
}

// dW_out = Σ E·Aᵀ over images, from E [n][c][c]: blocks for tiles of the columns of each head.
COOPERATIVE(attention_out_backward, (float *dout, const float *outer, const float *attention, int c, int ch,
                                     int n)) {
    __shared__ float e[TILE][TILE + 1], a[TILE][TILE + 1];
    int tiles = (ch + TILE - 1) / TILE, first = blockIdx.x / tiles * ch;
    int x = threadIdx.x, y = threadIdx.y, tile = blockIdx.x % tiles * TILE, d = blockIdx.y * TILE + y;
    float sum = 0;
    for (Index image = 0; image < n; image++) {
        for (int j = 0; j < ch; j += TILE) {
            bool there = j + x < ch;
            e[y][x] = there && d < c ? outer[(image * c + d) * c + first + j + x] : 0;
            a[y][x] = there && tile + y < ch ? attention[(image * c + first + tile + y) * ch + j + x] : 0;
            __syncthreads();
            sum = tile_product(sum, e, a);
            __syncthreads();
        }
    }
    if (d < c && tile + x < ch) dout[(Index)d * c + first + tile + x] = sum;
}

// dA = W_outᵀ·E in the columns of each head, [n][c][ch]: blocks for tiles of the rows of each head.
COOPERATIVE(attention_backward, (float *da, const float *outer, const float *out, int c, int ch)) {
    __shared__ float o[TILE][TILE + 1], e[TILE][TILE + 1];
    int tiles = (ch + TILE - 1) / TILE, first = blockIdx.x / tiles * ch;
    int x = threadIdx.x, y = threadIdx.y, tile = blockIdx.x % tiles * TILE, j = blockIdx.y * TILE;
    Index image = blockIdx.z;
    float sum = 0;
    for (int d = 0; d < c; d += TILE) {
        // Turned over: the threads of a row read side by side.
        bool there = d + y < c;
        o[x][y] = there && tile + x < ch ? out[(Index)(d + y) * c + first + tile + x] : 0;
        e[x][y] = there && j + x < ch ? outer[(image * c + d + y) * c + first + j + x] : 0;
        __syncthreads();
        sum = tile_product(sum, o, e);
        __syncthreads();
    }
    if (tile + y < ch && j + x < ch) da[(image * c + first + tile + y) * ch + j + x] = sum;
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

// dτ of each head.
KERNEL(attention_temperature, (float *dtemperature, const float *sums, int heads, int ch, int n)) {
    int head = element();
    if (head >= heads) return;
    float sum = 0;
    for (Index image = 0; image < n; image++) {
        for (Index i = 0; i < ch; i++) sum += sums[(image * heads + head) * ch + i];
    }
    dtemperature[head] = sum;
}

// What takes [q; k] to [dq; dk], [n][2c][2c]: between q and k of a head dS/(‖q‖·‖k‖) and its transposed,
// on the diagonal −Σ dS·S/‖·‖².
KERNEL(attention_between, (Element *between, const float *dz, const float *sums, const float *cosine,
                           const float *squares, const float *temperature, int count, int c, int ch,
                           int n)) {
    int at = element();
    if (at >= count) return;
    Index column = at % (2 * c), row = at / (2 * c) % (2 * c), image = at / (2 * c) / (2 * c);
    float result = 0;
    if (row == column) {
        float scale = direction(squares[row * n + image]);
        Index i = row % c, first = i / ch * ch;
        float sum = sums[image * c + i];
        if (row >= c) {
            sum = 0;
            for (Index q = first; q < first + ch; q++) {
                Index at = (image * c + q) * ch + i - first;
                sum = fmaf(dz[at], cosine[at], sum);
            }
        }
        result = -temperature[i / ch] * sum * scale * scale;
    } else if ((row < c) != (column < c)) {
        Index q = row < c ? row : column, k = (row < c ? column : row) - c;
        if (q / ch == k / ch) {
            float scale = direction(squares[q * n + image]) * direction(squares[(c + k) * n + image]);
            result = temperature[q / ch] * dz[(image * c + q) * ch + k % ch] * scale;
        }
    }
    between[at] = result;
}
