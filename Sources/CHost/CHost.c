#define _GNU_SOURCE
#include "CHost.h"

#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

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

#ifdef __x86_64__
static int has_sha(void) {
    unsigned a, b, c, d;
    return chost_has_sse42() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}

__attribute__((target("sha,sse4.1,ssse3"))) static void sha256_blocks(
    uint32_t *state, const uint8_t *bytes, size_t blocks, const uint32_t *constants) {
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    // As the instruction wants them: A B E F and C D G H, from the top down.
    __m128i abef = _mm_set_epi32((int)state[0], (int)state[1], (int)state[4], (int)state[5]);
    __m128i cdgh = _mm_set_epi32((int)state[2], (int)state[3], (int)state[6], (int)state[7]);
    for (; blocks > 0; blocks--, bytes += 64) {
        const __m128i first = abef, second = cdgh;
        __m128i words[4];
        for (int group = 0; group < 16; group++) {
            __m128i w;
            if (group < 4) {
                w = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(bytes + 16 * group)), big_endian);
            } else {
                const __m128i before = words[(group + 3) & 3];
                w = _mm_sha256msg1_epu32(words[group & 3], words[(group + 1) & 3]);
                w = _mm_add_epi32(w, _mm_alignr_epi8(before, words[(group + 2) & 3], 4));
                w = _mm_sha256msg2_epu32(w, before);
            }
            words[group & 3] = w;
            // Two rounds each; then the two halves of the state have changed places.
            w = _mm_add_epi32(w, _mm_loadu_si128((const __m128i *)(constants + 4 * group)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, w);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(w, 0x0E));
        }
        abef = _mm_add_epi32(abef, first);
        cdgh = _mm_add_epi32(cdgh, second);
    }
    state[0] = (uint32_t)_mm_extract_epi32(abef, 3);
    state[1] = (uint32_t)_mm_extract_epi32(abef, 2);
    state[2] = (uint32_t)_mm_extract_epi32(cdgh, 3);
    state[3] = (uint32_t)_mm_extract_epi32(cdgh, 2);
    state[4] = (uint32_t)_mm_extract_epi32(abef, 1);
    state[5] = (uint32_t)_mm_extract_epi32(abef, 0);
    state[6] = (uint32_t)_mm_extract_epi32(cdgh, 1);
    state[7] = (uint32_t)_mm_extract_epi32(cdgh, 0);
}
#endif

int chost_sha256(uint32_t *state, const uint8_t *bytes, size_t blocks, const uint32_t *constants) {
#ifdef __x86_64__
    if (!has_sha()) return 0;
    sha256_blocks(state, bytes, blocks, constants);
    return 1;
#else
    return 0;
#endif
}

enum { most_descriptors = 16 };

long chost_send_descriptors(int socket, const void *bytes, size_t count, const int *descriptors, size_t number) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * most_descriptors)];
    } control;
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (number > most_descriptors) number = most_descriptors;
    if (number > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * number);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * number);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * number);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

long chost_receive_descriptors(int socket, void *buffer, size_t room, int *descriptors, size_t *number) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * most_descriptors)];
    } control;
    struct iovec piece = {.iov_base = buffer, .iov_len = room};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const size_t most = *number;
    *number = 0;
    const long count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) return count;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const size_t come = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < come; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof descriptor);
            // What nobody has room for is not kept open.
            if (*number < most) descriptors[(*number)++] = descriptor;
            else close(descriptor);
        }
    }
    return count;
}

int chost_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

int chost_watch(void) { return epoll_create1(EPOLL_CLOEXEC); }

static void control(int set, int operation, int descriptor, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    epoll_ctl(set, operation, descriptor, &event);
}

void chost_watch_add(int set, int descriptor, int once) {
    control(set, EPOLL_CTL_ADD, descriptor, once ? (unsigned)EPOLLONESHOT : (unsigned)EPOLLIN);
}
void chost_watch_arm(int set, int descriptor) { control(set, EPOLL_CTL_MOD, descriptor, EPOLLIN | EPOLLONESHOT); }
void chost_watch_remove(int set, int descriptor) { control(set, EPOLL_CTL_DEL, descriptor, 0); }

int chost_watch_wait(int set, int milliseconds) {
    struct epoll_event event;
    return epoll_wait(set, &event, 1, milliseconds) == 1 ? event.data.fd : -1;
}

unsigned chost_readable(const int *descriptors, size_t number, uint64_t nanoseconds) {
    struct pollfd pollers[32];
    if (number > 32) number = 32;
    for (size_t index = 0; index < number; index++)
        pollers[index] = (struct pollfd){.fd = descriptors[index], .events = POLLIN};
    const uint64_t second = 1000000000;
    const uint64_t seconds = nanoseconds / second;
    const struct timespec limit = {
        .tv_sec = seconds < 3600 ? (time_t)seconds : 3600, .tv_nsec = (long)(nanoseconds % second)};
    if (ppoll(pollers, number, &limit, NULL) <= 0) return 0;
    unsigned readable = 0;
    for (size_t index = 0; index < number; index++)
        if (pollers[index].revents != 0) readable |= 1u << index;
    return readable;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc32c_bytes(uint32_t crc, const uint8_t *bytes, size_t count) {
    uint64_t value = crc;
    for (; count >= 8; count -= 8, bytes += 8) {
        uint64_t word;
        __builtin_memcpy(&word, bytes, 8);
        value = _mm_crc32_u64(value, word);
    }
    crc = (uint32_t)value;
    for (; count > 0; count--, bytes++) crc = _mm_crc32_u8(crc, *bytes);
    return crc;
}
#endif

int chost_crc32c(uint32_t *crc, const void *bytes, size_t count) {
#ifdef __x86_64__
    if (!chost_has_sse42()) return 0;
    *crc = crc32c_bytes(*crc, bytes, count);
    return 1;
#else
    return 0;
#endif
}
