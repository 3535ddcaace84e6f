import Glibc
import MachineState

/// What the guest has written to a disk whose image is not written: clusters of 4 KiB, in memory or in a file.
///
/// The file is a header of 4096 bytes (signature, size of the image), then records of a cluster's number plus 1 (64 bits,
/// little endian; 0 for a free record) and its 4096 bytes. A record that is cut off does not count.
package final class DiskOverlay {
    /// Bytes a cluster.
    package static let clusterSize = 4096
    private static let signature: [UInt8] = Array("EMU-OVERLAY-1\r\n\u{1A}".utf8)
    private static let recordSize = 8 + clusterSize

    private enum Place {
        /// The slot in memory.
        case memory(Int)
        /// The record's number in the file.
        case file(UInt64)
    }
    private var clusters: [UInt64: Place] = [:]
    /// Memory for clusters, and the clusters that are in it, in the order in which they came.
    private var slots: [UnsafeMutableRawPointer] = []
    private var slotClusters: [UInt64] = []
    /// Slots written since the last `takeTouchedSlots`, in the order of their first writes.
    private var touched: [Int] = []
    private var isTouched: [Bool] = []
    /// A state is saved without the clusters' bytes: whoever saves it takes them from the slots.
    package var isPaged = false
    /// The sum of the clusters' digests: the order in which they were written does not count.
    private var total: UInt64 = 0
    /// The most clusters there may be, as far as the host lets.
    private let limit: Int
    private let file: Int32?
    private var records: UInt64 = 0
    /// How many records of the file are known to have their room on the host's disk.
    private var reserved: UInt64 = 0
    private let report: (String) -> Void

    /// - Parameters:
    ///   - path: of the file; nil for memory. It is made if it is not there.
    ///   - imageSize: bytes, to know the overlay of another image.
    ///   - limit: bytes the overlay may hold at most.
    ///   - report: gets a sentence for the user when the host fails.
    package init(path: String?, imageSize: UInt64, limit: UInt64, report: @escaping (String) -> Void) throws(DiskError) {
        self.limit = Int(clamping: limit / UInt64(Self.clusterSize))
        self.report = report
        guard let path else {
            file = nil
            return
        }
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw DiskError("\(path): cannot be opened for writing: \(DiskError.reason())") }
        file = descriptor
        // Two machines that write one overlay would destroy it.
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { throw DiskError("\(path): another machine is using it") }
        try openFile(path, descriptor, imageSize)
    }

    deinit {
        for slot in slots { slot.deallocate() }
        if let file { Glibc.close(file) }
    }

    private func openFile(_ path: String, _ file: Int32, _ imageSize: UInt64) throws(DiskError) {
        var header = Self.signature + withUnsafeBytes(of: imageSize.littleEndian) { Array($0) }
        header += [UInt8](repeating: 0, count: Self.clusterSize - header.count)
        let end = lseek(file, 0, SEEK_END)
        guard end >= 0 else { throw DiskError("\(path): cannot be read: \(DiskError.reason())") }
        if end == 0 {
            guard pwrite(file, header, header.count, 0) == header.count else {
                throw DiskError("\(path): cannot be written: \(DiskError.reason())")
            }
            return
        }
        var found = [UInt8](repeating: 0, count: Self.clusterSize)
        guard pread(file, &found, found.count, 0) == found.count, found.starts(with: Self.signature) else {
            throw DiskError("\(path): is not an overlay of emu")
        }
        guard found == header else { throw DiskError("\(path): is the overlay of an image of another size") }
        let count = (UInt64(end) - UInt64(Self.clusterSize)) / UInt64(Self.recordSize)
        var record = [UInt8](repeating: 0, count: Self.recordSize)
        for index in 0..<count {
            guard pread(file, &record, record.count, offset(index)) == record.count else {
                throw DiskError("\(path): cannot be read: \(DiskError.reason())")
            }
            let stored = record.withUnsafeBytes { UInt64(littleEndian: $0.load(as: UInt64.self)) }
            if stored == 0 { continue }
            let number = stored - 1
            guard number < (imageSize + UInt64(Self.clusterSize) - 1) / UInt64(Self.clusterSize) else {
                throw DiskError("\(path): is damaged: it has a cluster beyond the image's end")
            }
            // A later record of a cluster does not happen; if it does, the last one counts.
            if clusters[number] == nil {
                total = total &+ record.withUnsafeBytes { digest(number, UnsafeRawBufferPointer(rebasing: $0[8...])) }
            }
            clusters[number] = .file(index)
        }
        records = count
        reserved = count
    }

    private func offset(_ record: UInt64) -> off_t {
        off_t(Self.clusterSize) + off_t(record) * off_t(Self.recordSize)
    }

    /// How many clusters there are.
    package var count: Int { clusters.count }

    package func contains(_ cluster: UInt64) -> Bool { clusters[cluster] != nil }

    /// Whether `count` more clusters fit. With a file, their room on the host's disk is taken.
    func reserve(_ count: Int) -> Bool {
        if clusters.count + count > limit {
            report("the overlay is full: it holds \(limit * Self.clusterSize) bytes")
            return false
        }
        guard let file, records + UInt64(count) > reserved else { return true }
        let wanted = records + UInt64(count)
        let result = posix_fallocate(file, offset(records), off_t(count) * off_t(Self.recordSize))
        if result != 0 {
            report("no room for the overlay: \(DiskError.reason(result))")
            // What was allocated in part is not a record.
            _ = ftruncate(file, offset(records))
            return false
        }
        reserved = wanted
        return true
    }

    /// Copies the bytes of a cluster that is there; false (and zeros) when the host fails.
    func read(_ cluster: UInt64, from start: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        switch clusters[cluster] {
        case .memory(let slot):
            buffer.copyMemory(from: UnsafeRawBufferPointer(start: slots[slot] + start, count: buffer.count))
            return true
        case .file(let record):
            guard let file else { return false }
            let done = pread(file, buffer.baseAddress, buffer.count, offset(record) + 8 + off_t(start))
            if done == buffer.count { return true }
            report("the overlay cannot be read: \(DiskError.reason())")
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            return false
        case nil: return false
        }
    }

    /// Sets all bytes of a cluster.
    func write(_ cluster: UInt64, _ bytes: UnsafeRawBufferPointer) {
        if contains(cluster) {
            withUnsafeTemporaryAllocation(byteCount: Self.clusterSize, alignment: 8) { old in
                _ = read(cluster, from: 0, into: old)
                total = total &- digest(cluster, UnsafeRawBufferPointer(old))
            }
        }
        total = total &+ digest(cluster, bytes)
        if case .memory(let slot) = clusters[cluster] { return fill(slot, bytes) }
        if let file, writeRecord(file, cluster, bytes) { return }
        slotClusters.append(cluster)
        clusters[cluster] = .memory(slotClusters.count - 1)
        makeSlots(slotClusters.count)
        fill(slotClusters.count - 1, bytes)
    }

    private func fill(_ slot: Int, _ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        slots[slot].copyMemory(from: source, byteCount: bytes.count)
        if isTouched[slot] { return }
        isTouched[slot] = true
        touched.append(slot)
    }

    private func makeSlots(_ count: Int) {
        while slots.count < count {
            let slot = UnsafeMutableRawPointer.allocate(byteCount: Self.clusterSize, alignment: 16)
            slot.initializeMemory(as: UInt8.self, repeating: 0, count: Self.clusterSize)
            slots.append(slot)
            isTouched.append(false)
        }
    }

    // MARK: Slots, for checkpoints

    /// Nothing is in a file: the slots are all there is.
    package var isInMemory: Bool { file == nil }
    package var slotCount: Int { slotClusters.count }
    package func slot(_ number: Int) -> UnsafeRawPointer { UnsafeRawPointer(slots[number]) }
    /// Before a state is loaded that has this slot.
    package func replaceSlot(_ number: Int, from source: UnsafeRawPointer) {
        makeSlots(number + 1)
        fill(number, UnsafeRawBufferPointer(start: source, count: Self.clusterSize))
    }
    package func takeTouchedSlots(_ body: (Int) -> Void) {
        for slot in touched {
            isTouched[slot] = false
            body(slot)
        }
        touched.removeAll(keepingCapacity: true)
    }


    private func writeRecord(_ file: Int32, _ cluster: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool {
        var record = records
        if case .file(let known) = clusters[cluster] { record = known }
        let bytesOfRecord = withUnsafeBytes(of: (cluster + 1).littleEndian) { Array($0) } + Array(bytes)
        guard pwrite(file, bytesOfRecord, bytesOfRecord.count, offset(record)) == bytesOfRecord.count else {
            report("the overlay cannot be written: \(DiskError.reason()); its changes stay in memory")
            return false
        }
        clusters[cluster] = .file(record)
        if record == records { records += 1 }
        return true
    }

    func flush() -> Bool {
        guard let file else { return true }
        if fdatasync(file) == 0 { return true }
        report("the overlay cannot be flushed: \(DiskError.reason())")
        return false
    }

    private func digest(_ cluster: UInt64, _ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var digest = StateDigest()
        digest.mix(cluster)
        digest.mix(bytes: bytes)
        return digest.value
    }

    package func visit(_ visitor: inout StateVisitor) {
        switch visitor.mode {
        case .digest, .describe:
            var count = UInt64(clusters.count)
            visitor.field("count", &count)
            visitor.field("total", &total)
        case .save where isPaged:
            visitor.field("slots", &slotClusters)
            visitor.field("total", &total)
        case .save:
            var numbers = clusters.keys.sorted()
            visitor.field("clusters", &numbers)
            withUnsafeTemporaryAllocation(byteCount: Self.clusterSize, alignment: 8) { bytes in
                for number in numbers {
                    _ = read(number, from: 0, into: bytes)
                    visitor.memory("cluster", bytes)
                }
            }
        case .load where isPaged:
            visitor.field("slots", &slotClusters)
            visitor.field("total", &total)
            makeSlots(slotClusters.count)
            clusters = [:]
            for (slot, cluster) in slotClusters.enumerated() { clusters[cluster] = .memory(slot) }
        case .load: load(&visitor)
        }
    }

    private func load(_ visitor: inout StateVisitor) {
        var numbers: [UInt64] = []
        visitor.field("clusters", &numbers)
        slotClusters = []
        clusters = [:]
        total = 0
        records = 0
        reserved = 0
        if let file { _ = ftruncate(file, off_t(Self.clusterSize)) }
        withUnsafeTemporaryAllocation(byteCount: Self.clusterSize, alignment: 8) { bytes in
            for number in numbers {
                visitor.memory("cluster", bytes)
                if visitor.failure != nil { return }
                write(number, UnsafeRawBufferPointer(bytes))
            }
        }
    }
}
