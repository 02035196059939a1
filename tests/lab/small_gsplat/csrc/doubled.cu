// Twice each number of a float tensor, on the CPU and on a GPU.
#include <cuda_runtime.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

using torch::stable::Tensor;

__global__ void double_each(float* numbers, int64_t count) {
  int64_t place = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (place < count) numbers[place] *= 2;
}

Tensor doubled_cpu(Tensor numbers) {
  Tensor result = torch::stable::clone(numbers);
  float* first = static_cast<float*>(result.data_ptr());
  for (int64_t place = 0; place < result.numel(); place++) first[place] *= 2;
  return result;
}

Tensor doubled_cuda(Tensor numbers) {
  Tensor result = torch::stable::clone(numbers);
  int64_t count = result.numel();
  double_each<<<(count + 255) / 256, 256>>>(static_cast<float*>(result.data_ptr()), count);
  return result;
}

int64_t cuda_version() { return CUDART_VERSION; }

STABLE_TORCH_LIBRARY(gsplat, library) {
  library.def("doubled(Tensor numbers) -> Tensor");
  library.def("cuda_version() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(gsplat, CPU, library) {
  library.impl("doubled", TORCH_BOX(&doubled_cpu));
}

STABLE_TORCH_LIBRARY_IMPL(gsplat, CUDA, library) {
  library.impl("doubled", TORCH_BOX(&doubled_cuda));
}

STABLE_TORCH_LIBRARY_IMPL(gsplat, CompositeExplicitAutograd, library) {
  library.impl("cuda_version", TORCH_BOX(&cuda_version));
}
