import MachineState

/// The bus masters of a board: who has reached RAM last.
package final class BusMasters {
    fileprivate(set) var last: BusMasterPort?
    fileprivate var count: UInt64 = 0
    package init() {}
    /// The device that has written RAM last, and what for, such as "piix3-ide: READ DMA, primary drive 0, sector 20".
    /// Only right after the write: the device goes on.
    package var lastWriter: String? { last.map { $0.writer } }
    /// The device that reaches RAM, without where its data comes from. What for is only known while it writes.
    package func active(isWriting: Bool) -> BusMasterName? { last.map { $0.master(isWriting: isWriting) } }
    /// Which that is, without words: equal numbers have equal names. The device is in the top byte.
    package func activeKey(isWriting: Bool) -> UInt64? { last.map { $0.key(isWriting: isWriting) } }
}

/// A device's own way to RAM, which knows whose it is. Holds nothing that the guest can observe.
package final class BusMasterPort: DMAPort {
    private let memory: any DMAPort
    private let masters: BusMasters
    private let name: String
    private let number: UInt64
    private var origin: ImageOrigin?
    /// What the device is doing, in words; nil: nothing to say. Asked only for a debugger.
    package var request: () -> String? = { nil }
    /// A number of 55 bits for it: as long as it stays the same, so do the words.
    package var requestKey: () -> UInt64 = { 0 }

    /// - Parameters:
    ///   - name: the device's.
    ///   - memory: where the accesses go.
    package init(_ name: String, _ memory: any DMAPort, _ masters: BusMasters) {
        self.name = name
        self.memory = memory
        self.masters = masters
        number = masters.count
        masters.count += 1
    }

    package func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        note(nil)
        memory.read(address, into: buffer)
    }
    package func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        note(nil)
        memory.write(address, from: buffer)
    }
    package func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?) {
        note(origin)
        memory.write(address, from: buffer, origin: origin)
    }

    private func note(_ origin: ImageOrigin?) {
        self.origin = origin
        masters.last = self
    }

    fileprivate func master(isWriting: Bool) -> BusMasterName {
        BusMasterName(device: name, request: isWriting ? request() : nil)
    }
    fileprivate func key(isWriting: Bool) -> UInt64 {
        // What a read is for is not said: that is another name.
        number << 56 | (isWriting ? 1 << 55 | requestKey() & (1 << 55 - 1) : 0)
    }
    fileprivate var writer: String {
        let parts = [request(), origin?.text].compactMap { $0 }
        return BusMasterName(device: name, request: parts.isEmpty ? nil : parts.joined(separator: ", ")).text
    }
}
