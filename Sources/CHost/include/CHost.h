/// What Swift cannot call: variadic and GNU-only functions of the C library.
#ifndef CHOST_H
#define CHOST_H

#include <stddef.h>

/// Maps shared anonymous memory a second time, elsewhere. NULL with errno when that fails.
void *chost_map_again(void *memory, size_t size);

/// 1 if the host's processor has SSSE3, SSE4.1 and SSE4.2.
int chost_has_sse42(void);

#endif
