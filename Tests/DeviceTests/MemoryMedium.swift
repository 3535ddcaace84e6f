import Devices
import MachineState

/// A disk in memory, with failures on demand.
final class MemoryMedium: BlockMedium {
    var bytes: [UInt8]
    let isReadOnly: Bool
    /// Sectors that the host cannot read or write.
    var bad: Set<UInt64> = []
    var onFailure: () -> Void = {}
    var flushes = 0

    init(sectors: Int, isReadOnly: Bool = false) {
        bytes = (0..<sectors * 512).map { UInt8(truncatingIfNeeded: $0 / 512 &* 7 &+ $0) }
        self.isReadOnly = isReadOnly
    }

    var sectorCount: UInt64 { UInt64(bytes.count / 512) }
    func read(sector: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        for index in buffer.indices { buffer[index] = bytes[Int(sector) * 512 + index] }
        check(sector, buffer.count)
    }
    func prepare(sector: UInt64, from buffer: UnsafeRawBufferPointer) { check(sector, buffer.count) }
    func write(sector: UInt64, from buffer: UnsafeRawBufferPointer) {
        bytes.replaceSubrange(Int(sector) * 512..<Int(sector) * 512 + buffer.count, with: buffer)
    }
    func flush() { flushes += 1 }
    func origin(sector: UInt64, count: Int) -> ImageOrigin? { ImageOrigin(image: 0, offset: sector * 512) }

    private func check(_ sector: UInt64, _ count: Int) {
        if bad.contains(where: { $0 >= sector && $0 < sector + UInt64(count / 512) }) { onFailure() }
    }
}
