#include "kernel.cuh"

KERNEL(add, (Element *y, const Element *a, const Element *b, int count)) {
    int i = element();
    if (i < count) y[i] = value(a[i]) + value(b[i]);
}
