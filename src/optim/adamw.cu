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

    __device__ bool alive(Index i) const { return !mask || mask[i / 32] >> (i % 32) & 1; }
};

// The variable that this block is for: the last whose first block is not beyond it.
__device__ static Variable find(const Variable *all, int count) {
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (all[middle].first_block <= blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return all[low];
}

// Σ g² over the living values of each block.
COOPERATIVE(gradient_squares, (double *sums, const Variable *all, int count)) {
    Variable x = find(all, count);
    Index first = (blockIdx.x - x.first_block) * CHUNK;
    double sum = 0;
    for (Index i = first + threadIdx.x; i < first + CHUNK && i < x.count; i += THREADS) {
        if (x.g && x.alive(i)) sum += (double)x.g[i] * x.g[i];
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

// Where the gradient of a variable lies.
KERNEL(adamw_gradient, (Variable *all, int variable, const float *gradient)) {
    if (element() == 0) all[variable].g = gradient;
}

// One step of all variables, or none where loss or norm, the `outcome`, are not finite.
KERNEL(adamw, (const Variable *all, int count, const Scalars *scalars, const float *outcome)) {
    float loss = outcome[0], norm = outcome[1];
    if (!isfinite(loss) || !isfinite(norm)) return;
    Scalars s = *scalars;
    float gradient_scale = (float)fmin(s.clip_grad_norm / (norm + CLIP_EPSILON), 1.0);
    Variable x = find(all, count);
    if (!x.g) return;
    Index first = (blockIdx.x - x.first_block) * CHUNK;
    for (Index i = first + threadIdx.x; i < first + CHUNK && i < x.count; i += THREADS) {
        if (!x.alive(i)) {
            x.p[i] = x.m[i] = x.v[i] = 0;
            continue;
        }
        float g = x.g[i] * gradient_scale;
        float m = fmaf(g - x.m[i], s.one_minus_beta1, x.m[i]);
        float v = fmaf(s.one_minus_beta2 * g, g, x.v[i] * s.beta2);
        x.m[i] = m;
        x.v[i] = v;
        x.p[i] = x.p[i] * s.decay - s.step_size * (m / (sqrtf(v) / s.root_correction2 + s.eps));
    }
}
