/* cudnn_described.c - see cudnn_described.h. */
#include "cudnn_described.h"
#include "harness.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

const char cudnn_h200[] =
    "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":132,"
    "\"smClockRateKHz\":1980000,\"memClockRateKHz\":3201000,\"l2CacheSize\":62914560,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":232448,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"pciDeviceId\":0,"
    "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"isTccDriver\":0,\"supportCoopLaunch\":1,"
    "\"deviceVer\":900,\"driverVer\":13000,\"totalGlobalMem\":150754820096,\"deviceName\":\"NVIDIA H200\",\"cudaDeviceId\":0}";

/* A driver that fails everywhere, unless there is a real one. */
static bool load_stub(void)
{
    const char *stub = BUILD_DIR "/cuda_stub/libcuda.so.1";
    return access(stub, R_OK) == 0 && dlopen(stub, RTLD_NOW | RTLD_GLOBAL) != NULL;
}

bool cudnn_described(cuda_libs **libs, cuda_dnn **dnn)
{
    if (!load_stub()) {
        test_skip("plans", "no stub of the driver (it is made of the CUDA toolkit's cuda.h)");
        return false;
    }
    OK(cuda_libs_open(libs));
    if (!cuda_libs_dnn(*libs)) {
        test_skip("plans", "cuDNN was not found; tools/setup-cuda installs it");
        return false;
    }
    int code = cuda_dnn_open_described(cuda_libs_dnn(*libs), cudnn_h200, dnn);
    if (code != 0) {
        char reason[100];
        snprintf(reason, sizeof reason, "this cuDNN does not take the description of a device (status %d)", code);
        test_skip("plans", reason);
        return false;
    }
    return true;
}
