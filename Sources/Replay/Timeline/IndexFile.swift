import Boundary
import CZstd
import Glibc
import MachineState

/// The file with a recording's checkpoints (`docs/time-travel.md`, "The index file"): pages and groups of pages, each
/// compressed by itself so that any can be read alone, then a directory, then a footer.
///
/// It is a cache: what belongs to another recording, or was written by a program that saves state otherwise, is left
/// alone, and made again when asked for.
struct IndexFile {
    /// A signature, and the format's version.
    static let magic: [UInt8] = [0x89, 0x45, 0x4D, 0x55, 0x49, 0x44, 0x58, version]
    private static let version: UInt8 = 2
    private static let footerMagic: UInt32 = 0x5844_4945
    private static let footerSize = 24
    private static let maxDirectory = 1 << 30
    /// Speed counts: a recording is indexed while someone waits.
    private static let level: Int32 = 1

    let pages: IndexPages
    let checkpoints: [Checkpoint]
    let activities: [Int: ActivitySummary]
    let endPlace: Place
    let console: [UInt8]
    let consolePositions: [Position]

    /// Everything but the pages and groups themselves.
    struct Directory {
        struct Entry {
            var position: Position = 0
            var phase: UInt32 = 0
            var time: VirtualTime = 0
            var event: UInt64 = 0
            var groups: [UInt32] = []
            var sectionSizes: [UInt32] = []
            var sectionPages: [UInt32] = []
        }
        struct Activity {
            var number: UInt64 = 0
            var bits: [UInt64] = []
        }
        var key: UInt64 = 0
        var endPosition: Position = 0
        var endPhase: UInt32 = 0
        /// Offsets in the file: page n lies from n to n + 1, and the groups follow.
        var pageOffsets: [UInt64] = []
        var pageSums: [UInt32] = []
        var groupOffsets: [UInt64] = []
        var groupSums: [UInt32] = []
        var checkpoints: [Entry] = []
        var activities: [Activity] = []
        var console: [UInt8] = []
        var consolePositions: [UInt64] = []

        mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("key", &key)
            visitor.field("endPosition", &endPosition)
            visitor.field("endPhase", &endPhase)
            visitor.field("pageOffsets", &pageOffsets)
            visitor.field("pageSums", &pageSums)
            visitor.field("groupOffsets", &groupOffsets)
            visitor.field("groupSums", &groupSums)
            visitor.list("checkpoints", &checkpoints, make: { Entry() }) { entry, visitor in
                visitor.field("position", &entry.position)
                visitor.field("phase", &entry.phase)
                visitor.field("time", &entry.time)
                visitor.field("event", &entry.event)
                visitor.field("groups", &entry.groups)
                visitor.field("sectionSizes", &entry.sectionSizes)
                visitor.field("sectionPages", &entry.sectionPages)
            }
            visitor.list("activities", &activities, make: { Activity() }) { activity, visitor in
                visitor.field("number", &activity.number)
                visitor.field("bits", &activity.bits)
            }
            visitor.field("console", &console)
            visitor.field("consolePositions", &consolePositions)
        }
    }

    // MARK: Writing

    /// One compressor for many small pieces.
    private final class Compressor {
        private let context = ZSTD_createCCtx()
        private var buffer: [UInt8] = []
        deinit { ZSTD_freeCCtx(context) }

        func compress(_ bytes: UnsafeRawBufferPointer) throws(LogError) -> [UInt8] {
            let bound = ZSTD_compressBound(bytes.count)
            if buffer.count < bound { buffer = [UInt8](repeating: 0, count: bound) }
            let size = ZSTD_compressCCtx(context, &buffer, bound, bytes.baseAddress, bytes.count, IndexFile.level)
            if ZSTD_isError(size) != 0 { throw LogError("zstd cannot compress a page") }
            return Array(buffer[..<size])
        }
    }

    private static func compress(_ bytes: [UInt8]) throws(LogError) -> [UInt8] {
        var compressed = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
        let size = ZSTD_compress(&compressed, compressed.count, bytes, bytes.count, level)
        if ZSTD_isError(size) != 0 { throw LogError("zstd cannot compress the index") }
        compressed.removeLast(compressed.count - size)
        return compressed
    }

    /// Writes a file and puts it in place when it is whole. Gives its size in bytes.
    static func write(
        _ path: String, key: UInt64, checkpoints: [Checkpoint], activities: [Int: ActivitySummary], endPlace: Place,
        transcript: Transcript?
    ) throws(LogError) -> UInt64 {
        let temporary = path + ".new"
        let file = try LogFile.create(temporary)
        var directory = Directory()
        directory.key = key
        directory.endPosition = endPlace.position
        directory.endPhase = endPlace.phase
        directory.console = transcript?.bytes ?? []
        directory.consolePositions = transcript?.positions ?? []
        var offset = UInt64(magic.count)
        var buffer = magic
        func put(_ bytes: [UInt8], _ offsets: inout [UInt64], _ sums: inout [UInt32]) throws(LogError) {
            offsets.append(offset)
            sums.append(CRC32C.checksum(bytes))
            buffer += bytes
            offset += UInt64(bytes.count)
            if buffer.count > 1 << 20 {
                try file.append(buffer)
                buffer = []
            }
        }

        let compressor = Compressor()
        // Pages are numbered from 1 in the order in which they are met; 0 is a page of zeros.
        var pageNumbers: [ObjectIdentifier: UInt32] = [:]
        func number(_ page: StoredPage?) throws(LogError) -> UInt32 {
            guard let page else { return 0 }
            if let known = pageNumbers[ObjectIdentifier(page)] { return known }
            let bytes = try compressor.compress(UnsafeRawBufferPointer(start: page.contents, count: StoredPage.size))
            try put(bytes, &directory.pageOffsets, &directory.pageSums)
            let number = UInt32(directory.pageOffsets.count)
            pageNumbers[ObjectIdentifier(page)] = number
            return number
        }
        var groupNumbers: [ObjectIdentifier: UInt32] = [:]
        var groupRecords: [[UInt32]] = []
        for checkpoint in checkpoints {
            var entry = Directory.Entry(
                position: checkpoint.place.position, phase: checkpoint.place.phase, time: checkpoint.time,
                event: checkpoint.event)
            for group in checkpoint.groups {
                if let known = groupNumbers[ObjectIdentifier(group)] {
                    entry.groups.append(known)
                    continue
                }
                var record: [UInt32] = []
                for page in group.pages { record.append(try number(page)) }
                let known = UInt32(groupRecords.count)
                groupRecords.append(record)
                groupNumbers[ObjectIdentifier(group)] = known
                entry.groups.append(known)
            }
            for section in checkpoint.sections {
                entry.sectionSizes.append(UInt32(section.count))
                for page in section.pages { entry.sectionPages.append(try number(page)) }
            }
            directory.checkpoints.append(entry)
        }
        directory.pageOffsets.append(offset)
        for record in groupRecords {
            var bytes: [UInt8] = []
            for number in record { LogLayout.put32(number, &bytes) }
            let compressed = try compress(bytes)
            try put(compressed, &directory.groupOffsets, &directory.groupSums)
        }
        directory.groupOffsets.append(offset)
        for number in activities.keys.sorted() {
            guard let activity = activities[number] else { continue }
            directory.activities.append(Directory.Activity(number: UInt64(number), bits: activity.bits))
        }

        var visitor = StateVisitor(.save)
        directory.visit(&visitor)
        let compressed = try compress(visitor.bytes)
        buffer += compressed
        LogLayout.put64(offset, &buffer)
        LogLayout.put32(UInt32(compressed.count), &buffer)
        LogLayout.put32(UInt32(visitor.bytes.count), &buffer)
        LogLayout.put32(CRC32C.checksum(compressed), &buffer)
        LogLayout.put32(footerMagic, &buffer)
        try file.append(buffer)
        guard rename(temporary, path) == 0 else {
            throw LogError("\(path): cannot be written: \(String(cString: strerror(errno)))")
        }
        return offset + UInt64(compressed.count + footerSize)
    }

    // MARK: Reading

    /// Nil: there is no file, or it is not for this key. Throws: it is damaged.
    static func open(_ path: String, key: UInt64, _ counter: PageCounter) throws(LogError) -> IndexFile? {
        guard access(path, F_OK) == 0 else { return nil }
        let file = try LogFile.read(path)
        let damaged = LogError("\(path): is damaged, or not an index")
        let size = file.size
        guard size >= UInt64(magic.count + footerSize), let start = try file.read(at: 0, count: magic.count),
            start.dropLast() == magic.dropLast()
        else { throw damaged }
        if start != magic { return nil }
        guard let footer = try file.read(at: size - UInt64(footerSize), count: footerSize),
            LogLayout.get32(footer, 20) == footerMagic
        else { throw damaged }
        let offset = LogLayout.get64(footer, 0)
        let compressedSize = Int(LogLayout.get32(footer, 8))
        let rawSize = Int(LogLayout.get32(footer, 12))
        guard rawSize <= maxDirectory, offset <= size, UInt64(compressedSize) + UInt64(footerSize) == size - offset,
            let compressed = try file.read(at: offset, count: compressedSize),
            CRC32C.checksum(compressed) == LogLayout.get32(footer, 16)
        else { throw damaged }
        var raw = [UInt8](repeating: 0, count: rawSize)
        let got = ZSTD_decompress(&raw, rawSize, compressed, compressed.count)
        guard ZSTD_isError(got) == 0, got == rawSize else { throw damaged }
        var directory = Directory()
        var visitor = StateVisitor(loading: raw)
        directory.visit(&visitor)
        guard visitor.isComplete else { throw damaged }
        if directory.key != key { return nil }
        guard let pages = IndexPages(file, directory, end: offset, counter) else { throw damaged }
        var checkpoints: [Checkpoint] = []
        for entry in directory.checkpoints {
            guard let checkpoint = pages.checkpoint(entry) else { throw damaged }
            checkpoints.append(checkpoint)
        }
        var activities: [Int: ActivitySummary] = [:]
        for activity in directory.activities {
            guard let summary = ActivitySummary(activity.bits), let number = Int(exactly: activity.number) else { throw damaged }
            activities[number] = summary
        }
        return IndexFile(
            pages: pages, checkpoints: checkpoints, activities: activities,
            endPlace: Place(directory.endPosition, phase: directory.endPhase), console: directory.console,
            consolePositions: directory.consolePositions)
    }
}

/// The pages and groups of an index, read when they are needed.
final class IndexPages {
    private let file: LogFile
    private let pageOffsets: [UInt64]
    private let pageSums: [UInt32]
    private let groupOffsets: [UInt64]
    private let groupSums: [UInt32]
    private let counter: PageCounter
    private var pages: [StoredPage?]
    private var groups: [PageGroup?]
    private let buffer = UnsafeMutableRawPointer.allocate(byteCount: StoredPage.size, alignment: 16)
    /// A page or group could not be read: what was restored since is not to be used.
    private(set) var failure: LogError?

    /// Nil: the tables contradict each other.
    init?(_ file: LogFile, _ directory: IndexFile.Directory, end: UInt64, _ counter: PageCounter) {
        func ascend(_ offsets: [UInt64]) -> Bool {
            guard let last = offsets.last, last <= end else { return false }
            for (start, next) in zip(offsets, offsets.dropFirst()) where next < start || next - start > 8192 { return false }
            return true
        }
        guard ascend(directory.pageOffsets), ascend(directory.groupOffsets),
            directory.pageSums.count + 1 == directory.pageOffsets.count,
            directory.groupSums.count + 1 == directory.groupOffsets.count
        else { return nil }
        self.file = file
        pageOffsets = directory.pageOffsets
        pageSums = directory.pageSums
        groupOffsets = directory.groupOffsets
        groupSums = directory.groupSums
        self.counter = counter
        pages = Array(repeating: nil, count: directory.pageSums.count)
        groups = Array(repeating: nil, count: directory.groupSums.count)
    }
    deinit { buffer.deallocate() }

    /// Page number `number`, counted from 1.
    private func page(_ number: UInt32) -> StoredPage? {
        let index = Int(number) - 1
        guard pages.indices.contains(index) else { return nil }
        if let known = pages[index] { return known }
        let page = StoredPage(self, index, counter)
        pages[index] = page
        return page
    }

    func checkpoint(_ entry: IndexFile.Directory.Entry) -> Checkpoint? {
        var list: [PageGroup] = []
        for number in entry.groups {
            let index = Int(number)
            guard groups.indices.contains(index) else { return nil }
            let group = groups[index] ?? PageGroup(self, index, counter)
            groups[index] = group
            list.append(group)
        }
        var sections: [PagedBytes] = []
        var used = 0
        for size in entry.sectionSizes {
            let count = (Int(size) + StoredPage.size - 1) / StoredPage.size
            guard count <= entry.sectionPages.count - used else { return nil }
            let numbers = entry.sectionPages[used..<used + count]
            let pages = numbers.compactMap { page($0) }
            guard pages.count == count else { return nil }
            sections.append(PagedBytes(count: Int(size), pages: pages))
            used += count
        }
        guard used == entry.sectionPages.count else { return nil }
        return Checkpoint(
            place: Place(entry.position, phase: entry.phase), time: entry.time, event: entry.event, groups: list,
            sections: sections, isFiled: true)
    }

    private func fail() {
        if failure == nil { failure = LogError("\(file.path): is damaged") }
    }

    /// The contents of page number `index`, counted from 0. Valid until the next call.
    func read(_ index: Int) -> UnsafeRawPointer {
        let isRead = decompress(pageOffsets[index], pageOffsets[index + 1], pageSums[index], into: buffer, StoredPage.size)
        if !isRead {
            fail()
            buffer.initializeMemory(as: UInt8.self, repeating: 0, count: StoredPage.size)
        }
        return UnsafeRawPointer(buffer)
    }

    func group(_ index: Int) -> [StoredPage?] {
        var numbers = [UInt32](repeating: 0, count: PageGroup.size)
        let isRead = numbers.withUnsafeMutableBytes {
            decompress(groupOffsets[index], groupOffsets[index + 1], groupSums[index], into: $0.baseAddress!, PageGroup.size * 4)
        }
        if !isRead {
            fail()
            return Array(repeating: nil, count: PageGroup.size)
        }
        return numbers.map { number in
            if number == 0 { return nil }
            let page = page(UInt32(littleEndian: number))
            if page == nil { fail() }
            return page
        }
    }

    private func decompress(
        _ start: UInt64, _ end: UInt64, _ sum: UInt32, into target: UnsafeMutableRawPointer, _ size: Int
    ) -> Bool {
        guard let bytes = try? file.read(at: start, count: Int(end - start)), CRC32C.checksum(bytes) == sum else {
            return false
        }
        return ZSTD_decompress(target, size, bytes, bytes.count) == size
    }
}
