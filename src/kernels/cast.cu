#include "kernel.cuh"

KERNEL(cast_from_float, (Element *y, const float *x, int count)) {
    int i = element();
    if (i < count) y[i] = x[i];
}

KERNEL(cast_to_float, (float *y, const Element *x, int count)) {
    int i = element();
    if (i < count) y[i] = value(x[i]);
}
