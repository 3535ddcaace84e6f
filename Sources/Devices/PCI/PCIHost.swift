import DeviceBus
import MachineState

/// Intel 440FX host bridge (82441FX, datasheet 290549): configuration mechanism 1 at ports 0xCF8 and 0xCFC, and itself
/// as function 0:0.0 with its shadow RAM registers (PAM), which go to whoever has the memory.
package final class PCIHost: PCIFunction {
    /// Everything the guest can observe.
    package struct State {
        /// CONFADD: bit 31 enable, bus, slot, function, register.
        package var address: UInt32 = 0
        package var configuration = PCIHost.makeConfiguration()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("address", &address)
            visitor.group("configuration") { configuration.visit(&$0) }
        }
    }

    /// The reset control register at port 0xCF9, in the middle of ours, belongs to another chip.
    package struct ResetControl {
        package let read: () -> UInt8
        package let write: (UInt8) -> Void
        package init(read: @escaping () -> UInt8, write: @escaping (UInt8) -> Void) {
            self.read = read
            self.write = write
        }
    }

    private struct Slot {
        let address: PCIAddress
        /// Kept by the bus.
        unowned let function: any PCIFunction
        /// Its expansion ROM. Kept by the bus.
        unowned let rom: OptionROM?
    }
    /// A base address register at work.
    private struct Mapping: Equatable {
        let slot: Int
        /// Of the function; nil for its ROM.
        let region: Int?
        let space: Region.Space
        let base: UInt64
        let size: UInt64
        func overlaps(_ space: Region.Space, _ base: UInt64, _ size: UInt64) -> Bool {
            self.space == space && self.base < base &+ size && base < self.base &+ self.size
        }
    }

    package let name = "pci"
    package let regions: [Region] = [
        Region(.port, base: 0xCF8, size: 4, registers: [
            RegisterName(0, "CONFADD", length: 4, fields: "-:2 REGISTER:6 FUNCTION:3 DEVICE:5 BUS:8 -:7 ENABLE"),
        ]),
        Region(.port, base: 0xCFC, size: 4, registers: [RegisterName(0, "CONFDATA", length: 4)]),
    ]
    package private(set) var state = State()
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    /// Set by the board, before the machine starts.
    package var resetControl: ResetControl?
    /// Called when base addresses may have moved: for chips that move by other registers. Set by the board.
    package var mappingsChanged: (() -> Void)?
    /// Gets the PAM registers when they change, PAM0 in the low byte. Set by the board.
    package var shadowChanged: ((UInt64) -> Void)?
    /// The value of the PAM registers that makes all of shadow RAM readable and writable.
    package static let openShadow: UInt64 = 0x33_3333_3333_3330
    private static let shadowRegister = 0x59
    private let bus: Bus
    /// In the order of their addresses.
    private var slots: [Slot] = []
    /// What is mapped on the bus now. Follows from all functions' configuration alone.
    private var mappings: [Mapping] = []

    package init(bus: Bus) {
        self.bus = bus
        add(self, at: PCIAddress(slot: 0))
    }

    /// Plugs a function in, with its expansion ROM, if it has one. It must be attached to the `Bus` too.
    package func add(_ function: any PCIFunction, at address: PCIAddress, rom: OptionROM? = nil) {
        precondition(!slots.contains { $0.address == address }, "PCI address of \(function.name) is taken")
        if let rom {
            bus.attach(rom)
            function.configuration.setROM(size: rom.size)
        }
        slots.append(Slot(address: address, function: function, rom: rom))
        slots.sort { ($0.address.slot, $0.address.function) < ($1.address.slot, $1.address.function) }
    }

    /// All functions and where they are, for a person to look at.
    package var functions: [(address: PCIAddress, function: any PCIFunction)] {
        slots.map { ($0.address, $0.function) }
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        state = State()
        // The other functions may not have been reset yet: they lose their addresses all the same.
        for slot in slots { slot.function.configuration.reset() }
        updateMappings()
        shadowChanged?(shadow)
    }

    package func timerFired(_ timer: Int) {}
    package func configurationWritten(_ offset: Int, width: Int) {
        if offset < Self.shadowRegister + 7, offset + width > Self.shadowRegister { shadowChanged?(shadow) }
    }

    /// PAM0...PAM6.
    private var shadow: UInt64 {
        (0..<7).reduce(0) {
            $0 | UInt64(state.configuration.read(Self.shadowRegister + $1, width: 1)) << UInt64($1 * 8)
        }
    }

    /// Leaves shadow RAM as firmware does that has used it: for kernels that are entered without firmware.
    package func openShadowAsFirmwareDoes() {
        for index in 0..<7 {
            state.configuration.write(
                Self.shadowRegister + index, width: 1, UInt32(truncatingIfNeeded: Self.openShadow >> UInt64(index * 8)) & 0xFF)
        }
        shadowChanged?(shadow)
    }

    // MARK: Configuration mechanism 1

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if region == 0 {
            if offset == 1, width == 1, let resetControl { return UInt64(resetControl.read()) }
            // CONFADD answers 32-bit accesses only; the other ones go to the ISA bus, where nothing is.
            return offset == 0 && width == 4 ? UInt64(state.address) : Self.ones(width)
        }
        guard let slot = selected else { return Self.ones(width) }
        let register = Int(state.address & 0xFC) + Int(offset & 3)
        slots[slot].function.configurationWillBeRead(register, width: min(width, 4))
        return UInt64(slots[slot].function.configuration.read(register, width: min(width, 4)))
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if region == 0 {
            if offset == 1, width == 1 {
                resetControl?.write(UInt8(truncatingIfNeeded: value))
            } else if offset == 0, width == 4 {
                state.address = UInt32(truncatingIfNeeded: value) & 0x80FF_FFFC
            }
            return
        }
        guard let slot = selected else { return }
        let function = slots[slot].function
        let register = Int(state.address & 0xFC) + Int(offset & 3)
        function.configuration.write(register, width: min(width, 4), UInt32(truncatingIfNeeded: value))
        function.configurationWritten(register, width: min(width, 4))
        if register < 0x28 || register & ~3 == 0x30 { updateMappings() }
    }

    /// The function that CONFADD selects, as an index into `slots`.
    private var selected: Int? {
        // Bit 31 enables; only bus 0 exists.
        guard state.address >> 16 == 0x8000 else { return nil }
        let address = PCIAddress(slot: Int(state.address >> 11 & 31), function: Int(state.address >> 8 & 7))
        return slots.firstIndex { $0.address == address }
    }

    private static func ones(_ width: Int) -> UInt64 { width >= 8 ? .max : (1 << UInt64(width * 8)) - 1 }

    // MARK: Base addresses

    /// Maps all functions' regions as their configuration says. The board calls it after it has loaded a snapshot.
    ///
    /// Software can put two regions at one place. Then chips with a fixed address win, then the lower PCI address: the
    /// outcome depends on the present registers only, so that a loaded machine is mapped like the saved one.
    package func updateMappings() {
        defer { mappingsChanged?() }
        var wanted: [Mapping] = []
        for (index, slot) in slots.enumerated() {
            let configuration = slot.function.configuration
            func want(_ space: Region.Space, _ base: UInt64, _ size: UInt64, _ region: Int?) {
                if wanted.contains(where: { $0.overlaps(space, base, size) }) || isFixed(space, base, size) { return }
                wanted.append(Mapping(slot: index, region: region, space: space, base: base, size: size))
            }
            for (register, bar) in configuration.baseAddresses.enumerated() {
                guard let bar, let base = configuration.base(register) else { continue }
                want(bar.space, base, UInt64(bar.size), bar.region)
            }
            if slot.rom != nil, let base = configuration.romBase { want(.memory, base, UInt64(configuration.romSize), nil) }
        }
        if wanted == mappings { return }
        for mapping in mappings where !wanted.contains(mapping) {
            bus.unmap(device(mapping), mapping.region ?? 0)
        }
        for mapping in wanted where !mappings.contains(mapping) {
            bus.map(device(mapping), mapping.region ?? 0, Region(mapping.space, base: mapping.base, size: mapping.size))
        }
        mappings = wanted
    }

    private func device(_ mapping: Mapping) -> any Device {
        let slot = slots[mapping.slot]
        if mapping.region == nil, let rom = slot.rom { return rom }
        return slot.function
    }

    /// A region that is not a base address register's is in the way.
    private func isFixed(_ space: Region.Space, _ base: UInt64, _ size: UInt64) -> Bool {
        bus.devices.contains { device in
            let moving = slots.first { $0.function === device }?.function.configuration.baseAddresses ?? []
            return device.regions.enumerated().contains { index, region in
                region.space == space && region.base < base + size && base < region.base &+ region.size
                    && !moving.contains { $0?.region == index }
            }
        }
    }

    private static func makeConfiguration() -> PCIConfiguration {
        // The subsystem tells SeaBIOS that fw_cfg and its other acquaintances are here.
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x1237, revision: 2, classCode: 0x060000, subsystemVendor: 0x1AF4, subsystem: 0x1100)
        // PCICMD 0006: memory and bus master are always on.
        configuration.preset(0x04, width: 2, 0x0006)
        configuration.allowWrites(0x04, width: 2, mask: 0x0100)
        configuration.preset(0x06, width: 2, 0x0280)
        // PMCCFG, DETURBO, DBC, AXC, DRT and DRAM timing; then PAM0...PAM6, DRB0...DRB7, and FDHC.
        configuration.allowWrites(0x50, width: 4, mask: 0xFFFF_FFFF)
        configuration.allowWrites(0x54, width: 4, mask: 0xFFFF_FFFF)
        for offset in stride(from: 0x58, to: 0x6C, by: 4) {
            configuration.allowWrites(offset, width: 4, mask: 0xFFFF_FFFF)
        }
        // SMRAM control, of which bits 2...0 are fixed, and error registers.
        configuration.preset(0x72, width: 1, 0x02)
        configuration.allowWrites(0x72, width: 1, mask: 0x78)
        configuration.allowWrites(0x90, width: 4, mask: 0x0000_00FF)
        return configuration
    }
}
