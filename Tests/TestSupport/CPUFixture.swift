import CPUCore
import Foundation
import GuestX86
import MachineState

/// A bare processor with RAM, descriptor tables, page tables and one handler per vector, which halts: tests see an
/// exception as a halt at `handler(vector)` and the frame on the handler's stack.
///
/// Low memory is mapped one to one for the supervisor; `map` adds pages.
package final class CPUFixture {
    package enum Mode: Sendable {
        /// After RESET, with a flat interrupt table at 0 whose vectors point to the handlers.
        case real
        /// Protected mode, no paging: flat 32-bit segments, 32-bit interrupt gates.
        case protected32
        /// The same with PAE paging and no-execute.
        case paged32
        /// Long mode, 64-bit code.
        case long64
    }

    // Physical addresses.
    package static let gdt: UInt64 = 0x1000
    package static let idt: UInt64 = 0x2000
    package static let tss: UInt64 = 0x3000
    package static let handlers: UInt64 = 0x4000
    package static let ldt: UInt64 = 0x5000
    /// Tops of the stacks for CPL 0 and for the first interrupt-stack-table entry.
    package static let stackTop: UInt64 = 0x8000
    package static let interruptStackTop: UInt64 = 0x9000
    /// Where tests usually put their code.
    package static let code: UInt64 = 0x2_0000
    package static let realCode: UInt64 = 0x7C00
    private static let tables: UInt64 = 0x4_0000

    // Selectors.
    package static let kernelCode: UInt16 = 0x08
    package static let kernelData: UInt16 = 0x10
    package static let kernelCode32: UInt16 = 0x18
    package static let userCode32: UInt16 = 0x23
    package static let userData: UInt16 = 0x2B
    package static let userCode64: UInt16 = 0x33
    package static let taskSelector: UInt16 = 0x40
    package static let ldtSelector: UInt16 = 0x50
    /// First selector that is free for tests.
    package static let freeSelector: UInt16 = 0x60

    /// Bits of paging-structure entries.
    package static let present: UInt64 = 1
    package static let writable: UInt64 = 2
    package static let user: UInt64 = 4
    package static let noExecute: UInt64 = 1 << 63

    package let ram: GuestRAM
    package let bus = NullBus()
    package let cpu: X86CPU
    package let mode: Mode
    private var nextTable = CPUFixture.tables
    private var topTable: UInt64 = 0

    package var state: UnsafeMutablePointer<X86State> { cpu.state }

    /// What tests run on: generated code from the first execution on, or `EMU_TEST_ENGINE`. `scripts/test` does both.
    package static let engine =
        ProcessInfo.processInfo.environment["EMU_TEST_ENGINE"].flatMap(EngineKind.init) ?? .best

    package init(_ mode: Mode, ramSize: Int = 4 << 20, engine: EngineKind = CPUFixture.engine) {
        ram = GuestRAM(size: ramSize)
        cpu = X86CPU(ram: ram, bus: bus, engine: engine, threshold: 1)
        self.mode = mode
        for vector in 0..<256 {
            write(Self.handler(UInt8(vector)), [0xF4, 0xEB, 0xFD])
        }
        switch mode {
        case .real: setUpReal()
        case .protected32, .paged32, .long64: setUpProtected()
        }
        cpu.forgetTranslations()
        // For ever: tests hold pointers into it, which do not keep it alive.
        _ = Unmanaged.passRetained(self)
    }

    /// Address of the handler of a vector: HLT, then a jump back to it.
    package static func handler(_ vector: UInt8) -> UInt64 { handlers + UInt64(vector) * 8 }

    /// The vector whose handler the processor has halted in.
    package var haltedVector: UInt8? {
        let offset = state.pointee.core.pc &- Self.handlers
        guard state.pointee.isHalted, offset < 256 * 8, offset % 8 == 1 else { return nil }
        return UInt8(offset / 8)
    }

    // MARK: Physical memory

    /// Writes RAM as a bus master does: translations of code are forgotten.
    package func write(_ address: UInt64, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes { cpu.dmaWrite(address, from: $0) }
    }
    package func write16(_ address: UInt64, _ value: UInt16) { writeInteger(address, value) }
    package func write32(_ address: UInt64, _ value: UInt32) { writeInteger(address, value) }
    package func write64(_ address: UInt64, _ value: UInt64) { writeInteger(address, value) }
    private func writeInteger<T: FixedWidthInteger>(_ address: UInt64, _ value: T) {
        withUnsafeBytes(of: value.littleEndian) { cpu.dmaWrite(address, from: $0) }
    }
    package func read(_ address: UInt64, count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { cpu.dmaRead(address, into: $0) }
        return bytes
    }
    package func read16(_ address: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: readInteger(address, 2)) }
    package func read32(_ address: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: readInteger(address, 4)) }
    package func read64(_ address: UInt64) -> UInt64 { readInteger(address, 8) }
    private func readInteger(_ address: UInt64, _ count: Int) -> UInt64 {
        read(address, count: count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    // MARK: Descriptors

    /// A segment descriptor. `access` is byte 5; `flags` are G, D/B, L, AVL in bits 3...0; `limit` in units of `flags`.
    package static func descriptor(base: UInt64, limit: UInt32, access: UInt8, flags: UInt8) -> UInt64 {
        UInt64(limit & 0xFFFF) | (base & 0xFF_FFFF) << 16 | UInt64(access) << 40 | UInt64(limit >> 16 & 0xF) << 48
            | UInt64(flags) << 52 | (base >> 24 & 0xFF) << 56
    }
    package func setDescriptor(_ selector: UInt16, _ value: UInt64) {
        write64((selector & 4 != 0 ? Self.ldt : Self.gdt) + UInt64(selector & 0xFFF8), value)
    }
    /// An 8-byte gate: type 4 call 16, 5 task, 6/7 interrupt/trap 16, 12 call 32, 14/15 interrupt/trap 32.
    package static func gate(_ selector: UInt16, _ offset: UInt64, type: UInt8, dpl: UInt8 = 0, count: UInt8 = 0)
        -> UInt64
    {
        let access = UInt64(0x80 | dpl << 5 | type)
        return offset & 0xFFFF | UInt64(selector) << 16 | UInt64(count) << 32 | access << 40
            | (offset >> 16 & 0xFFFF) << 48
    }
    /// Sets the gate of a vector, in the mode's format. `count` is the interrupt stack table's index in long mode.
    package func setGate(
        _ vector: UInt8, _ selector: UInt16, _ offset: UInt64, type: UInt8 = 14, dpl: UInt8 = 0, count: UInt8 = 0
    ) {
        let gate = Self.gate(selector, offset, type: type, dpl: dpl, count: count)
        if mode == .long64 {
            write64(Self.idt + UInt64(vector) * 16, gate)
            write64(Self.idt + UInt64(vector) * 16 + 8, offset >> 32)
        } else {
            write64(Self.idt + UInt64(vector) * 8, gate)
        }
    }

    // MARK: Paging

    /// Maps 4 KiB pages. `flags` are entry bits without the address.
    package func map(_ linear: UInt64, _ physical: UInt64, pages: Int = 1, flags: UInt64) {
        for index in 0..<pages {
            let address = linear &+ UInt64(index) << 12
            write64(entryAddress(address), physical &+ UInt64(index) << 12 | flags)
        }
    }

    /// Where the last-level entry of a linear address lies; tables are made on the way.
    package func entryAddress(_ linear: UInt64) -> UInt64 {
        var table = topTable
        let top: UInt64 = mode == .long64 ? 39 : 30
        var shift = top
        while shift > 12 {
            let index = linear >> shift & (mode == .paged32 && shift == 30 ? 3 : 511)
            let address = table + index * 8
            var entry = read64(address)
            if entry & 1 == 0 {
                let rights: UInt64 = mode == .paged32 && shift == 30 ? 0 : Self.writable | Self.user
                entry = newTable() | Self.present | rights
                write64(address, entry)
            }
            table = entry & 0x000F_FFFF_FFFF_F000
            shift -= 9
        }
        return table + (linear >> 12 & 511) * 8
    }

    private func newTable() -> UInt64 {
        defer { nextTable += 4096 }
        return nextTable
    }

    // MARK: Modes

    private func setUpReal() {
        for vector in 0..<256 {
            write32(UInt64(vector) * 4, UInt32(Self.handler(UInt8(vector))))
        }
        state.pointee.segments[1] = Segment(selector: 0, attributes: 0x9B, limit: 0xFFFF, base: 0)
        state.pointee.idtLimit = 0x3FF
        state.pointee.core.registers[4] = 0x7000
        state.pointee.core.pc = Self.realCode
    }

    private func setUpProtected() {
        let isLong = mode == .long64
        // The layout of the selectors is Linux's, so that programs see the values that they would see there.
        setDescriptor(0x08, Self.descriptor(base: 0, limit: 0xF_FFFF, access: 0x9B, flags: isLong ? 0xA : 0xC))
        setDescriptor(0x10, Self.descriptor(base: 0, limit: 0xF_FFFF, access: 0x93, flags: 0xC))
        setDescriptor(0x18, Self.descriptor(base: 0, limit: 0xF_FFFF, access: 0x9B, flags: 0xC))
        setDescriptor(0x20, Self.descriptor(base: 0, limit: 0xF_FFFF, access: 0xFB, flags: 0xC))
        setDescriptor(0x28, Self.descriptor(base: 0, limit: 0xF_FFFF, access: 0xF3, flags: 0xC))
        setDescriptor(0x30, Self.descriptor(base: 0, limit: 0xF_FFFF, access: 0xFB, flags: 0xA))
        setDescriptor(Self.taskSelector, Self.descriptor(base: Self.tss, limit: 0x67, access: 0x8B, flags: 0))
        setDescriptor(Self.ldtSelector, Self.descriptor(base: Self.ldt, limit: 0xFFF, access: 0x82, flags: 0))
        for vector in 0..<256 {
            // User programs may use INT3 and INTO; the rest is for the processor.
            setGate(
                UInt8(vector), Self.kernelCode, Self.handler(UInt8(vector)), dpl: vector == 3 || vector == 4 ? 3 : 0)
        }
        if isLong {
            write64(Self.tss + 4, Self.stackTop)
            write64(Self.tss + 36, Self.interruptStackTop)
        } else {
            write32(Self.tss + 4, UInt32(Self.stackTop))
            write32(Self.tss + 8, UInt32(Self.kernelData))
        }
        write16(Self.tss + 102, 0x68)
        let s = state
        s.pointee.gdtBase = Self.gdt
        s.pointee.gdtLimit = 0xFFF
        s.pointee.idtBase = Self.idt
        s.pointee.idtLimit = 0xFFF
        s.pointee.tr = Segment(selector: Self.taskSelector, attributes: 0x8B, limit: 0x67, base: Self.tss)
        s.pointee.ldtr = Segment(selector: Self.ldtSelector, attributes: 0x82, limit: 0xFFF, base: Self.ldt)
        s.pointee.cr0 = CR0.pe | CR0.mp | CR0.et | CR0.ne | CR0.wp | CR0.am
        s.pointee.cr4 = CR4.osfxsr | CR4.osxmmexcpt
        if mode != .protected32 {
            topTable = newTable()
            map(0, 0, pages: 512, flags: Self.present | Self.writable)
            s.pointee.cr3 = topTable
            s.pointee.cr4 |= CR4.pae
            s.pointee.efer = EFER.nxe | (isLong ? EFER.lme | EFER.lma | EFER.sce : 0)
            s.pointee.cr0 |= CR0.pg
        }
        s.pointee.core.registers[4] = Self.stackTop
        s.pointee.core.pc = Self.code
        enterKernel()
    }

    /// Flat segments at CPL 0.
    package func enterKernel() {
        setSegments(code: Self.kernelCode, data: Self.kernelData)
    }

    /// Loads the segment registers from the tables, without checks: CPL is the code selector's.
    package func setSegments(code: UInt16, data: UInt16) {
        for index in [0, 2, 3] { state.pointee.segments[index] = segment(data) }
        state.pointee.segments[4] = Segment()
        state.pointee.segments[5] = Segment()
        state.pointee.segments[1] = segment(code)
        if state.pointee.segments[1].isLong { state.pointee.segments[1].limit = .max }
        state.pointee.cpl = UInt8(code & 3)
    }

    private func segment(_ selector: UInt16) -> Segment {
        let raw = read64((selector & 4 != 0 ? Self.ldt : Self.gdt) + UInt64(selector & 0xFFF8))
        let limit = UInt32(truncatingIfNeeded: raw & 0xFFFF | raw >> 32 & 0xF_0000)
        return Segment(
            selector: selector, attributes: UInt16(truncatingIfNeeded: raw >> 40) & 0xF0FF,
            limit: raw & 1 << 55 != 0 ? limit << 12 | 0xFFF : limit,
            base: (raw >> 16) & 0xFF_FFFF | (raw >> 32) & 0xFF00_0000)
    }

    // MARK: Running

    /// Puts `bytes` at `address` (physical, and the PC's offset) and goes there.
    package func load(_ bytes: [UInt8], at address: UInt64 = CPUFixture.code) {
        write(address, bytes)
        state.pointee.core.pc = address - state.pointee.segments[1].base
    }

    /// Runs at most `count` instructions; stops earlier at HLT or a shutdown.
    @discardableResult
    package func run(_ count: UInt64 = 10_000) -> X86CPU.Stop {
        let limit = cpu.position + count
        while true {
            let stop = cpu.run(until: limit)
            if case .attention = stop { continue }
            return stop
        }
    }

    /// Runs one instruction.
    @discardableResult
    package func step() -> X86CPU.Stop { run(1) }

    package subscript(_ register: Register) -> UInt64 {
        get { state.pointee.core.registers[register.rawValue] }
        set { state.pointee.core.registers[register.rawValue] = newValue }
    }

    /// General registers in encoding order.
    package enum Register: Int, Sendable {
        case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    }
}
