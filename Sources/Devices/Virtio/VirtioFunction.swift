import MachineState

/// What kind of device stands behind a virtio transport.
package struct VirtioKind: Sendable {
    /// The device ID (Virtual I/O Device 1.1, chapter 5): 1 network, 2 block, 3 console, 4 entropy.
    package var identifier: UInt16
    /// Of the legacy interface: the PCI device ID.
    package var legacyDevice: UInt16
    /// PCI class, subclass and programming interface.
    package var classCode: UInt32
    package init(identifier: UInt16, legacyDevice: UInt16, classCode: UInt32) {
        self.identifier = identifier
        self.legacyDevice = legacyDevice
        self.classCode = classCode
    }
}

/// A virtio device behind its transport: what it does with the buffers in its queues. No member has a default.
package protocol VirtioFunction: AnyObject {
    var kind: VirtioKind { get }
    /// The feature bits of the device itself (0...23); the transport adds its own.
    var features: UInt64 { get }
    /// Entries of each queue, powers of two.
    var queueSizes: [UInt16] { get }
    /// The device's configuration as it reads, little-endian, at most 64 bytes.
    var configurationBytes: [UInt8] { get }
    /// The driver writes a byte of the configuration.
    func writeConfiguration(_ offset: Int, _ value: UInt8)
    /// The driver has said that queue number `queue` has something. Only while the driver is ready.
    func notified(queue: Int)
    /// What the present request is, in words.
    var request: String { get }
    /// A number for it: as long as it stays the same, so do the words.
    var requestKey: UInt64 { get }
    /// A deadline set with `VirtioTransport.schedule` has come.
    func timerFired(_ timer: Int)
    /// The state after power-on. The transport has cancelled the timers.
    func reset()
    /// All that the guest can observe, beside the transport.
    func visitState(_ visitor: inout StateVisitor)
}

extension VirtioFunction {
    /// Always the same words.
    package var requestKey: UInt64 { 0 }
}

/// What a virtio device sees of its transport.
package protocol VirtioTransport: AnyObject {
    /// The features that driver and device have agreed upon.
    var agreedFeatures: UInt64 { get }
    /// The next chain of a queue; nil when there is none, or when the rings are broken (the driver is told so).
    func next(queue: Int) -> VirtioChain?
    /// Gives a chain back, and interrupts if the driver wants that.
    func push(queue: Int, _ chain: VirtioChain, written: Int)
    /// Bytes of a chain that the device reads.
    func read(_ chain: VirtioChain, from offset: Int, count: Int) -> [UInt8]
    /// Writes to a chain, as far as it goes.
    func write(_ chain: VirtioChain, _ bytes: [UInt8], at offset: Int, origin: (Int, Int) -> ImageOrigin?)
    /// The driver has done what it must not do: the device stops until it is reset.
    func fail()
    /// The device's configuration has changed.
    func configurationChanged()
    /// Calls `timerFired` after so many nanoseconds of virtual time. There are timers 0...7.
    func schedule(timer: Int, after nanoseconds: VirtualTime)
}
