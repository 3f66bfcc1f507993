// CUDA's threads on the processor: kernels as they are, compiled as C++, some blocks after the other.
//
// Threads of a cooperative kernel are fibers that run up to the next __syncthreads(), in order and in
// reverse by turns, so that what is not synchronised shows.
#pragma once

#undef _FORTIFY_SOURCE // would take jumps between stacks for an error
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <setjmp.h>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __device__
#define __shared__ static thread_local

struct Sizes {
    unsigned x, y, z;
};

inline thread_local Sizes gridDim, blockDim, blockIdx, threadIdx;

namespace emulator {

struct Launch {
    Sizes blocks, threads;
    // The blocks to run, counted along x, then y, then z: they know nothing of each other.
    uint64_t first, last;
};

// Begins by a context and goes on by jumps, which ask nothing of the system.
struct Fiber {
    ucontext_t context;
    jmp_buf place;
    std::unique_ptr<char[]> stack{new char[STACK]};
    bool begun = false, done = false;

    static constexpr size_t STACK = 1 << 16;
};

struct Block {
    std::vector<Fiber> fibers;
    jmp_buf scheduler;
    std::function<void()> kernel;
    size_t running = 0;
};

inline thread_local Block *current = nullptr;

// Back to the scheduler, until it comes here again.
inline void yield() {
    if (!current) abort(); // __syncthreads() in a kernel that is not cooperative
    if (_setjmp(current->fibers[current->running].place) == 0) _longjmp(current->scheduler, 1);
}

// A thread of one block after the other.
inline void fiber() {
    for (;;) {
        current->kernel();
        current->fibers[current->running].done = true;
        yield();
    }
}

inline void resume(Block &block) {
    Fiber &fiber = block.fibers[block.running];
    if (_setjmp(block.scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = Fiber::STACK;
    makecontext(&fiber.context, emulator::fiber, 0);
    setcontext(&fiber.context);
}

inline Sizes place(size_t thread) {
    unsigned t = (unsigned)thread;
    return {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
}

inline void together(Block &block) {
    current = &block;
    size_t count = block.fibers.size(), left = count;
    for (Fiber &fiber : block.fibers) fiber.done = false;
    for (bool reverse = false; left > 0; reverse = !reverse) {
        for (size_t i = 0; i < count; i++) {
            block.running = reverse ? count - 1 - i : i;
            if (block.fibers[block.running].done) continue;
            threadIdx = place(block.running);
            resume(block);
            left -= block.fibers[block.running].done;
        }
    }
    current = nullptr;
}

template <class Kernel> void run(const Launch &launch, bool cooperative, Kernel kernel) {
    gridDim = launch.blocks;
    blockDim = launch.threads;
    size_t threads = (size_t)blockDim.x * blockDim.y * blockDim.z;
    Block block;
    block.kernel = kernel;
    if (cooperative) block.fibers = std::vector<Fiber>(threads);
    for (uint64_t at = launch.first; at < launch.last; at++) {
        uint64_t rest = at / gridDim.x;
        blockIdx = {unsigned(at % gridDim.x), unsigned(rest % gridDim.y), unsigned(rest / gridDim.y)};
        if (cooperative) {
            together(block);
            continue;
        }
        for (size_t thread = 0; thread < threads; thread++) {
            threadIdx = place(thread);
            kernel();
        }
    }
}

template <class... P, size_t... I>
void call(void (*kernel)(P...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<P *>(arguments[I])...);
}

template <class... P> void call(void (*kernel)(P...), void **arguments) {
    call(kernel, arguments, std::index_sequence_for<P...>());
}

} // namespace emulator

using std::isfinite, std::max, std::min;

inline void __syncthreads() { emulator::yield(); }

// Of kernel.cuh: in place of a shuffle of each value, all lanes of a warp see the values of all.
template <int N> void warp_sums(float (&values)[N]) {
    constexpr unsigned WARP = 32, MOST = 1024;
    static thread_local float all[N][MOST];
    unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    for (int v = 0; v < N; v++) all[v][t] = values[v];
    __syncthreads();
    for (int v = 0; v < N; v++) {
        float sums[WARP];
        for (unsigned i = 0; i < WARP; i++) sums[i] = all[v][t / WARP * WARP + i];
        for (unsigned apart = WARP / 2; apart > 0; apart /= 2) {
            for (unsigned i = 0; i < apart; i++) sums[i] += sums[i + apart];
        }
        values[v] = sums[0];
    }
    __syncthreads();
}

inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }

inline unsigned atomicAdd(unsigned *sum, unsigned value) {
    return __atomic_fetch_add(sum, value, __ATOMIC_RELAXED);
}

// As cuda_bf16.h has it, rounding to even.
struct __nv_bfloat16 {
    uint16_t bits;

    __nv_bfloat16() = default;
    __nv_bfloat16(float x) {
        uint32_t word;
        memcpy(&word, &x, sizeof word);
        bool number = x == x;
        bits = number ? (word + 0x7fff + (word >> 16 & 1)) >> 16 : 0x7fff;
    }
};

inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t word = (uint32_t)x.bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

#define EMULATED_KERNEL(name, parameters, cooperative)                                             \
    static void name parameters;                                                                   \
    extern "C" void emulated_##name(const emulator::Launch *launch, void **arguments) {            \
        emulator::run(*launch, cooperative, [&] { emulator::call(name, arguments); });             \
    }                                                                                              \
    static void name parameters
#define DECLARE(name, parameters) EMULATED_KERNEL(name, parameters, false)
#define DECLARE_COOPERATIVE(name, parameters) EMULATED_KERNEL(name, parameters, true)
