import MachineState

/// Port and memory-mapped regions → devices. Looked up on slow paths only; RAM never passes here.
package final class Bus {
    /// Who answers at an address.
    package struct Target {
        package let device: any Device
        package let region: Int
        package let offset: UInt64
        /// Bytes from there to the region's end: one at least.
        fileprivate let rest: UInt64
    }
    private struct Range {
        let start: UInt64
        let end: UInt64
        let device: any Device
        let region: Int
    }

    package private(set) var devices: [any Device] = []
    private var ports: [Range] = []
    private var memory: [Range] = []

    package init() {}

    /// Adds a device with all its regions. Overlaps are a wiring mistake.
    package func attach(_ device: any Device) {
        precondition(!devices.contains { $0.name == device.name }, "two devices are called \(device.name)")
        devices.append(device)
        for (index, region) in device.regions.enumerated() { map(device, index, region) }
    }

    /// Maps region number `index` of `device` where `region` says; a size of 0 maps nothing.
    package func map(_ device: any Device, _ index: Int, _ region: Region) {
        if region.size == 0 { return }
        let range = Range(start: region.base, end: region.base + region.size, device: device, region: index)
        switch region.space {
        case .port: insert(range, into: &ports)
        case .memory: insert(range, into: &memory)
        }
    }

    /// Removes the mapping of a region (a PCI BAR that moves).
    package func unmap(_ device: any Device, _ index: Int) {
        ports.removeAll { $0.device === device && $0.region == index }
        memory.removeAll { $0.device === device && $0.region == index }
    }

    package func target(_ space: Region.Space, _ address: UInt64) -> Target? {
        let ranges = space == .port ? ports : memory
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].end <= address { low = middle + 1 } else { high = middle }
        }
        guard low < ranges.count, ranges[low].start <= address else { return nil }
        return Target(device: ranges[low].device, region: ranges[low].region, offset: address - ranges[low].start,
            rest: ranges[low].end - address)
    }

    /// Reads `width` bytes; nothing there reads as all ones. An access that crosses the end of a region is split.
    package func read(_ space: Region.Space, _ address: UInt64, width: Int) -> UInt64 {
        guard let target = target(space, address) else {
            if width > 1, crosses(space, address, width) { return split(space, address, width) }
            return width == 8 ? .max : (1 << UInt64(width * 8)) - 1
        }
        if UInt64(width) > target.rest { return split(space, address, width) }
        return target.device.read(region: target.region, offset: target.offset, width: width)
    }

    /// Reads elements of `width` bytes from one port until `buffer` is full. Returns which part of a disk image the bytes
    /// are, if they are one.
    package func readBlock(_ port: UInt64, width: Int, into buffer: UnsafeMutableRawBufferPointer) -> ImageOrigin? {
        if let target = target(.port, port), let device = target.device as? any BlockDevicePort {
            return device.readBlock(region: target.region, offset: target.offset, width: width, into: buffer)
        }
        BlockPort.fill(buffer, width: width) { read(.port, port, width: width) }
        return nil
    }

    /// Writes `width` bytes; nothing there swallows them.
    package func write(_ space: Region.Space, _ address: UInt64, width: Int, value: UInt64) {
        guard let target = target(space, address) else {
            if width > 1, crosses(space, address, width) {
                for index in 0..<width {
                    write(space, address + UInt64(index), width: 1, value: (value >> UInt64(index * 8)) & 0xFF)
                }
            }
            return
        }
        if UInt64(width) > target.rest {
            for index in 0..<width {
                write(space, address + UInt64(index), width: 1, value: (value >> UInt64(index * 8)) & 0xFF)
            }
            return
        }
        target.device.write(region: target.region, offset: target.offset, width: width, value: value)
    }

    private func crosses(_ space: Region.Space, _ address: UInt64, _ width: Int) -> Bool {
        target(space, address + UInt64(width) - 1) != nil
    }

    private func split(_ space: Region.Space, _ address: UInt64, _ width: Int) -> UInt64 {
        (0..<width).reduce(0) { $0 | read(space, address + UInt64($1), width: 1) << UInt64($1 * 8) }
    }

    private func insert(_ range: Range, into ranges: inout [Range]) {
        let place = ranges.firstIndex { $0.start >= range.end } ?? ranges.count
        precondition(
            place == 0 || ranges[place - 1].end <= range.start,
            "\(range.device.name) overlaps \(ranges[max(place - 1, 0)].device.name) at \(String(range.start, radix: 16))")
        ranges.insert(range, at: place)
    }
}
