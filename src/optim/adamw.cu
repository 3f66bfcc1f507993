#include "kernel.cuh"

// Values that a block of threads updates.
constexpr int CHUNK = 8 * THREADS;

// A variable with its moments, and its gradient where it has one. Blocks count on from one to the next.
struct Variable {
    float *p;
    const float *g;
    float *m, *v;
    // A bit each, or null where all are alive.
    const unsigned *mask;
    Index first_block, count;

    // Bits of values from `i` on, a multiple of four.
    __device__ unsigned alive(Index i) const { return mask ? mask[i / 32] >> (i % 32) : ~0u; }
};

constexpr int FOUR = 4;
typedef Four<float> Values;

// As many as are there; memory may begin anywhere.
__device__ static Values read(const float *from, int there) {
    Values four = {};
    if (there == FOUR && (size_t)from % sizeof(Values) == 0) {
        four = *reinterpret_cast<const Values *>(from);
    } else {
        for (int i = 0; i < FOUR; i++) {
            if (i < there) four.values[i] = from[i];
        }
    }
    return four;
}

__device__ static void write(float *to, const Values &four, int there) {
    if (there == FOUR && (size_t)to % sizeof(Values) == 0) {
        *reinterpret_cast<Values *>(to) = four;
    } else {
        for (int i = 0; i < FOUR; i++) {
            if (i < there) to[i] = four.values[i];
        }
    }
}

// What is there of the four values from `i` on.
__device__ static int there(Index i, Index count) { return count - i < FOUR ? (int)(count - i) : FOUR; }

// Σ g² over the living values of each block.
COOPERATIVE(gradient_squares, (double *sums, const Variable *all, const int *variables)) {
    Variable x = all[variables[blockIdx.x]];
    Index first = (blockIdx.x - x.first_block) * CHUNK, end = first + CHUNK < x.count ? first + CHUNK : x.count;
    double sum = 0;
    for (Index i = first + threadIdx.x * FOUR; x.g && i < end; i += THREADS * FOUR) {
        unsigned alive = x.alive(i);
        Values g = read(x.g + i, there(i, end));
        for (int k = 0; k < FOUR; k++) {
            if (alive >> k & 1) sum += (double)g.values[k] * g.values[k];
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The root of their sum, by one block.
COOPERATIVE(gradient_norm, (float *norm, const double *sums, int blocks)) {
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += THREADS) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *norm = (float)sqrt(sum);
}

// The scalars of a step; see adamw.rs.
struct Scalars {
    float decay, beta2, one_minus_beta1, one_minus_beta2, step_size, root_correction2, eps;
    // The largest norm of all gradients, infinite where there is none.
    float clip_grad_norm;
};

// Added to the norm by PyTorch's clip_grad_norm_.
constexpr double CLIP_EPSILON = 1e-6;

// Where the gradients of `count` variables from `first` on lie: eight at most.
KERNEL(adamw_gradients, (Variable *all, int first, int count, const float *a, const float *b, const float *c,
                         const float *d, const float *e, const float *f, const float *g, const float *h)) {
    const float *gradients[] = {a, b, c, d, e, f, g, h};
    if (element() > 0) return;
    for (int i = 0; i < 8; i++) {
        if (i < count) all[first + i].g = gradients[i];
    }
}

// One step of all variables, or none where loss or norm, the `outcome`, are not finite; `variables` says which
// one each block is for.
KERNEL(adamw, (const Variable *all, const int *variables, const Scalars *scalars, const float *outcome)) {
    float loss = outcome[0], norm = outcome[1];
    if (!isfinite(loss) || !isfinite(norm)) return;
    Scalars s = *scalars;
    float gradient_scale = (float)fmin(s.clip_grad_norm / (norm + CLIP_EPSILON), 1.0);
    Variable x = all[variables[blockIdx.x]];
    if (!x.g) return;
    Index first = (blockIdx.x - x.first_block) * CHUNK, end = first + CHUNK < x.count ? first + CHUNK : x.count;
    for (Index i = first + threadIdx.x * FOUR; i < end; i += THREADS * FOUR) {
        int size = there(i, end);
        unsigned alive = x.alive(i);
        Values p = read(x.p + i, size), g = read(x.g + i, size), m = read(x.m + i, size), v = read(x.v + i, size);
        for (int k = 0; k < FOUR; k++) {
            float gradient = g.values[k] * gradient_scale;
            float mean = fmaf(gradient - m.values[k], s.one_minus_beta1, m.values[k]);
            float square = fmaf(s.one_minus_beta2 * gradient, gradient, v.values[k] * s.beta2);
            float down = s.step_size * (mean / (sqrtf(square) / s.root_correction2 + s.eps));
            bool lives = alive >> k & 1;
            p.values[k] = lives ? p.values[k] * s.decay - down : 0;
            m.values[k] = lives ? mean : 0;
            v.values[k] = lives ? square : 0;
        }
        write(x.p + i, p, size);
        write(x.m + i, m, size);
        write(x.v + i, v, size);
    }
}
