// The members of bench/vs-qemu, one process each: members NAME.
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t seed = 12345;
static uint32_t next_random(void) { return seed = seed * 1664525u + 1013904223u; }

static uint64_t crc32_member(void) {
    static uint8_t data[1 << 16];
    uint32_t table[256], crc = 0;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0xEDB88320u : c >> 1;
        table[i] = c;
    }
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)next_random();
    for (int round = 0; round < 2000; round++)
        for (size_t i = 0; i < sizeof data; i++) crc = table[(crc ^ data[i]) & 0xFF] ^ crc >> 8;
    return crc;
}

static void sort(int *a, long low, long high) {
    while (low < high) {
        int pivot = a[(low + high) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i <= j) { int t = a[i]; a[i++] = a[j]; a[j--] = t; }
        }
        sort(a, low, j);
        low = i;
    }
}
static uint64_t quicksort_member(void) {
    enum { count = 400000 };
    int *a = malloc(count * sizeof *a);
    uint64_t sum = 0;
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < count; i++) a[i] = (int)next_random();
        sort(a, 0, count - 1);
        sum += (uint32_t)a[count / 2];
    }
    return sum;
}

static uint64_t sieve_member(void) {
    enum { limit = 2000000 };
    char *composite = malloc(limit);
    uint64_t primes = 0;
    for (int round = 0; round < 12; round++) {
        memset(composite, 0, limit);
        for (long i = 2; i < limit; i++) {
            if (composite[i]) continue;
            primes++;
            for (long j = i * 2; j < limit; j += i) composite[j] = 1;
        }
    }
    return primes;
}

static uint64_t chase_member(void) {
    enum { count = 1 << 18 };
    uint32_t *next = malloc(count * sizeof *next);
    for (uint32_t i = 0; i < count; i++) next[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = next_random() % i, t = next[i];
        next[i] = next[j];
        next[j] = t;
    }
    uint32_t place = 0;
    for (long i = 0; i < 40000000; i++) place = next[place];
    return place;
}

static __attribute__((noinline)) uint64_t fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint64_t recursion_member(void) { return fib(36); }

static uint64_t doubles_member(void) {
    double x = 0.5, y = 0.25, sum = 0;
    for (long i = 1; i < 30000000; i++) {
        x = x * 0.999999 + y * 0.000003;
        y = y + 1.0 / (double)i - x * 1e-7;
        sum += sqrt(x * x + y * y);
    }
    return (uint64_t)sum;
}

static uint64_t matrix_member(void) {
    enum { n = 256 };
    static double a[n][n], b[n][n], c[n][n];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            a[i][j] = next_random() % 100;
            b[i][j] = next_random() % 100;
        }
    for (int round = 0; round < 6; round++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int k = 0; k < n; k++) sum += a[i][k] * b[k][j];
                c[i][j] += sum;
            }
    return (uint64_t)c[17][33];
}

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }
static uint64_t sha256_member(void) {
    static uint32_t k[64];
    uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[64];
    for (int i = 0; i < 64; i++) k[i] = next_random();
    for (int block = 0; block < 250000; block++) {
        for (int i = 0; i < 16; i++) w[i] = (uint32_t)(block + i) * 2654435761u;
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7]
                + (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], l = h[7];
        for (int i = 0; i < 64; i++) {
            uint32_t t1 = l + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
            uint32_t t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            l = g; g = f; f = e; e = d + t1; d = c; c = b; b = a; a = t1 + t2;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e; h[5] += f; h[6] += g; h[7] += l;
    }
    return h[0];
}

static uint64_t forks_member(void) {
    for (int i = 0; i < 600; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl("/bin/members", "members", "nothing", (char *)0);
            _exit(1);
        }
        waitpid(child, 0, 0);
    }
    return 0;
}

static uint64_t faults_member(void) {
    uint64_t sum = 0;
    for (int round = 0; round < 40; round++) {
        size_t size = 16 << 20;
        char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t i = 0; i < size; i += 4096) sum += (uint64_t)(memory[i] = (char)i) + 1;
        munmap(memory, size);
    }
    return sum;
}

static uint64_t pipes_member(void) {
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) || pipe(back)) return 1;
    pid_t child = fork();
    if (child == 0) {
        while (read(there[0], &byte, 1) == 1 && byte != 'q')
            if (write(back[1], &byte, 1) != 1) break;
        _exit(0);
    }
    for (int i = 0; i < 60000; i++) {
        byte = 'x';
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 1;
    }
    byte = 'q';
    if (write(there[1], &byte, 1) != 1) return 1;
    waitpid(child, 0, 0);
    return 0;
}

static uint64_t x87_member(void) {
    volatile long double x = 1.0L;
    long double sum = 0, y = x;
    for (long i = 1; i < 6000000; i++) {
        y = y * 1.0000001L + 1.0L / (long double)i;
        sum += y / 3.0L - sum * 1e-9L;
    }
    return (uint64_t)sum;
}

static uint64_t patching_member(void) {
    // mov eax, imm32; ret: the constant changes before every call.
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char text[] = {0xB8, 0, 0, 0, 0, 0xC3};
    memcpy(code, text, sizeof text);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 60000; i++) {
        memcpy(code + 1, &i, 4);
        sum += ((uint32_t(*)(void))code)();
        if (i % 8 == 0)
            for (int again = 0; again < 200; again++) sum += ((uint32_t(*)(void))code)();
    }
    return sum;
}

static uint64_t nothing_member(void) { return 0; }

int main(int count, char **arguments) {
    struct { const char *name; uint64_t (*run)(void); } members[] = {
        {"crc32", crc32_member}, {"quicksort", quicksort_member}, {"sieve", sieve_member}, {"chase", chase_member},
        {"recursion", recursion_member}, {"doubles", doubles_member}, {"matrix", matrix_member},
        {"sha256", sha256_member}, {"forks", forks_member}, {"faults", faults_member}, {"pipes", pipes_member},
        {"x87", x87_member}, {"patching", patching_member}, {"nothing", nothing_member},
    };
    for (size_t i = 0; count > 1 && i < sizeof members / sizeof *members; i++)
        if (!strcmp(arguments[1], members[i].name)) {
            uint64_t result = members[i].run();
            if (members[i].run != nothing_member) printf("%s = %llu\n", arguments[1], (unsigned long long)result);
            return 0;
        }
    fprintf(stderr, "members: no such member\n");
    return 1;
}
