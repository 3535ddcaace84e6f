/// What Swift cannot call: variadic and GNU-only functions of the C library.
#ifndef CHOST_H
#define CHOST_H

#include <stddef.h>

/// An anonymous file of `size` bytes in memory, for mapping it twice. The descriptor, or -1 with errno.
int chost_memory_file(const char *name, size_t size);

/// 1 if the host's processor has SSSE3, SSE4.1 and SSE4.2.
int chost_has_sse42(void);

#endif
