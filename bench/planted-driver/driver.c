// A driver of a few lines, without an operating system: programs the second serial port over and over again.
// Entered as a multiboot kernel. With -DPLANTED=N it writes another register in round N.
__asm__(
    ".section .boot, \"ax\"\n"
    ".long 0x1BADB002, 0, -0x1BADB002\n"
    ".globl _start\n"
    "_start: movl $stack + 4096, %esp\n"
    "call start\n"
    ".text\n");

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

static void out(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static u8 in(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

enum { base = 0x2F8, divisor_low = 0, interrupts = 1, fifo = 2, line = 3, modem = 4, status = 5, scratch = 7 };

char stack[4096];
static u32 seed = 1;
static u8 next(void) {
    seed = seed * 1664525u + 1013904223u;
    return (u8)(seed >> 24);
}

// Each round has 8 accesses.
static void round_of(u32 number) {
    out(base + line, 0x83);
    out(base + divisor_low, (u8)(number % 12 + 1));
    out(base + line, 0x03);
    out(base + scratch, next());
    (void)in(base + scratch);
#ifdef PLANTED
    if (number == PLANTED)
        out(base + interrupts, 0x00); // planted: the modem control register is what is meant
    else
#endif
        out(base + modem, 0x08);
    (void)in(base + status);
    out(base + fifo, 0x07);
}

void start(void) {
    for (u32 number = 0; number < ROUNDS; number++) round_of(number);
    // The end, by isa-debug-exit.
    out(0xF4, 0);
    for (;;) __asm__ volatile("hlt");
}
