#include "kernel.cuh"

constexpr double TURN = 6.283185307179586;

struct Wave {
    double re, im;
};

// e^(2πi·j·k/length)
__device__ static Wave wave(int j, int k, int length) {
    double angle = TURN * (double)((Index)j * k % length) / length;
    return {cos(angle), sin(angle)};
}

// The transform of rows: the cosines C, then the sines S, both [length][length].
KERNEL(fourier_rows, (float *matrices, int length)) {
    int i = element(), size = length * length;
    if (i >= 2 * size) return;
    Wave at = wave(i / length % length, i % length, length);
    matrices[i] = (float)(i < size ? at.re : at.im);
}

// The transform of columns of both parts of the rows' spectra, one above the other: [[C, −S], [S, C]].
KERNEL(fourier_columns, (float *matrix, int length)) {
    int i = element(), side = 2 * length;
    if (i >= side * side) return;
    int row = i / side, col = i % side;
    Wave at = wave(row % length, col % length, length);
    bool below = row >= length, right = col >= length;
    matrix[i] = (float)(below == right ? at.re : below ? at.im : -at.im);
}
