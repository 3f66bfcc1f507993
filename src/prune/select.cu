#include "kernel.cuh"

// The bits of 64 weights, the lowest first, as src/kernels/mask.rs has them.
typedef unsigned long long Word;
constexpr int WORD = 64;

// What weights are ranked by: the bits of |w|, whose order is that of the numbers, and below them the
// place among all candidates. No two keys are equal, and ties fall in the order of places.
typedef unsigned long long Key;

__device__ static Key key(unsigned weight, int place) {
    unsigned magnitude = weight & 0x7fffffff;
    return (Key)magnitude << 32 | (unsigned)place;
}

// Keys are told apart digit by digit, a thread for each.
constexpr int DIGIT_BITS = 8;
constexpr int DIGITS = 1 << DIGIT_BITS;
static_assert(DIGITS == THREADS, "a thread for each digit");

// Weights that a block counts.
constexpr int CHUNK = 32 * THREADS;

// The bits of the weights that are not zero. A thread for each word.
KERNEL(nonzero, (Word *alive, const unsigned *weights, int count)) {
    int word = element();
    Index first = (Index)word * WORD;
    if (first >= count) return;
    Word bits = 0;
    for (int bit = 0; bit < WORD && first + bit < count; bit++) {
        if (key(weights[first + bit], 0) != 0) bits |= (Word)1 << bit;
    }
    alive[word] = bits;
}

// Adds to `counts` how many living weights have which digit, `shift` bits above the key's end, of those
// whose bits above it are `prefix`. The first weight is at `place`.
COOPERATIVE(count_digits, (unsigned *counts, const Word *alive, const unsigned *weights, int place,
                           int count, const Key *prefix, int shift)) {
    __shared__ unsigned digits[DIGITS];
    int t = threadIdx.x;
    digits[t] = 0;
    __syncthreads();
    Key wanted = *prefix;
    Index first = (Index)blockIdx.x * CHUNK;
    for (Index i = first + t; i < first + CHUNK && i < count; i += THREADS) {
        if (!(alive[i / WORD] >> i % WORD & 1)) continue;
        Key leading = key(weights[i], place + (int)i) >> shift;
        if (leading >> DIGIT_BITS == wanted) atomicAdd(&digits[leading % DIGITS], 1u);
    }
    __syncthreads();
    // Sums of integers are the same in any order.
    if (digits[t] > 0) atomicAdd(&counts[t], digits[t]);
}

// Unsets the bits of weights whose key is below `limit`. A thread for each word.
KERNEL(cut, (Word *alive, const unsigned *weights, int place, int count, const Key *limit)) {
    int word = element();
    Index first = (Index)word * WORD;
    if (first >= count) return;
    Word bits = alive[word];
    for (int bit = 0; bit < WORD && first + bit < count; bit++) {
        int i = (int)first + bit;
        if (key(weights[i], place + i) < *limit) bits &= ~((Word)1 << bit);
    }
    alive[word] = bits;
}
