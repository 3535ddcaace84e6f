#define _GNU_SOURCE
#include "CHostOracle.h"

#if defined(__x86_64__) && defined(__linux__)

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

// The program is entered by returning from a signal whose frame has been rewritten, and left by the signal that its
// last instruction causes. So the kernel loads and saves every register, and no stub in assembly is needed.

static uint8_t *data_view, *code_view;
static int can16;

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
enum { fault_count = sizeof faults / sizeof faults[0] };
static struct sigaction old_actions[fault_count];

static __thread OracleState *running;
static __thread int wanted_bits, outcome;
static __thread ucontext_t saved_context;
static __thread _Alignas(64) uint8_t saved_fpu[576];
static __thread timer_t watchdog;
static __thread int thread_is_ready;

enum { user_code32 = 0x23, user_data = 0x2B, user_code64 = 0x33 };

static const int register_order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                       REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// Legacy area and header of the XSAVE image; the header's first word says which parts are valid.
static void put_fpu(ucontext_t *context, const uint8_t *legacy) {
    uint8_t *image = (uint8_t *)context->uc_mcontext.fpregs;
    memcpy(image, legacy, 416);
    image[512] |= 3;
}

// A program may leave EFLAGS.AC set, which the kernel does not clear for a handler: compiled code must not run with it.
#define UNUSED __attribute__((unused))
#define CLEARS_AC(name, body)                                                                                         \
    __attribute__((naked)) static void name(UNUSED int number, UNUSED siginfo_t *info, UNUSED void *context) {         \
        __asm__ volatile("pushfq\n\tandl $0xFFFBFFFF, (%rsp)\n\tpopfq\n\tjmp " #body);                              \
    }

static void enter(int signal_number, siginfo_t *info, void *raw) {
    (void)signal_number, (void)info;
    ucontext_t *context = raw;
    if (!running) return;
    saved_context = *context;
    memcpy(saved_fpu, context->uc_mcontext.fpregs, 512);
    greg_t *registers = context->uc_mcontext.gregs;
    for (int i = 0; i < 16; i++) registers[register_order[i]] = (greg_t)running->gpr[i];
    registers[REG_RIP] = (greg_t)running->rip;
    registers[REG_EFL] = (greg_t)running->flags;
    uint64_t code = user_code64, stack = user_data;
    if (wanted_bits == 32) code = user_code32;
    if (wanted_bits == 16) code = ORACLE_CODE16, stack = ORACLE_DATA16;
    uint64_t selectors = (uint64_t)registers[REG_CSGSFS] & 0x0000FFFFFFFF0000ul;
    registers[REG_CSGSFS] = (greg_t)(selectors | code | stack << 48);
    put_fpu(context, running->fx);
}

static void leave(ucontext_t *context) {
    greg_t *registers = context->uc_mcontext.gregs;
    for (int i = 0; i < 16; i++) running->gpr[i] = (uint64_t)registers[register_order[i]];
    running->rip = (uint64_t)registers[REG_RIP];
    running->flags = (uint64_t)registers[REG_EFL];
    running->vector = (uint64_t)registers[REG_TRAPNO];
    running->error = (uint64_t)registers[REG_ERR];
    running->cr2 = (uint64_t)registers[REG_CR2];
    memcpy(running->fx, context->uc_mcontext.fpregs, 512);
    memcpy(registers, saved_context.uc_mcontext.gregs, sizeof saved_context.uc_mcontext.gregs);
    put_fpu(context, saved_fpu);
    running = NULL;
}

CLEARS_AC(caught, caught_body)

__attribute__((used)) static void caught_body(int signal_number, siginfo_t *info, void *raw) {
    if (running) {
        leave(raw);
        return;
    }
    // Not ours: the previous handler's, as if we had never been here.
    for (int i = 0; i < fault_count; i++) {
        if (faults[i] == signal_number) sigaction(signal_number, &old_actions[i], NULL);
    }
    (void)info;
}

CLEARS_AC(timed_out, timed_out_body)

__attribute__((used)) static void timed_out_body(int signal_number, siginfo_t *info, void *raw) {
    (void)signal_number, (void)info;
    if (!running) return;
    // The timer may ring before the program is entered: then it rings in vain, and again later.
    ucontext_t *context = raw;
    uint64_t pc = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    uint64_t code = (uint64_t)context->uc_mcontext.gregs[REG_CSGSFS] & 0xFFFF;
    if (code == user_code64 && (pc < ORACLE_CODE || pc >= ORACLE_CODE + ORACLE_CODE_SIZE)) return;
    outcome = ORACLE_TIMEOUT;
    leave(context);
}

static int set_segment(int index, uint64_t base, unsigned limit, int is_code) {
    struct user_desc descriptor;
    memset(&descriptor, 0, sizeof descriptor);
    descriptor.entry_number = (unsigned)index;
    descriptor.base_addr = (unsigned)base;
    descriptor.limit = limit;
    descriptor.contents = is_code ? MODIFY_LDT_CONTENTS_CODE : MODIFY_LDT_CONTENTS_DATA;
    return (int)syscall(SYS_modify_ldt, 1, &descriptor, sizeof descriptor);
}

static int map_views(void) {
    // The code page is written through a second view, so that programs see it as read-only.
    int file = (int)syscall(SYS_memfd_create, "oracle", 0);
    if (file < 0 || ftruncate(file, ORACLE_CODE_SIZE) != 0) return 0;
    void *code = mmap((void *)ORACLE_CODE, ORACLE_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE,
                      file, 0);
    void *view = mmap(NULL, ORACLE_CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    void *data = mmap((void *)ORACLE_DATA, ORACLE_DATA_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (code != (void *)ORACLE_CODE || view == MAP_FAILED || data != (void *)ORACLE_DATA) return 0;
    // Present from the start: a page fault must be the program's own.
    memset(data, 0, ORACLE_DATA_SIZE);
    data_view = data;
    code_view = view;
    return 1;
}

static void prepare_process(void) {
    if (!map_views()) return;
    can16 = set_segment(0, ORACLE_CODE, ORACLE_CODE_SIZE - 1, 1) == 0 &&
            set_segment(1, ORACLE_DATA, ORACLE_DATA_SIZE - 1, 0) == 0;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    action.sa_sigaction = enter;
    sigaction(SIGUSR2, &action, NULL);
    action.sa_sigaction = timed_out;
    sigaction(SIGALRM, &action, NULL);
    action.sa_sigaction = caught;
    for (int i = 0; i < fault_count; i++) sigaction(faults[i], &action, &old_actions[i]);
}

static void prepare_thread(void) {
    static __thread uint8_t stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGALRM;
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    timer_create(CLOCK_MONOTONIC, &event, &watchdog);
    thread_is_ready = 1;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

uint8_t *oracle_data(void) {
    pthread_once(&once, prepare_process);
    return data_view;
}

uint8_t *oracle_code(void) {
    pthread_once(&once, prepare_process);
    return code_view;
}

int oracle_supports(int bits) {
    if (!oracle_data()) return 0;
    return bits == 64 || bits == 32 || (bits == 16 && can16);
}

int oracle_run(OracleState *state, int bits) {
    if (!oracle_supports(bits)) return ORACLE_UNAVAILABLE;
    if (!thread_is_ready) prepare_thread();
    uint16_t data = bits == 16 ? ORACLE_DATA16 : user_data;
    unsigned long old_gs = 0;
    syscall(SYS_arch_prctl, ARCH_GET_GS, &old_gs);
    syscall(SYS_arch_prctl, ARCH_SET_GS, bits == 64 ? ORACLE_GS_BASE : 0);
    struct itimerspec time = {.it_interval = {0, 20000000}, .it_value = {0, 20000000}};
    timer_settime(watchdog, 0, &time, NULL);
    outcome = ORACLE_OK;
    wanted_bits = bits;
    running = state;
    // Threads of a pool may have everything blocked.
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGUSR2);
    sigaddset(&ours, SIGALRM);
    for (int i = 0; i < fault_count; i++) sigaddset(&ours, faults[i]);
    pthread_sigmask(SIG_UNBLOCK, &ours, &before);
    __asm__ volatile("movw %0, %%ds\n\tmovw %0, %%es" : : "r"(data) : "memory");
    syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGUSR2);
    __asm__ volatile("movw %0, %%ds\n\tmovw %0, %%es" : : "r"((uint16_t)0) : "memory");
    // ID and NT stay as the program left them: the kernel does not restore these.
    __asm__ volatile("sub $128, %%rsp\n\tpushfq\n\tandl $0xFFDFBFFF, (%%rsp)\n\tpopfq\n\tadd $128, %%rsp"
                     :
                     :
                     : "memory", "cc");
    memset(&time, 0, sizeof time);
    timer_settime(watchdog, 0, &time, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    syscall(SYS_arch_prctl, ARCH_SET_GS, old_gs);
    return outcome;
}

#else

uint8_t *oracle_data(void) { return NULL; }
uint8_t *oracle_code(void) { return NULL; }
int oracle_supports(int bits) { return (void)bits, 0; }
int oracle_run(OracleState *state, int bits) { return (void)state, (void)bits, ORACLE_UNAVAILABLE; }

#endif
