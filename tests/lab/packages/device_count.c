/* libc10_cuda.so of the stand-in torch: the question that torch.cuda.is_available() asks, put to whatever libcuda.so.1 is there when
 * it is called. BUILT_FOR is the CUDA major of this build. */
#include <dlfcn.h>
int device_count(void) __asm__("_ZN3c104cuda12device_countEv");
int device_count(void) {
  int version = 0, count = 0;
  void *driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (!driver) return 0;
  int (*get_version)(int *) = (int (*)(int *))dlsym(driver, "cuDriverGetVersion");
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
  int (*get_count)(int *) = (int (*)(int *))dlsym(driver, "cuDeviceGetCount");
  if (!get_version || !init || !get_count || get_version(&version)) return 0;
  if (version / 1000 < BUILT_FOR || init(0) || get_count(&count)) return 0;
  return count;
}
