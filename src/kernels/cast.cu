#include "kernel.cuh"

KERNEL(cast_from_float, (Element *y, const float *x, int count)) {
    int i = element();
    if (i < count) y[i] = x[i];
}

KERNEL(cast_to_float, (float *y, const Element *x, int count)) {
    int i = element();
    if (i < count) y[i] = value(x[i]);
}

// Rows of `columns` elements to rows that begin `row` elements apart, filled up with zeros.
KERNEL(align_rows, (Element *y, const float *x, int count, int columns, int row)) {
    int i = element();
    if (i >= count) return;
    int column = i % row;
    y[i] = column < columns ? x[(Index)(i / row) * columns + column] : 0.0f;
}
