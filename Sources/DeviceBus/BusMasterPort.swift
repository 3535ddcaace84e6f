import MachineState

/// The bus masters of a board: who has reached RAM last.
package final class BusMasters {
    fileprivate(set) var last: BusMasterPort?
    package init() {}
    /// The device that has written RAM last, and what for, such as "piix3-ide: READ DMA, primary drive 0, sector 20".
    /// Only right after the write: the device goes on.
    package var lastWriter: String? { last.map { $0.writer } }
    /// The device that reaches RAM, without where its data comes from. What for is only known while it writes.
    package func active(isWriting: Bool) -> BusMasterName? { last.map { $0.master(isWriting: isWriting) } }
}

/// A device's own way to RAM, which knows whose it is. Holds nothing that the guest can observe.
package final class BusMasterPort: DMAPort {
    private let memory: any DMAPort
    private let masters: BusMasters
    private let name: String
    private var origin: ImageOrigin?
    /// What the device is doing, in words; nil: nothing to say. Asked only for a debugger.
    package var request: () -> String? = { nil }

    /// - Parameters:
    ///   - name: the device's.
    ///   - memory: where the accesses go.
    package init(_ name: String, _ memory: any DMAPort, _ masters: BusMasters) {
        self.name = name
        self.memory = memory
        self.masters = masters
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
    fileprivate var writer: String {
        let parts = [request(), origin?.text].compactMap { $0 }
        return BusMasterName(device: name, request: parts.isEmpty ? nil : parts.joined(separator: ", ")).text
    }
}
