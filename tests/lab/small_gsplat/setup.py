"""A stand-in for gsplat, whose own CUDA code compiles for half an hour. This is one file that
includes the headers of torch's stable ABI only: nvcc is done with it in seconds."""

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name="gsplat",
    version="0.0.1+small",
    packages=["gsplat"],
    ext_modules=[CUDAExtension("gsplat.csrc_cuda", ["csrc/doubled.cu"])],
    cmdclass={"build_ext": BuildExtension.with_options(no_python_abi_suffix=True)},
)
