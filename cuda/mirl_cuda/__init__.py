"""The core of mirl built with CUDA: `import mirl` uses it where there is an NVIDIA driver."""
