#define _GNU_SOURCE
#include "CHost.h"

#include <sys/mman.h>

void *chost_map_again(void *memory, size_t size) {
    void *again = mremap(memory, 0, size, MREMAP_MAYMOVE);
    return again == MAP_FAILED ? NULL : again;
}

int chost_has_sse42(void) {
#ifdef __x86_64__
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2");
#else
    return 0;
#endif
}
