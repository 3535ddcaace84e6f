/// Bytes that a boot loader puts into RAM before the CPU starts.
package struct MemoryBlob: Sendable, Equatable {
    /// Physical address.
    package var address: UInt64
    package var bytes: [UInt8]
    /// Zero bytes that follow `bytes` (a program's .bss).
    package var zeros: UInt64

    package init(address: UInt64, bytes: [UInt8], zeros: UInt64 = 0) {
        self.address = address
        self.bytes = bytes
        self.zeros = zeros
    }

    /// The first address behind it.
    package var end: UInt64 { address + UInt64(bytes.count) + zeros }
}

/// The CPU as a boot loader hands it over. Interrupts are off, paging is off but in `long64`, all other registers are 0.
package struct BootState: Sendable, Equatable {
    package enum Mode: Sendable, Equatable {
        /// As RESET leaves the CPU: the first instruction is in the ROM, 16 bytes below 4 GiB.
        case reset
        /// 16-bit: `entry` is CS * 16 + IP with CS = `codeSelector`, all other segments are `dataSelector`.
        case real
        /// CR0.PE, flat 4 GiB segments.
        case protected32
        /// CR0.PE and PG, CR4.PAE, EFER.LME and LMA, 64-bit code segment, page tables at `pageTables`.
        case long64
    }

    package var mode: Mode
    /// Linear address of the first instruction.
    package var entry: UInt64
    package var stack: UInt64
    /// EAX.
    package var a: UInt32 = 0
    /// EBX.
    package var b: UInt32 = 0
    /// RSI or ESI.
    package var source: UInt64 = 0
    package var gdtBase: UInt64 = 0
    /// Bytes less one.
    package var gdtLimit: UInt16 = 0
    package var codeSelector: UInt16 = 0x10
    /// DS, ES, SS, FS, GS.
    package var dataSelector: UInt16 = 0x18
    /// CR3 in `long64`: RAM below 4 GiB is mapped to itself.
    package var pageTables: UInt64 = 0

    package init(mode: Mode, entry: UInt64, stack: UInt64) {
        self.mode = mode
        self.entry = entry
        self.stack = stack
    }
}

/// What a boot loader produces: RAM contents, in the order in which to place them, and the CPU's state.
package struct BootImage: Sendable, Equatable {
    package var blobs: [MemoryBlob]
    package var state: BootState
    /// The firmware's ROM: whole pages that end at 4 GiB; empty for none.
    package var rom: [UInt8] = []
    package init(blobs: [MemoryBlob], state: BootState) {
        self.blobs = blobs
        self.state = state
    }
}

/// Why an image cannot be booted.
package struct BootError: Error, Sendable, Equatable, CustomStringConvertible {
    /// One sentence for the user, without a full stop.
    package let description: String
    package init(_ description: String) { self.description = description }
}
