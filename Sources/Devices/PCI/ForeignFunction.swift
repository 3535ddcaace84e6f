import DeviceBus
import MachineState

/// A PCI device that is carried out elsewhere: in another process, by the vfio-user protocol, or on a thread of its own.
/// Only at the devices cut, where all that it does is in the log.
///
/// What belongs to the bus is here: base address registers, and the messages of MSI and MSI-X. The device gets what
/// software writes in configuration space all the same, and tells what is in there beside that.
package final class ForeignFunction: PCIFunction {
    /// What is on this side of the link.
    package struct State {
        package var configuration: PCIConfiguration
        /// The table of MSI-X; nil without one.
        package var table: MSIX?
        /// The interrupt pin, which an access to the device takes back.
        package var isPinActive = false

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            if table != nil { visitor.group("table") { table?.visit(&$0) } }
            visitor.field("isPinActive", &isPinActive)
        }
    }

    /// Number of configuration space among the regions.
    package static let configurationRegion = 7

    package let name: String
    package private(set) var state: State
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private let settings: ForeignDeviceSettings
    private let irq: IRQLine
    private let messages: any MessageSink
    /// Nil on a board that only says what answers where.
    private let link: (any ForeignDeviceLink)?
    /// Registers by base address register, from a description file.
    private let registers: [Int: [RegisterName]]
    /// Of the capabilities; 0 for none.
    private let msi: Int
    private let msix: Int
    /// Table and pending bits of MSI-X: base address register, and place in it.
    private let tablePlace: (bar: Int, range: Range<UInt64>)?
    private let pendingPlace: (bar: Int, range: Range<UInt64>)?
    /// How the device interrupts now.
    private var enabled: (kind: ForeignInterrupt, count: Int)?

    /// - Parameters:
    ///   - irq: the interrupt pin of its slot.
    ///   - messages: where the interrupts by messages go.
    ///   - memory: its way to RAM.
    package init(
        name: String, settings: ForeignDeviceSettings, irq: IRQLine, messages: any MessageSink, memory: any DMAPort,
        link: (any ForeignDeviceLink)?, registers: [Int: [RegisterName]] = [:]
    ) {
        self.name = name
        self.settings = settings
        self.irq = irq
        self.messages = messages
        self.link = link
        self.registers = registers
        let found = settings.messages
        msi = found.msi
        msix = found.msix
        tablePlace = found.table
        pendingPlace = found.pending
        state = State(
            configuration: Self.makeConfiguration(settings, msi: msi, msix: msix),
            table: found.vectors > 0 ? MSIX(count: found.vectors) : nil)
        link?.memory = memory
    }

    private static func makeConfiguration(_ settings: ForeignDeviceSettings, msi: Int, msix: Int) -> PCIConfiguration {
        let bytes = settings.configuration
        func word(_ offset: Int, _ width: Int) -> UInt32 {
            (0..<width).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32($1 * 8) }
        }
        var made = PCIConfiguration(
            vendor: UInt16(word(0, 2)), device: UInt16(word(2, 2)), revision: bytes[8], classCode: word(8, 4) >> 8,
            subsystemVendor: UInt16(word(0x2C, 2)), subsystem: UInt16(word(0x2E, 2)), interruptPin: min(bytes[0x3D], 4))
        made.preset(6, width: 2, word(6, 2))
        made.preset(0x34, width: 1, UInt32(bytes[0x34]))
        for offset in 0x40..<256 {
            made.preset(offset, width: 1, UInt32(bytes[offset]))
            // The device says itself what of it software can change.
            made.allowWrites(offset, width: 1, mask: 0xFF)
        }
        if msi != 0 {
            // Bit 7 of the control word: addresses of 64 bits; bit 8: bits that mask.
            let isWide = bytes[msi + 2] & 0x80 != 0
            made.allowWrites(msi, width: 4, mask: 0x0071_0000)
            made.allowWrites(msi + 4, width: 4, mask: 0xFFFF_FFFC)
            if isWide { made.allowWrites(msi + 8, width: 4, mask: 0xFFFF_FFFF) }
            made.allowWrites(msi + (isWide ? 12 : 8), width: 2, mask: 0xFFFF)
        }
        if msix != 0 {
            for offset in stride(from: msix, to: msix + 12, by: 4) { made.allowWrites(offset, width: 4, mask: 0) }
            made.allowWrites(msix + 2, width: 2, mask: 0xC000)
        }
        for bar in settings.baseAddresses {
            var size: UInt32 = bar.space == .port ? 4 : 16
            while UInt64(size) < bar.size { size <<= 1 }
            let isPrefetchable = bar.space == .memory && bytes[0x10 + bar.index * 4] & 8 != 0
            made.setBaseAddress(bar.index, bar.space, size: size, region: bar.index, isPrefetchable: isPrefetchable)
        }
        return made
    }

    package var regions: [Region] {
        (0..<6).map { state.configuration.region($0, registers: registers[$0] ?? []) }
    }

    // MARK: Accesses

    private func place(_ region: Int, _ offset: UInt64, _ width: Int) -> Int? {
        guard let tablePlace, let pendingPlace else { return nil }
        let end = offset + UInt64(width)
        if region == tablePlace.bar, tablePlace.range.contains(offset), end <= tablePlace.range.upperBound {
            return Int(offset - tablePlace.range.lowerBound)
        }
        if region == pendingPlace.bar, pendingPlace.range.contains(offset), end <= pendingPlace.range.upperBound {
            return Int(MSIX.pendingOffset + offset - pendingPlace.range.lowerBound)
        }
        return nil
    }

    private func size(_ region: Int) -> UInt64 { settings.baseAddresses.first { $0.index == region }?.size ?? 0 }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        let ones: UInt64 = width >= 8 ? .max : (1 << UInt64(width * 8)) - 1
        guard let link, !link.isGone, offset + UInt64(width) <= size(region) else { return ones }
        if let place = place(region, offset, width), let table = state.table {
            return ByteLanes.read(UInt64(place), width) { table.read($0) }
        }
        let value = link.read(region: region, offset: offset, width: width)
        acknowledgePin()
        return (value ?? ones) & ones
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        guard let link, !link.isGone, offset + UInt64(width) <= size(region) else { return }
        if let place = place(region, offset, width) {
            ByteLanes.write(UInt64(place), width, value) { state.table?.write($0, $1) }
            deliverPending()
            return
        }
        link.write(region: region, offset: offset, width: width, value: value)
        acknowledgePin()
    }

    /// A pin that the device has pulled stays so until software looks at the device: only the device knows when it lets go,
    /// and it says so by pulling again, or not.
    private func acknowledgePin() {
        guard state.isPinActive else { return }
        state.isPinActive = false
        irq.set(false)
        link?.unmaskPin()
    }

    // MARK: Configuration space

    package func configurationWillBeRead(_ offset: Int, width: Int) {
        guard let link else { return }
        if link.isGone { return vanish() }
        // Status, and what only the device knows of.
        for index in offset..<min(offset + width, 256) where index == 6 || index == 7 || (index >= 0x40 && !isOurs(index)) {
            guard let byte = link.read(region: Self.configurationRegion, offset: UInt64(index), width: 1) else { break }
            state.configuration.set(index, width: 1, UInt32(truncatingIfNeeded: byte & 0xFF))
        }
        if link.isGone { vanish() }
    }

    private func isOurs(_ index: Int) -> Bool {
        msi != 0 && (msi..<msi + 24).contains(index) || msix != 0 && (msix..<msix + 12).contains(index)
    }

    package func configurationWritten(_ offset: Int, width: Int) {
        guard let link else { return }
        if link.isGone { return vanish() }
        // Writing ones clears bits of the status, and its present value would be such ones.
        if offset + width <= 6 || offset >= 8 {
            link.write(
                region: Self.configurationRegion, offset: UInt64(offset), width: width,
                value: UInt64(state.configuration.read(offset, width: width)))
        } else if offset == 4 {
            link.write(
                region: Self.configurationRegion, offset: 4, width: 2, value: UInt64(state.configuration.read(4, width: 2)))
        }
        updateInterrupts()
        deliverPending()
    }

    /// What is not there reads as ones.
    private func vanish() {
        state.configuration.vanish()
        state.isPinActive = false
        irq.set(false)
    }

    // MARK: Interrupts

    /// The control word of MSI-X.
    private var messageControl: UInt16 {
        msix == 0 ? 0 : UInt16(truncatingIfNeeded: state.configuration.read(msix + 2, width: 2))
    }

    private func deliverPending() {
        let control = messageControl
        state.table?.deliverPending(control: control, to: messages)
    }

    /// The device interrupts as software wants it.
    private func updateInterrupts() {
        guard let link else { return }
        var wanted: (kind: ForeignInterrupt, count: Int)?
        if messageControl & 0x8000 != 0, let table = state.table {
            wanted = (.msix, table.count)
        } else if msi != 0, state.configuration.read(msi + 2, width: 1) & 1 != 0 {
            // Bits 4 to 6: the logarithm of the number of messages.
            wanted = (.msi, 1 << min(Int(state.configuration.read(msi + 2, width: 1) >> 4 & 7), 5))
        } else if state.configuration.read(0x3D, width: 1) != 0, state.configuration.allowsInterruptPin {
            wanted = (.pin, 1)
        }
        if wanted?.kind == enabled?.kind, wanted?.count == enabled?.count { return }
        if let enabled { link.enable(enabled.kind, count: 0) }
        if enabled?.kind == .pin, state.isPinActive {
            state.isPinActive = false
            irq.set(false)
        }
        enabled = wanted
        if let wanted { link.enable(wanted.kind, count: wanted.count) }
    }

    /// Lets the device do what it wants by itself. Between two instructions.
    package func poll() {
        guard let link else { return }
        let wasGone = link.isGone
        link.poll { interrupted($0, $1) }
        if link.isGone, !wasGone { vanish() }
    }

    private func interrupted(_ kind: ForeignInterrupt, _ vector: Int) {
        guard kind == enabled?.kind else { return }
        switch kind {
        case .pin:
            state.isPinActive = true
            irq.set(true)
        case .msi:
            let isWide = state.configuration.read(msi + 2, width: 1) & 0x80 != 0
            let high = isWide ? UInt64(state.configuration.read(msi + 8, width: 4)) << 32 : 0
            let data = state.configuration.read(msi + (isWide ? 12 : 8), width: 2)
            messages.deliver(
                address: high | UInt64(state.configuration.read(msi + 4, width: 4)), data: data | UInt32(truncatingIfNeeded: vector))
        case .msix:
            let control = messageControl
            state.table?.send(UInt16(truncatingIfNeeded: vector), control: control, to: messages)
        }
    }

    // MARK: Device

    package func timerFired(_ timer: Int) {}

    package func reset() {
        state.configuration.reset()
        if let table = state.table { state.table = MSIX(count: table.count) }
        state.isPinActive = false
        irq.set(false)
        if let link, link.isGone { return vanish() }
        if let enabled { link?.enable(enabled.kind, count: 0) }
        enabled = nil
        link?.reset()
        updateInterrupts()
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
}
