/// What Swift cannot call: variadic and GNU-only functions of the C library.
#ifndef CHOST_H
#define CHOST_H

#include <stddef.h>

/// An anonymous file of `size` bytes in memory, for mapping it twice. The descriptor, or -1 with errno.
int chost_memory_file(const char *name, size_t size);

#endif
