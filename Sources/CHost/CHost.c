#define _GNU_SOURCE
#include "CHost.h"

#include <sys/mman.h>
#include <unistd.h>

int chost_memory_file(const char *name, size_t size) {
    int descriptor = memfd_create(name, MFD_CLOEXEC);
    if (descriptor >= 0 && ftruncate(descriptor, (off_t)size) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

int chost_has_sse42(void) {
#ifdef __x86_64__
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2");
#else
    return 0;
#endif
}
