/// All translated blocks: found by PC and mode, forgotten by RAM page.
///
/// Storage is one bump-allocated arena; when it is full everything is forgotten.
package final class BlockCache {
    private static let bucketCount = 1 << 16
    /// The bit of a block's mode that tells user code.
    package static let userBit: UInt32 = 1 << 3
    private static let maxBlocks = 1 << 17
    private static let arenaBytes = 96 << 20

    /// PC → block, unordered; an entry is valid if PC and mode agree. Cleared whenever virtual addresses may mean
    /// something else.
    package let jumpCache: UnsafeMutablePointer<UnsafeMutablePointer<Block>?>
    /// The same for generated code, cleared together with it; nil without a code generator.
    package var entries: UnsafeMutablePointer<EntryTable.Entry>?
    /// Called when everything is forgotten: the memory for generated code is free again.
    package var onFlush: (() -> Void)?

    private let ram: GuestRAM
    private let blocks: UnsafeMutablePointer<Block>
    private var blockCount = 0
    private let buckets: UnsafeMutablePointer<Int32>
    private let pageHeads: UnsafeMutablePointer<Int32>
    /// Per page, one bit for every 64 bytes that hold code.
    package let codeMap: UnsafeMutablePointer<UInt64>
    private let arena: UnsafeMutableRawPointer
    /// Bytes of `blocks` and `arena` together.
    private let size: Int
    private var arenaUsed = 0

    /// Blocks translated and pages invalidated, for `--stats`.
    package private(set) var translated = 0
    package private(set) var invalidations = 0
    package private(set) var flushes = 0
    package private(set) var clears = 0
    /// Where the user's part of the jump cache holds something, the first so many places; more are only counted. A switch of
    /// address spaces mostly finds few.
    private let userSlots: UnsafeMutablePointer<Int32>
    private var userSlotCount = 0
    private static let mostUserSlots = 1024

    package init(ram: GuestRAM) {
        self.ram = ram
        jumpCache = .allocate(capacity: EntryTable.count)
        jumpCache.initialize(repeating: nil, count: EntryTable.count)
        precondition(MemoryLayout<Block>.stride == 128)
        // One block more than are kept: `temporary`.
        let blockBytes = ((Self.maxBlocks + 1) * MemoryLayout<Block>.stride + 4095) & ~4095
        size = blockBytes + Self.arenaBytes
        guard let memory = LargeMemory.map(size, isDense: true) else { preconditionFailure("no address space for translated blocks") }
        blocks = memory.bindMemory(to: Block.self, capacity: Self.maxBlocks + 1)
        arena = memory + blockBytes
        buckets = .allocate(capacity: Self.bucketCount)
        buckets.initialize(repeating: -1, count: Self.bucketCount)
        pageHeads = .allocate(capacity: ram.pageCount)
        pageHeads.initialize(repeating: -1, count: ram.pageCount)
        userSlots = .allocate(capacity: Self.mostUserSlots)
        codeMap = .allocate(capacity: ram.pageCount)
        codeMap.initialize(repeating: 0, count: ram.pageCount)
    }

    deinit {
        jumpCache.deallocate()
        LargeMemory.unmap(blocks, size)
        buckets.deallocate()
        pageHeads.deallocate()
        codeMap.deallocate()
        userSlots.deallocate()
    }

    @inlinable @inline(__always)
    package static func jumpIndex(_ pc: UInt64, _ mode: UInt32) -> Int {
        EntryTable.index(pc, mode)
    }

    package func clearJumpCache() {
        clears += 1
        userSlotCount = 0
        jumpCache.update(repeating: nil, count: EntryTable.count)
        entries?.update(repeating: EntryTable.Entry(), count: EntryTable.count)
    }

    /// Enters a block that is where its PC leads at present.
    package func enter(_ block: UnsafeMutablePointer<Block>) {
        let slot = Self.jumpIndex(block.pointee.pc, block.pointee.mode)
        if block.pointee.mode & Self.userBit != 0 {
            if userSlotCount < Self.mostUserSlots { userSlots[userSlotCount] = Int32(truncatingIfNeeded: slot) }
            userSlotCount &+= 1
        }
        jumpCache[slot] = block
    }

    /// User code may be elsewhere now, supervisor code is where it was.
    package func clearUserJumpCache() {
        let filled = userSlotCount
        userSlotCount = 0
        if filled <= Self.mostUserSlots {
            for index in 0..<filled {
                let slot = Int(userSlots[index])
                jumpCache[slot] = nil
                if let entries { entries[slot] = EntryTable.Entry() }
            }
            return
        }
        let (first, count) = (EntryTable.supervisorCount, EntryTable.userCount)
        (jumpCache + first).update(repeating: nil, count: count)
        if let entries { (entries + first).update(repeating: EntryTable.Entry(), count: count) }
    }

    /// The page of virtual addresses at `linear` no longer leads to RAM page `page`: its blocks must be looked up anew.
    package func forgetMapping(of linear: UInt64, to page: Int) {
        var link = pageHeads[page]
        while link >= 0 {
            let block = blocks + Int(link & ~Self.secondLink)
            let isSecond = link & Self.secondLink != 0
            link = isSecond ? block.pointee.nextInSecondPage : block.pointee.nextInPage
            let first = block.pointee.linear & ~0xFFF
            if (isSecond ? first &+ 4096 : first) == linear, block.pointee.mode != Block.deadMode { forget(block) }
        }
    }

    /// Takes a block out of the jump cache and the table of entries.
    private func forget(_ block: UnsafeMutablePointer<Block>) {
        let (pc, mode) = (block.pointee.pc, block.pointee.mode)
        let index = Self.jumpIndex(pc, mode)
        if jumpCache[index] == block { jumpCache[index] = nil }
        guard let entries else { return }
        let slot = EntryTable.index(pc, mode)
        if entries[slot].key == EntryTable.key(pc, mode) { entries[slot] = EntryTable.Entry() }
    }

    private func bucket(_ linear: UInt64, _ page: Int32, _ mode: UInt32) -> Int {
        let key = (linear ^ UInt64(UInt32(bitPattern: page)) << 32 ^ UInt64(mode) << 20) &* 0x9E37_79B9_7F4A_7C15
        return Int(key >> 48)
    }

    /// The block for the code at `pc` (linear address `linear`), whose first byte lies in RAM page `page`; `secondPage` says where the next
    /// virtual page lies, asked only if the block crosses into it (-1: not to be read).
    package func find(
        pc: UInt64, linear: UInt64, page: Int32, mode: UInt32, secondPage: () -> Int32
    ) -> UnsafeMutablePointer<Block>? {
        var index = buckets[bucket(linear, page, mode)]
        while index >= 0 {
            let block = blocks + Int(index)
            if block.pointee.pc == pc, block.pointee.linear == linear, block.pointee.mode == mode,
                block.pointee.page == page,
                block.pointee.secondPage < 0 || block.pointee.secondPage == secondPage()
            {
                return block
            }
            index = block.pointee.nextInBucket
        }
        return nil
    }

    /// Keeps what `builder` holds as a block. `ends`: PC after the last instruction.
    package func add(
        _ builder: BlockBuilder, endPC: UInt64, mode: UInt32, page: Int32, secondPage: Int32
    ) -> UnsafeMutablePointer<Block> {
        let need = builder.opCount * 18 + builder.instructionCount * 2 + 64
        if blockCount == Self.maxBlocks || arenaUsed + need > Self.arenaBytes { flushAll() }
        let index = Int32(blockCount)
        blockCount += 1
        translated += 1
        let block = blocks + Int(index)
        let slot = bucket(builder.linear, page, mode)
        block.initialize(
            to: place(builder, endPC: endPC, mode: mode, page: page, secondPage: secondPage))
        block.pointee.nextInBucket = buckets[slot]
        buckets[slot] = index
        block.pointee.nextInPage = pageHeads[Int(page)]
        pageHeads[Int(page)] = index
        let length = Int(endPC &- builder.startPC)
        let offset = Int(builder.linear & 0xFFF)
        watch(page, offset, min(length, 4096 - offset))
        if secondPage >= 0 {
            block.pointee.nextInSecondPage = pageHeads[Int(secondPage)]
            pageHeads[Int(secondPage)] = index | Self.secondLink
            watch(secondPage, 0, offset + length - 4096)
        }
        return block
    }

    /// A block that is executed once and not kept: valid until the next call. For blocks cut short by a horizon.
    package func temporary(_ builder: BlockBuilder, endPC: UInt64, mode: UInt32) -> UnsafeMutablePointer<Block> {
        let need = builder.opCount * 18 + builder.instructionCount * 2 + 64
        if arenaUsed + need > Self.arenaBytes || blockCount == Self.maxBlocks { flushAll() }
        let used = arenaUsed
        let block = blocks + blockCount
        block.initialize(to: place(builder, endPC: endPC, mode: mode, page: -1, secondPage: -1))
        arenaUsed = used
        return block
    }

    /// Links in a page's list that continue in the block's second-page field have this bit.
    private static let secondLink: Int32 = 1 << 30

    private func place(
        _ builder: BlockBuilder, endPC: UInt64, mode: UInt32, page: Int32, secondPage: Int32
    ) -> Block {
        arenaUsed = (arenaUsed + 15) & ~15
        let ops = (arena + arenaUsed).bindMemory(to: MicroOp.self, capacity: builder.opCount)
        ops.update(from: builder.ops, count: builder.opCount)
        arenaUsed += builder.opCount * 16
        let indices = (arena + arenaUsed).bindMemory(to: UInt16.self, capacity: builder.opCount)
        indices.update(from: builder.instructionIndex, count: builder.opCount)
        arenaUsed += builder.opCount * 2
        let offsets = (arena + arenaUsed).bindMemory(to: UInt16.self, capacity: builder.instructionCount)
        offsets.update(from: builder.pcOffsets, count: builder.instructionCount)
        arenaUsed += builder.instructionCount * 2
        return Block(
            pc: builder.startPC, endPC: endPC, linear: builder.linear, mode: mode, count: UInt32(builder.instructionCount),
            opCount: UInt32(builder.opCount), ops: ops, instructionIndex: indices, pcOffsets: offsets, page: page,
            secondPage: secondPage)
    }

    private func watch(_ page: Int32, _ offset: Int, _ length: Int) {
        if length <= 0 { return }
        let first = UInt64(offset >> 6)
        let last = UInt64((offset + length - 1) >> 6)
        codeMap[Int(page)] |= (UInt64.max << first) & (UInt64.max >> (63 - last))
        if ram.pageFlags[Int(page)] & GuestRAM.code == 0 {
            ram.pageFlags[Int(page)] |= GuestRAM.code
            newlyWatched.append(page)
        }
    }

    /// Pages whose plain right to write must be taken from all TLBs, since the last `takeNewlyWatched`.
    private var newlyWatched: [Int32] = []

    /// Calls `body` for each page that has come to hold code since the last call.
    package func takeNewlyWatched(_ body: (Int) -> Void) {
        if newlyWatched.isEmpty { return }
        for page in newlyWatched { body(Int(page)) }
        newlyWatched.removeAll(keepingCapacity: true)
    }

    /// RAM is about to be written at `offset` of `page`. Forgets the page's blocks if the bytes may be code.
    /// Returns true when something was forgotten.
    package func willWrite(page: Int, offset: Int, length: Int) -> Bool {
        let first = UInt64(offset >> 6)
        let last = UInt64(min(offset + length - 1, 4095) >> 6)
        let touched = (UInt64.max << first) & (UInt64.max >> (63 - last))
        if codeMap[page] & touched == 0 { return false }
        invalidate(page: page)
        return true
    }

    /// Forgets every block with code in `page`.
    package func invalidate(page: Int) {
        invalidations += 1
        var link = pageHeads[page]
        while link >= 0 {
            let index = link & ~Self.secondLink
            let block = blocks + Int(index)
            let isSecond = link & Self.secondLink != 0
            link = isSecond ? block.pointee.nextInSecondPage : block.pointee.nextInPage
            kill(block, index)
        }
        pageHeads[page] = -1
        codeMap[page] = 0
        ram.pageFlags[page] &= ~GuestRAM.code
    }

    /// Takes a block out of its bucket. It stays in the list of its other page, where it does no harm.
    private func kill(_ block: UnsafeMutablePointer<Block>, _ index: Int32) {
        if block.pointee.mode == Block.deadMode { return }
        if let entries, block.pointee.entry != nil {
            let slot = EntryTable.index(block.pointee.pc, block.pointee.mode)
            if entries[slot].key == EntryTable.key(block.pointee.pc, block.pointee.mode) {
                entries[slot] = EntryTable.Entry()
            }
        }
        let slot = bucket(block.pointee.linear, block.pointee.page, block.pointee.mode)
        if buckets[slot] == index {
            buckets[slot] = block.pointee.nextInBucket
        } else {
            var previous = buckets[slot]
            while previous >= 0, blocks[Int(previous)].nextInBucket != index {
                previous = blocks[Int(previous)].nextInBucket
            }
            if previous >= 0 { blocks[Int(previous)].nextInBucket = block.pointee.nextInBucket }
        }
        block.pointee.mode = Block.deadMode
    }

    /// Forgets everything.
    package func flushAll() {
        flushes += 1
        blockCount = 0
        arenaUsed = 0
        buckets.update(repeating: -1, count: Self.bucketCount)
        for page in 0..<ram.pageCount where pageHeads[page] >= 0 {
            pageHeads[page] = -1
            codeMap[page] = 0
            ram.pageFlags[page] &= ~GuestRAM.code
        }
        clearJumpCache()
        onFlush?()
    }
}
