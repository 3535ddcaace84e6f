import Boundary
import DeviceBus
import Devices
import MachineState

/// An image as a drive's medium, and as a part of the machine's state: the image's file is only read, and what the
/// guest writes is in an overlay; or, if the user wants it so, the file itself is written.
package final class DiskImage: BlockMedium, Device {
    /// What the user decides.
    package struct Options: Sendable {
        /// The image is written; there is no overlay.
        package var isWritable = false
        /// The medium refuses writes: a CD-ROM.
        package var isReadOnly = false
        /// The contents go into the recording when they are read, because the image may be another one at the replay.
        package var isLogged = false
        /// The overlay's file; nil for memory.
        package var overlay: String?
        /// Bytes the overlay may hold.
        package var overlayLimit: UInt64 = 64 << 30
        package init() {}
    }

    package let path: String
    /// Bytes in the file.
    package let size: UInt64
    package let sectorCount: UInt64
    package let isReadOnly: Bool
    /// The drive (0...63), and the image's number in a recording.
    package let number: UInt8
    /// The file itself is written.
    package var isWritten: Bool { isWritable }
    /// The header of a recording names the image by its digest.
    package var isNamed: Bool { !isWritable && !isLogged }
    private let isWritable: Bool
    /// What is read goes into the recording: the header does not name the image by its digest.
    package let isLogged: Bool
    /// Nil in the replay of a recording that has the contents itself.
    private let source: (any DiskSource)?
    /// Asks the door for the contents: live it asks `source`, in a replay the recording. Set if `isLogged`, and inside.
    package var ask: ((_ offset: UInt64, _ buffer: UnsafeMutableRawBufferPointer) -> Void)?
    private let overlay: DiskOverlay?
    private let reports = Reports()

    /// Where the host's failures go. The overlay needs it before the image is complete.
    private final class Reports {
        var handler: (String) -> Void = { _ in }
    }

    /// The host has failed: a sentence for the user. The drive's command must fail (by an input, so that it is recorded).
    package var onFailure: (String) -> Void {
        get { reports.handler }
        set { reports.handler = newValue }
    }

    /// A raw image.
    /// - Parameter number: the drive, 0...63.
    package convenience init(path: String, number: Int, options: Options) throws(DiskError) {
        let source = try FileSource(path: path, isWritable: options.isWritable && !options.isReadOnly)
        try self.init(source, size: source.size, path: path, number: number, options: options)
    }

    /// - Parameters:
    ///   - source: where the contents are; nil if a recording has them.
    ///   - size: bytes, more than 0.
    ///   - number: the drive, 0...63.
    package init(
        _ source: (any DiskSource)?, size: UInt64, path: String, number: Int, options: Options
    ) throws(DiskError) {
        self.path = path
        self.number = UInt8(number & 63)
        self.source = source
        self.size = size
        isLogged = options.isLogged
        isReadOnly = options.isReadOnly
        isWritable = options.isWritable && !options.isReadOnly
        // A last sector (a CD-ROM's block) that is not whole is filled up with zeros.
        let block: UInt64 = options.isReadOnly ? 2048 : 512
        sectorCount = (size + block - 1) / block * (block / 512)
        let reports = self.reports
        if isReadOnly || isWritable {
            overlay = nil
        } else {
            overlay = try DiskOverlay(
                path: options.overlay, imageSize: size, limit: options.overlayLimit, report: { reports.handler($0) })
        }
    }

    /// Stands in for an image where only the drive itself matters: sectors of zeros, and no file.
    package init(standingInFor number: Int, isReadOnly: Bool) {
        path = "(no image)"
        self.number = UInt8(number & 63)
        self.isReadOnly = isReadOnly
        isWritable = false
        source = nil
        isLogged = false
        size = 0
        sectorCount = 2880
        overlay = nil
    }

    /// What the guest has written, if a checkpoint can take it by slots.
    package var slots: DiskOverlay? { overlay.flatMap { $0.isInMemory ? $0 : nil } }
    /// The overlay holds changes from an earlier run.
    package var hasChanges: Bool { (overlay?.count ?? 0) > 0 }
    /// The machine is switched off.
    package func finish() { flush() }

    // MARK: Medium

    package func read(sector: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        let start = sector &* 512
        guard let overlay, overlay.count > 0 else { return readFile(start, buffer) }
        forEachCluster(start, buffer.count) { cluster, offset, done, count in
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count])
            if overlay.contains(cluster) {
                if !overlay.read(cluster, from: offset, into: piece) { fail("read") }
            } else {
                readFile(start + UInt64(done), piece)
            }
        }
    }

    package func prepare(sector: UInt64, from buffer: UnsafeRawBufferPointer) {
        let start = sector &* 512
        if isWritable {
            let count = start >= size ? 0 : Int(min(UInt64(buffer.count), size - start))
            if let reason = source?.write(start, from: UnsafeRawBufferPointer(rebasing: buffer[..<count])) {
                reports.handler("\(path): \(reason)")
            }
            return
        }
        var new = 0
        forEachCluster(start, buffer.count) { cluster, _, _, _ in
            if overlay?.contains(cluster) == false { new += 1 }
        }
        if new > 0 { _ = overlay?.reserve(new) }
    }

    package func write(sector: UInt64, from buffer: UnsafeRawBufferPointer) {
        guard let overlay else { return }
        let start = sector &* 512
        withUnsafeTemporaryAllocation(byteCount: DiskOverlay.clusterSize, alignment: 16) { bytes in
            forEachCluster(start, buffer.count) { cluster, offset, done, count in
                if count < DiskOverlay.clusterSize {
                    if overlay.contains(cluster) {
                        _ = overlay.read(cluster, from: 0, into: bytes)
                    } else {
                        readFile(cluster * UInt64(DiskOverlay.clusterSize), bytes)
                    }
                }
                UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + count])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[done..<done + count]))
                overlay.write(cluster, UnsafeRawBufferPointer(bytes))
            }
        }
    }

    package func flush() {
        if let overlay {
            if !overlay.flush() { fail("flush") }
        } else if isWritable, let reason = source?.flush() {
            reports.handler("\(path): \(reason)")
        }
    }

    package func origin(sector: UInt64, count: Int) -> ImageOrigin? {
        if isWritable || isLogged { return nil }
        let start = sector &* 512
        // Beyond the file's end there are zeros that are not in it.
        guard start + UInt64(count * 512) <= size else { return nil }
        if let overlay, overlay.count > 0 {
            var isChanged = false
            forEachCluster(start, count * 512) { cluster, _, _, _ in
                if overlay.contains(cluster) { isChanged = true }
            }
            if isChanged { return nil }
        }
        return ImageOrigin(image: number, offset: start)
    }

    /// The pieces of a range of bytes that lie in one cluster each: cluster, offset in it, bytes before, bytes.
    private func forEachCluster(_ start: UInt64, _ length: Int, _ body: (UInt64, Int, Int, Int) -> Void) {
        var done = 0
        while done < length {
            let position = start + UInt64(done)
            let offset = Int(position % UInt64(DiskOverlay.clusterSize))
            let count = min(length - done, DiskOverlay.clusterSize - offset)
            body(position / UInt64(DiskOverlay.clusterSize), offset, done, count)
            done += count
        }
    }

    /// The image's own bytes; zeros behind its end.
    package func readFile(_ start: UInt64, _ buffer: UnsafeMutableRawBufferPointer) {
        if let ask { ask(start, buffer) } else { readSource(start, buffer) }
    }

    /// The same from the host, whoever asks.
    package func readSource(_ start: UInt64, _ buffer: UnsafeMutableRawBufferPointer) {
        let count = start >= size || source == nil ? 0 : Int(min(UInt64(buffer.count), size - start))
        if count < buffer.count {
            UnsafeMutableRawBufferPointer(rebasing: buffer[count...]).initializeMemory(as: UInt8.self, repeating: 0)
        }
        guard let source, count > 0 else { return }
        if let reason = source.read(start, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])) {
            reports.handler("\(path): \(reason)")
        }
    }

    private func fail(_ what: String) { reports.handler("\(path): the overlay's \(what) failed") }

    // MARK: As a part of the machine

    package var name: String { "disk\(number)" }
    package let regions: [Region] = []
    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 { 0 }
    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {}
    package func timerFired(_ timer: Int) {}
    /// A disk keeps its data.
    package func reset() {}
    package func visitState(_ visitor: inout StateVisitor) { overlay?.visit(&visitor) }
}
