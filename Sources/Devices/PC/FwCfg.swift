import DeviceBus
import MachineState

/// The firmware configuration device that SeaBIOS and Linux know from QEMU (`docs/specs/fw_cfg`): named items that the
/// board adds, read byte by byte through a port or in one piece by DMA.
package final class FwCfg: Device {
    /// Everything the guest can observe beside the items, which are part of the machine's description.
    package struct State {
        /// The key of the selected item.
        package var selector: UInt16 = 0
        /// The next byte of the selected item.
        package var position: UInt32 = 0
        /// The address of a DMA request, as far as it has been written.
        package var address: UInt64 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("selector", &selector)
            visitor.field("position", &position)
            visitor.field("address", &address)
        }
    }

    /// Keys of items that every version has.
    package enum Key {
        package static let signature: UInt16 = 0x0000
        package static let identity: UInt16 = 0x0001
        package static let uuid: UInt16 = 0x0002
        /// RAM size in bytes, 8 bytes little-endian.
        package static let ramSize: UInt16 = 0x0003
        package static let noGraphic: UInt16 = 0x0004
        /// Number of CPUs, 2 bytes little-endian.
        package static let cpuCount: UInt16 = 0x0005
        package static let bootMenu: UInt16 = 0x000E
        package static let maximumCPUs: UInt16 = 0x000F
        package static let directory: UInt16 = 0x0019
        package static let firstFile: UInt16 = 0x0020
    }

    private enum Control {
        static let error: UInt32 = 1
        static let read: UInt32 = 2
        static let skip: UInt32 = 4
        static let select: UInt32 = 8
        static let write: UInt32 = 16
    }

    private struct Item {
        let key: UInt16
        let data: [UInt8]
    }
    private struct File {
        let name: String
        let key: UInt16
        let size: Int
    }

    /// A DMA read beyond an item's end stores at most so many zeros: a guest cannot make us write 4 GiB.
    private static let zeroLimit = 1 << 16

    package let name = "fw_cfg"
    package let regions: [Region] = [
        Region(.port, base: 0x510, size: 2, registers: [RegisterName(0, "SELECTOR"), RegisterName(1, "DATA")]),
        Region(.port, base: 0x514, size: 8, registers: [RegisterName(0, "DMA", length: 8)]),
    ]
    package private(set) var state = State()
    private let memory: any DMAPort
    private var items: [Item] = []
    private var files: [File] = []
    /// The selected item's bytes: found again from `state.selector`.
    private var selected: [UInt8] { items.first { $0.key == state.selector }?.data ?? [] }

    /// What a write to RAM is for, in words.
    package var request: String? { "DMA of item 0x\(String(state.selector, radix: 16))" }
    package var requestKey: UInt64 { UInt64(state.selector) }

    package init(memory: any DMAPort) {
        self.memory = memory
        add(key: Key.signature, data: Array("QEMU".utf8))
        // Bit 0: the port interface, bit 1: DMA.
        add(key: Key.identity, data: [3, 0, 0, 0])
        add(key: Key.directory, data: [0, 0, 0, 0])
    }

    /// Adds an item, replacing one of the same key. For the board, before the machine starts.
    package func add(key: UInt16, data: [UInt8]) {
        items.removeAll { $0.key == key }
        items.append(Item(key: key, data: data))
    }

    /// Adds a named file: it gets the next free key and an entry in the directory.
    /// - Parameter name: at most 55 bytes, such as "etc/e820".
    package func add(file name: String, data: [UInt8]) {
        precondition(name.utf8.count < 56, "the name of a fw_cfg file has at most 55 bytes: \(name)")
        let known = files.firstIndex { $0.name == name }
        let key = known.map { files[$0].key } ?? Key.firstFile + UInt16(files.count)
        if let known { files.remove(at: known) }
        files.append(File(name: name, key: key, size: data.count))
        // Firmware may search the directory by bisection: it is in the order of the names.
        files.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        add(key: key, data: data)
        var directory = Self.bigEndian(UInt32(files.count))
        for file in files {
            directory += Self.bigEndian(UInt32(file.size))
            directory += [UInt8(file.key >> 8), UInt8(file.key & 0xFF), 0, 0]
            directory += Array(file.name.utf8) + [UInt8](repeating: 0, count: 56 - file.name.utf8.count)
        }
        add(key: Key.directory, data: directory)
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() { state = State() }
    package func timerFired(_ timer: Int) {}

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if region == 0 {
            return ByteLanes.read(offset, width) { $0 == 1 ? nextByte() : 0 }
        }
        // Reading the DMA register tells that there is one: "QEMU CFG", first byte at the lowest address.
        let signature = Array("QEMU CFG".utf8)
        return ByteLanes.read(offset, width) { signature[Int($0 & 7)] }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if region == 0 {
            // The selector is a 16-bit register; writes to the data port were given up long ago.
            if offset == 0 { select(UInt16(truncatingIfNeeded: width == 1 ? value & 0xFF : value)) }
            return
        }
        ByteLanes.write(offset, width, value) { offset, byte in
            let shift = (7 - offset & 7) * 8
            state.address = state.address & ~(0xFF << shift) | UInt64(byte) << shift
        }
        // Writing the low half, whose last byte is at offset 7, starts the request.
        if offset + UInt64(width) == 8 {
            let address = state.address
            state.address = 0
            runRequest(at: address)
        }
    }

    private func select(_ key: UInt16) {
        state.selector = key
        state.position = 0
    }

    private func nextByte() -> UInt8 {
        let data = selected
        guard Int(state.position) < data.count else { return 0 }
        defer { state.position += 1 }
        return data[Int(state.position)]
    }

    /// A request: control, length (4 bytes each) and address (8 bytes), big-endian, in guest memory.
    private func runRequest(at request: UInt64) {
        var fields = [UInt8](repeating: 0, count: 16)
        fields.withUnsafeMutableBytes { memory.read(request, into: $0) }
        let control = Self.word(fields, 0)
        let length = Int(Self.word(fields, 4))
        let address = UInt64(Self.word(fields, 8)) << 32 | UInt64(Self.word(fields, 12))

        if control & Control.select != 0 { select(UInt16(truncatingIfNeeded: control >> 16)) }
        var result: UInt32 = 0
        if control & Control.read != 0 {
            copyOut(to: address, length: length)
        } else if control & Control.write != 0 {
            result = Control.error
        } else if control & Control.skip != 0 {
            advance(length)
        }
        Self.bigEndian(result).withUnsafeBytes { memory.write(request, from: $0) }
    }

    private func copyOut(to address: UInt64, length: Int) {
        let data = selected
        let start = min(Int(state.position), data.count)
        let count = min(length, data.count - start)
        if count > 0 {
            data.withUnsafeBytes {
                memory.write(address, from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count]))
            }
        }
        let zeros = min(length - count, Self.zeroLimit)
        if zeros > 0 {
            [UInt8](repeating: 0, count: zeros).withUnsafeBytes { memory.write(address &+ UInt64(count), from: $0) }
        }
        advance(length)
    }

    private func advance(_ length: Int) {
        state.position = UInt32(min(Int(state.position) + length, Int(UInt32.max)))
    }

    private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }

    private static func bigEndian(_ value: UInt32) -> [UInt8] {
        [UInt8(value >> 24), UInt8(value >> 16 & 0xFF), UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)]
    }
}
