import Boundary
import Glibc
import MachineState

/// A page of 4096 bytes that checkpoints share. Never changes. Held in memory, or in an index file.
final class StoredPage {
    static let size = 4096
    private var bytes: UnsafeMutableRawPointer?
    private let counter: PageCounter
    /// Where it is if it is not in memory.
    private let file: IndexPages?
    private let number: Int

    /// Copies the page at `source`.
    init(copying source: UnsafeRawPointer, _ counter: PageCounter) {
        let copy = UnsafeMutableRawPointer.allocate(byteCount: Self.size, alignment: 16)
        copy.copyMemory(from: source, byteCount: Self.size)
        bytes = copy
        self.counter = counter
        file = nil
        number = 0
        counter.pages += 1
    }
    /// Page number `number` of an index.
    init(_ file: IndexPages, _ number: Int, _ counter: PageCounter) {
        bytes = nil
        self.counter = counter
        self.file = file
        self.number = number
    }
    deinit {
        guard let bytes else { return }
        bytes.deallocate()
        counter.pages -= 1
    }

    /// The contents, until the next call for any page. A page that cannot be read from its file is all zeros, and the
    /// file remembers it.
    var contents: UnsafeRawPointer {
        if let bytes { return UnsafeRawPointer(bytes) }
        return file.unsafelyUnwrapped.read(number)
    }

    /// The contents of a page that is likely to be needed again: kept in memory from now on, if there is room.
    var contentsKept: UnsafeRawPointer {
        let contents = contents
        if bytes != nil || counter.bytes > counter.keptLimit { return contents }
        let copy = UnsafeMutableRawPointer.allocate(byteCount: Self.size, alignment: 16)
        copy.copyMemory(from: contents, byteCount: Self.size)
        bytes = copy
        counter.pages += 1
        return UnsafeRawPointer(copy)
    }

    func equals(_ other: UnsafeRawPointer) -> Bool { memcmp(contentsKept, other, Self.size) == 0 }

    static func isZero(_ page: UnsafeRawPointer) -> Bool {
        let words = page.assumingMemoryBound(to: UInt64.self)
        var any: UInt64 = 0
        for index in 0..<size / 8 {
            any |= words[index]
            if index & 63 == 63, any != 0 { return false }
        }
        return any == 0
    }
}

/// 512 pages of RAM, as references: nil is a page of zeros. What no checkpoint has changed is shared.
final class PageGroup {
    static let size = 512
    private let counter: PageCounter
    private var loaded: [StoredPage?]
    /// Where it is as long as it has not been needed.
    private var file: (pages: IndexPages, number: Int)?

    init(_ pages: [StoredPage?], _ counter: PageCounter) {
        loaded = pages
        self.counter = counter
        counter.groups += 1
    }
    /// Group number `number` of an index.
    init(_ file: IndexPages, _ number: Int, _ counter: PageCounter) {
        loaded = []
        self.file = (file, number)
        self.counter = counter
    }
    deinit { if file == nil { counter.groups -= 1 } }

    var pages: [StoredPage?] {
        if let file {
            loaded = file.pages.group(file.number)
            self.file = nil
            counter.groups += 1
        }
        return loaded
    }

    /// A copy with other pages at some places.
    func replacing(_ changes: [(index: Int, page: StoredPage?)]) -> PageGroup {
        var pages = pages
        for change in changes { pages[change.index] = change.page }
        return PageGroup(pages, counter)
    }
}

/// How much memory pages and groups take.
final class PageCounter {
    fileprivate(set) var pages = 0
    fileprivate(set) var groups = 0
    /// Bytes beyond which pages of an index are read again each time they are needed.
    var keptLimit = Int.max
    /// Bytes, with what the allocator needs.
    var bytes: Int { pages * (StoredPage.size + 64) + groups * (PageGroup.size * 8 + 64) }
}

/// Bytes that change little from one checkpoint to the next: in pages, the equal ones shared.
struct PagedBytes {
    let count: Int
    let pages: [StoredPage]

    init(count: Int, pages: [StoredPage]) {
        self.count = count
        self.pages = pages
    }

    init(_ bytes: [UInt8], like earlier: PagedBytes?, _ counter: PageCounter) {
        count = bytes.count
        var pages: [StoredPage] = []
        var padded = [UInt8](repeating: 0, count: StoredPage.size)
        for start in stride(from: 0, to: bytes.count, by: StoredPage.size) {
            let length = min(StoredPage.size, bytes.count - start)
            let page = bytes.withUnsafeBytes { raw -> StoredPage in
                guard let base = raw.baseAddress else { return StoredPage(copying: padded, counter) }
                if length == StoredPage.size {
                    if let earlier, pages.count < earlier.pages.count, earlier.pages[pages.count].equals(base + start) {
                        return earlier.pages[pages.count]
                    }
                    return StoredPage(copying: base + start, counter)
                }
                padded.replaceSubrange(0..<length, with: raw[start..<start + length])
                return StoredPage(copying: padded, counter)
            }
            pages.append(page)
        }
        self.pages = pages
    }

    var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            for (index, page) in pages.enumerated() {
                let start = index * StoredPage.size
                UnsafeMutableRawPointer(buffer.baseAddress!).advanced(by: start)
                    .copyMemory(from: page.contentsKept, byteCount: min(StoredPage.size, count - start))
            }
            initialized = count
        }
    }
}

/// A whole machine at a place, and where its replay was in the log.
final class Checkpoint {
    let place: Place
    let time: VirtualTime
    /// The number of the next event of the log.
    let event: UInt64
    let groups: [PageGroup]
    /// The machine's sections, then the door's state.
    let sections: [PagedBytes]
    /// It is in an index file, and takes no memory to speak of.
    let isFiled: Bool

    init(
        place: Place, time: VirtualTime, event: UInt64, groups: [PageGroup], sections: [PagedBytes],
        isFiled: Bool = false
    ) {
        self.isFiled = isFiled
        self.place = place
        self.time = time
        self.event = event
        self.groups = groups
        self.sections = sections
    }
}

/// Takes checkpoints of one machine and puts it back to them: only pages that differ are copied.
final class CheckpointCamera {
    private let machine: any TravelMachine
    private let door: ReplayBoundary
    let counter = PageCounter()
    private let emptyGroup: PageGroup
    /// What RAM holds, but for the pages touched since.
    private var base: Checkpoint?

    init(machine: any TravelMachine, door: ReplayBoundary) {
        self.machine = machine
        self.door = door
        emptyGroup = PageGroup(Array(repeating: nil, count: PageGroup.size), counter)
    }

    func capture() -> Checkpoint {
        var groups = base?.groups ?? []
        let count = (machine.pageCount + PageGroup.size - 1) / PageGroup.size
        while groups.count < count { groups.append(emptyGroup) }
        var changes: [Int: [(index: Int, page: StoredPage?)]] = [:]
        machine.takeTouchedPages { number in
            let source = machine.page(number)
            let (group, index) = number.quotientAndRemainder(dividingBy: PageGroup.size)
            if group >= groups.count { return }
            let old = groups[group].pages[index]
            if let old, old.equals(source) { return }
            if StoredPage.isZero(source) {
                if old != nil { changes[group, default: []].append((index, nil)) }
            } else {
                changes[group, default: []].append((index, StoredPage(copying: source, counter)))
            }
        }
        for (group, changes) in changes { groups[group] = groups[group].replacing(changes) }
        let sections = machine.saveState() + [door.saveState()]
        let checkpoint = Checkpoint(
            place: machine.place, time: machine.virtualTime, event: door.eventNumber, groups: groups,
            sections: sections.enumerated().map { index, bytes in
                PagedBytes(bytes, like: base.map { $0.sections[index] }, counter)
            })
        base = checkpoint
        return checkpoint
    }

    /// False: the checkpoint does not fit the machine.
    func restore(_ checkpoint: Checkpoint) -> Bool {
        let zeros = zeroPage
        func put(_ number: Int, _ page: StoredPage?) {
            machine.replacePage(number, from: page?.contents ?? zeros)
        }
        guard let base else { return false }
        var touched: [Int] = []
        machine.takeTouchedPages { touched.append($0) }
        for number in touched {
            let (group, index) = number.quotientAndRemainder(dividingBy: PageGroup.size)
            if group >= checkpoint.groups.count { continue }
            let page = checkpoint.groups[group].pages[index]
            machine.replacePage(number, from: page?.contentsKept ?? zeros)
        }
        for group in checkpoint.groups.indices {
            let before = group < base.groups.count ? base.groups[group] : emptyGroup
            if checkpoint.groups[group] === before { continue }
            let old = before.pages
            let new = checkpoint.groups[group].pages
            for index in 0..<PageGroup.size where old[index] !== new[index] {
                put(group * PageGroup.size + index, new[index])
            }
        }
        machine.takeTouchedPages { _ in }
        self.base = checkpoint
        let count = checkpoint.sections.count
        return machine.loadState(checkpoint.sections[..<(count - 1)].map(\.bytes))
            && door.loadState(checkpoint.sections[count - 1].bytes)
    }

    /// The same when nothing is known of what RAM holds.
    func restoreAll(_ checkpoint: Checkpoint) -> Bool {
        machine.takeTouchedPages { _ in }
        let zeros = zeroPage
        for number in 0..<machine.pageCount {
            let (group, index) = number.quotientAndRemainder(dividingBy: PageGroup.size)
            let page = group < checkpoint.groups.count ? checkpoint.groups[group].pages[index] : nil
            machine.replacePage(number, from: page?.contentsKept ?? zeros)
        }
        base = checkpoint
        return restore(checkpoint)
    }

    private lazy var zeroPage: UnsafeRawPointer = {
        let page = UnsafeMutableRawPointer.allocate(byteCount: StoredPage.size, alignment: 16)
        page.initializeMemory(as: UInt8.self, repeating: 0, count: StoredPage.size)
        return UnsafeRawPointer(page)
    }()
    deinit { zeroPage.deallocate() }
}
