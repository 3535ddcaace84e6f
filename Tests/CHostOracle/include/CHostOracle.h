/// Runs bytes as x86 user-mode code on the processor that runs the tests: the oracle of the differential tests.
#ifndef CHOSTORACLE_H
#define CHOSTORACLE_H

#include <stddef.h>
#include <stdint.h>

/// Where code and data lie, in the host's address space and in the guest's alike. The pages around are not mapped.
#define ORACLE_DATA 0x10000000ul
#define ORACLE_DATA_SIZE 0x4000ul
#define ORACLE_CODE 0x11000000ul
#define ORACLE_CODE_SIZE 0x1000ul
/// Base of GS in 64-bit mode.
#define ORACLE_GS_BASE (ORACLE_DATA + 0x800)
/// Selectors of the 16-bit segments, in the local descriptor table: code at ORACLE_CODE, data and stack at ORACLE_DATA
/// with the area's size as limit.
#define ORACLE_CODE16 0x07
#define ORACLE_DATA16 0x0F

/// Registers before and after.
typedef struct {
    /// In encoding order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8...R15.
    uint64_t gpr[16];
    uint64_t rip;
    uint64_t flags;
    /// FXSAVE image in 64-bit format: x87, MXCSR, XMM.
    _Alignas(16) uint8_t fx[512];
    /// After: vector of the exception that ended the run, its error code, CR2 of a page fault.
    uint64_t vector;
    uint64_t error;
    uint64_t cr2;
} OracleState;

/// What `oracle_run` returns.
enum {
    ORACLE_OK = 0,
    /// It took too long.
    ORACLE_TIMEOUT = 1,
    /// This host cannot run the mode.
    ORACLE_UNAVAILABLE = 2
};

/// The data area, writable, and the code page: what is written here is executed. Null where there is no oracle.
uint8_t *oracle_data(void);
uint8_t *oracle_code(void);

/// Runs from `state->rip` until an exception (the program ends with UD2). `bits` is the code's size: 16, 32 or 64.
/// One thread at a time.
int oracle_run(OracleState *state, int bits);

/// 1 if this host runs programs of `bits`.
int oracle_supports(int bits);

#endif
