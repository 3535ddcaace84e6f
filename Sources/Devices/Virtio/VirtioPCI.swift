import DeviceBus
import MachineState

/// A virtio device on the PCI bus (Virtual I/O Device 1.1, 4.1): both the legacy interface of ports and the modern one
/// with capabilities, so that old and new drivers find what they know.
package final class VirtioPCI: PCIFunction, VirtioTransport {
    /// Everything the guest can observe, beside the device behind the transport.
    package struct State {
        package var configuration: PCIConfiguration
        /// 1 acknowledge, 2 driver, 4 driver ready, 8 features agreed, 0x40 needs a reset, 0x80 failed.
        package var status: UInt8 = 0
        /// Bit 0 a queue, bit 1 the configuration.
        package var interruptStatus: UInt8 = 0
        package var deviceFeatureSelect: UInt32 = 0
        package var driverFeatureSelect: UInt32 = 0
        package var driverFeatures: UInt64 = 0
        package var queueSelect: UInt16 = 0
        package var configurationVector = MSIX.noVector
        package var configurationGeneration: UInt8 = 0
        package var queues: [VirtioQueue]
        package var messages: MSIX

        package init(_ configuration: PCIConfiguration, _ sizes: [UInt16]) {
            self.configuration = configuration
            queues = sizes.map { VirtioQueue(size: $0) }
            messages = MSIX(count: sizes.count + 1)
        }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.field("status", &status)
            visitor.field("interruptStatus", &interruptStatus)
            visitor.field("deviceFeatureSelect", &deviceFeatureSelect)
            visitor.field("driverFeatureSelect", &driverFeatureSelect)
            visitor.field("driverFeatures", &driverFeatures)
            visitor.field("queueSelect", &queueSelect)
            visitor.field("configurationVector", &configurationVector)
            visitor.field("configurationGeneration", &configurationGeneration)
            let count = queues.count
            visitor.list("queues", &queues, make: { VirtioQueue(size: 1) }) { $0.visit(&$1) }
            visitor.group("messages") { messages.visit(&$0) }
            if visitor.mode == .load, queues.count != count {
                visitor.fail("another number of queues")
                queues = (0..<count).map { _ in VirtioQueue(size: 1) }
            }
        }
    }

    /// Bits of the device status.
    enum Status {
        static let ready: UInt8 = 4
        static let agreed: UInt8 = 8
        static let needsReset: UInt8 = 0x40
    }
    /// Features of the transport.
    enum Feature {
        static let anyLayout: UInt64 = 1 << 27
        static let indirect: UInt64 = 1 << 28
        static let version1: UInt64 = 1 << 32
    }
    enum Place: Int { case ports, messages, memory }
    /// Where the parts of the modern interface are in base address register 4, each 4 KiB apart: common, interrupt
    /// status, device configuration, notifications.
    enum Part: UInt64 { case common, interrupt, device, notify }
    static let partSize: UInt64 = 0x1000
    static let messageCapability = 0x40
    /// The capability by which configuration space reaches the base address registers.
    static let windowCapability = 0x94
    private static let portCount: UInt64 = 128

    package let name: String
    package let function: any VirtioFunction
    package internal(set) var state: State
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private let irq: IRQLine
    private let sink: any MessageSink
    let memory: any DMAPort
    private let scheduler: Scheduler

    /// - Parameters:
    ///   - name: such as "virtio0".
    ///   - irq: the pin INTA of its slot.
    ///   - messages: where MSI-X interrupts go.
    ///   - isModern: has the interface of version 1.0 beside the legacy one.
    package init(
        name: String, function: any VirtioFunction, irq: IRQLine, messages: any MessageSink, memory: any DMAPort,
        scheduler: Scheduler, isModern: Bool = true
    ) {
        self.name = name
        self.function = function
        self.irq = irq
        sink = messages
        self.memory = memory
        self.scheduler = scheduler
        state = State(Self.makeConfiguration(function, isModern), function.queueSizes)
    }

    /// Bits of the device's status (virtio 1.1, 2.1).
    private static let statusFields = "ACKNOWLEDGE DRIVER DRIVER-OK FEATURES-OK -:2 NEEDS-RESET FAILED"
    private static let portRegisters = [
        RegisterName(0, "DEVICE-FEATURES", length: 4), RegisterName(4, "DRIVER-FEATURES", length: 4),
        RegisterName(8, "QUEUE-PAGE", length: 4, contents: .address), RegisterName(12, "QUEUE-SIZE", length: 2),
        RegisterName(14, "QUEUE-SELECT", length: 2), RegisterName(16, "NOTIFY", length: 2),
        RegisterName(18, "STATUS", fields: statusFields), RegisterName(19, "ISR", fields: "QUEUE CONFIG"),
        RegisterName(20, "CONFIG", length: 108),
    ]
    private static let messageRegisters = [
        RegisterName(0, "MSIX-TABLE", length: MSIX.pendingOffset),
        RegisterName(MSIX.pendingOffset, "MSIX-PENDING", length: 8),
    ]
    private static let memoryRegisters =
        commonFields.map {
            RegisterName(
                $0.offset, $0.name, length: UInt64($0.width), fields: $0.name == "STATUS" ? statusFields : "",
                contents: $0.width == 8 ? .address : .value)
        } + [
            RegisterName(0x1000, "ISR", fields: "QUEUE CONFIG"), RegisterName(0x2000, "CONFIG", length: 64),
            RegisterName(0x3000, "NOTIFY", length: 256),
        ]
    package var regions: [Region] {
        [
            configuration.region(0, registers: Self.portRegisters),
            configuration.region(1, registers: Self.messageRegisters),
            configuration.region(4, registers: Self.memoryRegisters),
        ]
    }

    private static func makeConfiguration(_ function: any VirtioFunction, _ isModern: Bool) -> PCIConfiguration {
        let kind = function.kind
        // The subsystem of the legacy interface is the virtio device's ID.
        var configuration = PCIConfiguration(
            vendor: 0x1AF4, device: kind.legacyDevice, classCode: kind.classCode, subsystemVendor: 0x1AF4,
            subsystem: kind.identifier, interruptPin: 1)
        configuration.setBaseAddress(0, .port, size: UInt32(portCount), region: Place.ports.rawValue)
        configuration.setBaseAddress(1, .memory, size: 0x1000, region: Place.messages.rawValue)
        if isModern {
            configuration.setBaseAddress(4, .memory, size: 0x4000, region: Place.memory.rawValue, isPrefetchable: true)
            // Length, type, register, padding, offset and length (4.1.4).
            func capability(_ kind: UInt8, at offset: Int, _ part: Part, _ length: UInt32, _ more: [UInt8] = []) {
                let start = UInt32(part.rawValue * partSize)
                let words = [start, length].flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) } }
                configuration.addCapability(
                    0x09, at: offset, [UInt8(16 + more.count), kind, 4, 0, 0, 0] + words + more)
            }
            configuration.addCapability(0x09, at: windowCapability, [20, 5, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 12))
            configuration.allowWrites(windowCapability + 4, width: 1, mask: 0xFF)
            for offset in [8, 12, 16] { configuration.allowWrites(windowCapability + offset, width: 4, mask: 0xFFFF_FFFF) }
            // Queue n is notified at n * 4.
            capability(2, at: 0x80, .notify, UInt32(partSize), [4, 0, 0, 0])
            capability(4, at: 0x70, .device, UInt32(partSize))
            capability(3, at: 0x60, .interrupt, UInt32(partSize))
            capability(1, at: 0x50, .common, UInt32(partSize))
        }
        MSIX.addCapability(
            to: &configuration, at: messageCapability, vectors: function.queueSizes.count + 1, bar: 1)
        return configuration
    }

    // MARK: Device

    package func visitState(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        visitor.group("function") { function.visitState(&$0) }
    }

    package func reset() {
        resetDevice()
        state.configuration.reset()
        state.messages = MSIX(count: state.messages.count)
        irq.set(false)
    }

    /// The driver writes 0 to the status: all but PCI's own registers.
    func resetDevice() {
        for timer in 0..<8 { scheduler.cancel(self, timer: timer) }
        let old = state
        state = State(old.configuration, function.queueSizes)
        state.messages = old.messages
        function.reset()
        updatePin()
    }

    package func timerFired(_ timer: Int) {
        if isRunning { function.timerFired(timer) }
    }

    package func configurationWritten(_ offset: Int, width: Int) {
        updatePin()
        state.messages.deliverPending(control: messageControl, to: sink)
        if offset < Self.windowCapability + 20, offset + width > Self.windowCapability + 16 { accessWindow(writes: true) }
    }

    package func configurationWillBeRead(_ offset: Int, width: Int) {
        if offset < Self.windowCapability + 20, offset + width > Self.windowCapability + 16 { accessWindow(writes: false) }
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        switch Place(rawValue: region) {
        case .ports: return ByteLanes.read(offset, width) { readPort($0) }
        case .messages: return ByteLanes.read(offset, width) { state.messages.read($0) }
        case .memory: return readMemory(offset, width)
        case nil: return 0
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        switch Place(rawValue: region) {
        case .ports: writePort(offset, width, value)
        case .messages:
            ByteLanes.write(offset, width, value) { state.messages.write($0, $1) }
            state.messages.deliverPending(control: messageControl, to: sink)
        case .memory: writeMemory(offset, width, value)
        case nil: break
        }
    }

    // MARK: Interrupts

    private var messageControl: UInt16 {
        UInt16(truncatingIfNeeded: configuration.read(Self.messageCapability + 2, width: 2))
    }
    /// MSI-X is switched on: the pin is still, and the legacy interface has two more registers.
    var usesMessages: Bool { messageControl & 0x8000 != 0 }

    private func updatePin() {
        irq.set(state.interruptStatus != 0 && !usesMessages && configuration.allowsInterruptPin)
    }

    /// - Parameter bit: of the interrupt status.
    private func interrupt(_ bit: UInt8, vector: UInt16) {
        if usesMessages { return state.messages.send(vector, control: messageControl, to: sink) }
        state.interruptStatus |= bit
        updatePin()
    }

    /// Reading the interrupt status takes the interrupt back.
    func takeInterruptStatus() -> UInt8 {
        defer {
            state.interruptStatus = 0
            updatePin()
        }
        return state.interruptStatus
    }

    // MARK: The device behind

    /// The driver is at work, and nothing is wrong.
    private var isRunning: Bool {
        state.status & (Status.ready | Status.needsReset) == Status.ready && configuration.isBusMaster
    }

    func notify(queue: Int) {
        if isRunning, state.queues.indices.contains(queue), state.queues[queue].isEnabled { function.notified(queue: queue) }
    }

    package var agreedFeatures: UInt64 { state.driverFeatures & offeredFeatures }
    /// All features of transport and device.
    var offeredFeatures: UInt64 { function.features | Feature.indirect | Feature.anyLayout | Feature.version1 }

    package func next(queue: Int) -> VirtioChain? {
        guard isRunning, state.queues.indices.contains(queue) else { return nil }
        switch state.queues[queue].next(memory) {
        case .nothing: return nil
        case .chain(let chain): return chain
        case .broken:
            fail()
            return nil
        }
    }

    /// The request whose buffers are written, by its first descriptor.
    private var head: UInt16 = 0
    /// What RAM is written for, in words.
    package var request: String { function.request + ", descriptor " + String(head) }
    /// A number for it.
    package var requestKey: UInt64 { function.requestKey &<< 16 | UInt64(head) }

    package func push(queue: Int, _ chain: VirtioChain, written: Int) {
        guard isRunning, state.queues.indices.contains(queue) else { return }
        head = chain.head
        state.queues[queue].push(chain, written: written, memory)
        if state.queues[queue].wantsInterrupt(memory) { interrupt(1, vector: state.queues[queue].vector) }
    }

    package func read(_ chain: VirtioChain, from offset: Int, count: Int) -> [UInt8] {
        chain.readable.read(from: offset, count: count, memory)
    }

    package func write(_ chain: VirtioChain, _ bytes: [UInt8], at offset: Int, origin: (Int, Int) -> ImageOrigin?) {
        head = chain.head
        chain.writable.write(bytes, at: offset, memory, origin: origin)
    }

    package func fail() {
        state.status |= Status.needsReset
        if agreedFeatures & Feature.version1 != 0 { interrupt(2, vector: state.configurationVector) }
    }

    package func configurationChanged() {
        state.configurationGeneration &+= 1
        if isRunning { interrupt(3, vector: state.configurationVector) }
    }

    package func schedule(timer: Int, after nanoseconds: VirtualTime) {
        scheduler.schedule(self, timer: timer & 7, at: scheduler.now &+ nanoseconds)
    }
}
