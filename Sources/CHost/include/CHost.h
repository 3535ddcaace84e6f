/// What Swift cannot call: variadic and GNU-only functions of the C library, instructions of the host's processor.
#ifndef CHOST_H
#define CHOST_H

#include <stddef.h>
#include <stdint.h>

/// Maps shared anonymous memory a second time, elsewhere. NULL with errno when that fails.
void *chost_map_again(void *memory, size_t size);

/// 1 if the host's processor has SSSE3, SSE4.1 and SSE4.2.
int chost_has_sse42(void);

/// Adds whole blocks of 64 bytes to a SHA-256 state (FIPS 180-4, 6.2.2), with the 64 constants given, by the host's SHA
/// instructions (SDM volume 2, SHA256RNDS2). 0: the host has none, nothing was done.
int chost_sha256(uint32_t *state, const uint8_t *bytes, size_t blocks, const uint32_t *constants);

/// Sends bytes over a Unix socket, with `number` (at most 16) descriptors beside the first of them. Returns the number of
/// bytes sent, or -1 with errno.
long chost_send_descriptors(int socket, const void *bytes, size_t count, const int *descriptors, size_t number);

/// Receives at most `room` bytes and at most `*number` (at most 16) descriptors, which are closed on exec; `*number` is how
/// many have come. Returns the number of bytes, 0 at the end, or -1 with errno.
long chost_receive_descriptors(int socket, void *buffer, size_t room, int *descriptors, size_t *number);

/// A counter that can be waited for, not blocking and closed on exec. -1 with errno when there is none.
int chost_eventfd(void);

/// A set of descriptors that can be waited for. -1 with errno when there is none.
int chost_watch(void);
/// Adds a descriptor to a set; `once`: it is not reported before chost_watch_arm.
void chost_watch_add(int set, int descriptor, int once);
/// Reports the descriptor once more.
void chost_watch_arm(int set, int descriptor);
void chost_watch_remove(int set, int descriptor);
/// A descriptor of the set that can be read, waiting at most so many milliseconds (-1: however long it takes); -1 for none.
int chost_watch_wait(int set, int milliseconds);

/// Which of at most 32 descriptors can be read, as bits, waiting at most so many nanoseconds (an hour for more); 0 for none.
unsigned chost_readable(const int *descriptors, size_t number, uint64_t nanoseconds);

/// Goes on with a CRC-32C (polynomial 0x82F63B78, lowest bit first) over bytes, by the host's instruction (SDM volume 2,
/// CRC32). 0: the host has none, nothing was done.
int chost_crc32c(uint32_t *crc, const void *bytes, size_t count);

#endif
