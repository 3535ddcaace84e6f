import Boundary
import MachineState

/// The machine's state at the beginning of a recording that was cut out of another one: sections of its state and all pages,
/// as one run of bytes.
package struct MachineSnapshot {
    package var sections: [[UInt8]]
    /// Digest of what had been sent at the inputs cut.
    package var output: UInt64
    /// Whole pages of 4096 bytes, from the first one on.
    package var pages: ArraySlice<UInt8>
    private static let magic: UInt32 = 0x5041_4E53  // "SNAP"
    private static let pageSize = 4096

    /// What the machine is at this moment: at a place, between two runs.
    package init(of machine: any LiveMachine, door: ReplayBoundary) {
        sections = machine.saveState()
        output = door.sentSoFar.value
        var bytes: [UInt8] = []
        let count = machine.pageCount
        bytes.reserveCapacity(count * Self.pageSize)
        for number in 0..<count {
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: machine.page(number), count: Self.pageSize))
        }
        pages = bytes[...]
    }

    /// From a file's bytes. Nil: they are none.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count >= 16, LogLayout.get32(bytes, 0) == Self.magic else { return nil }
        let count = Int(LogLayout.get32(bytes, 4))
        output = LogLayout.get64(bytes, 8)
        sections = []
        var offset = 16
        guard count <= 16 else { return nil }
        for _ in 0..<count {
            guard offset + 4 <= bytes.count else { return nil }
            let length = Int(LogLayout.get32(bytes, offset))
            offset += 4
            guard length <= bytes.count - offset else { return nil }
            sections.append(Array(bytes[offset..<offset + length]))
            offset += length
        }
        // The pages begin at a page's bound, so that zeros are left out when it is packed.
        offset = (offset + Self.pageSize - 1) / Self.pageSize * Self.pageSize
        guard offset <= bytes.count, (bytes.count - offset) % Self.pageSize == 0 else { return nil }
        pages = bytes[offset...]
    }

    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        LogLayout.put32(Self.magic, &bytes)
        LogLayout.put32(UInt32(sections.count), &bytes)
        LogLayout.put64(output, &bytes)
        for section in sections {
            LogLayout.put32(UInt32(section.count), &bytes)
            bytes += section
        }
        bytes += [UInt8](repeating: 0, count: (Self.pageSize - bytes.count % Self.pageSize) % Self.pageSize)
        return bytes + pages
    }

    /// Puts a machine that has just been built there. False: it does not fit, and must not be used.
    package func restore(_ machine: any LiveMachine, _ door: ReplayBoundary) -> Bool {
        guard pages.count / Self.pageSize >= machine.pageCount else { return false }
        pages.withUnsafeBytes { bytes in
            for number in 0..<bytes.count / Self.pageSize {
                if let base = bytes.baseAddress { machine.replacePage(number, from: base + number * Self.pageSize) }
            }
        }
        door.begin(sent: output)
        return machine.loadState(sections)
    }
}

extension ReplayBoundary {
    /// Writes events from number `first` on, up to the present one, to another recording; data that is only named is written
    /// out, so that no image is needed for it.
    /// - Parameter end: the machine's digests, if the recording does not end by itself here.
    package func write(from first: UInt64, to writer: LogWriter, endingAt now: Moment, _ end: [PartDigest]?) throws {
        var failure: LogError?
        try reader.forEachEvent(from: first) { number, event in
            if number >= eventNumber { return false }
            var event = event
            if event.kind == .dmaImage || event.kind == .portImage {
                let isDMA = event.kind == .dmaImage
                let origin = isDMA
                    ? ImageOrigin(image: UInt8(truncatingIfNeeded: event.pc), offset: event.value)
                    : ImageOrigin(image: UInt8(truncatingIfNeeded: event.value >> 56), offset: event.value & (1 << 56 - 1))
                var bytes = [UInt8](repeating: 0, count: isDMA ? Int(min(event.width, 1 << 24)) : event.blockLength)
                guard bytes.withUnsafeMutableBytes({ readImage(origin, $0) }) else {
                    failure = LogError("disk image \(origin.image) cannot be read at \(origin.offset)")
                    return false
                }
                event.kind = isDMA ? .dmaWrite : .portBlock
                event.bytes = bytes
                event.value = 0
                if isDMA {
                    event.width = 0
                    event.pc = 0
                }
            }
            writer.append(event)
            return writer.failure == nil
        }
        if let failure { throw failure }
        if let end {
            var event = LogEvent(.end, position: now.position)
            event.skipped = now.time &- now.position << UInt64(reader.header.clockShift)
            event.value = UInt64(EndReason.positionReached.rawValue)
            let isInputs = reader.header.boundary == .inputs
            event.bytes = DigestRecord.bytes(isInputs ? end + [PartDigest(part: "output", digest: sentSoFar.value)] : end)
            writer.append(event)
        }
        writer.finish()
        if let failure = writer.failure { throw failure }
    }
}
