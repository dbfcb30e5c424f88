// A stand-in for NVIDIA's library: one GPU with 8 of 24 GB in use, at work for a quarter of the time.
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } use_t;

int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = device; return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    *memory = (memory_t){24000000000ULL, 16000000000ULL, 8000000000ULL};
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, use_t *use) { *use = (use_t){25, 10}; return 0; }
