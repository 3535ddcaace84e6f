/// What Swift cannot call: variadic and GNU-only functions of the C library, instructions of the host's processor.
#ifndef CHOST_H
#define CHOST_H

#include <stddef.h>
#include <stdint.h>

/// Maps shared anonymous memory a second time, elsewhere. NULL with errno when that fails.
void *chost_map_again(void *memory, size_t size);

/// Waits until a descriptor can be read, or so long. 1: it can be.
int chost_wait_readable(int descriptor, uint64_t nanoseconds);

/// 1 if the host's processor has SSSE3, SSE4.1 and SSE4.2.
int chost_has_sse42(void);

/// Adds whole blocks of 64 bytes to a SHA-256 state (FIPS 180-4, 6.2.2), with the 64 constants given, by the host's SHA
/// instructions (SDM volume 2, SHA256RNDS2). 0: the host has none, nothing was done.
int chost_sha256(uint32_t *state, const uint8_t *bytes, size_t blocks, const uint32_t *constants);

/// Goes on with a CRC-32C (polynomial 0x82F63B78, lowest bit first) over bytes, by the host's instruction (SDM volume 2,
/// CRC32). 0: the host has none, nothing was done.
int chost_crc32c(uint32_t *crc, const void *bytes, size_t count);

#endif
