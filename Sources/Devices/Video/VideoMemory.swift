/// The video adapter's memory: of its own, or a part of what the CPU can reach without the adapter.
package final class VideoMemory {
    /// The four planes, interleaved (byte `offset * 4 + plane`), in the first 256 KiB; all of it as one frame buffer.
    let bytes: UnsafeMutableRawPointer
    /// Bytes: a power of two, 256 KiB at least.
    let count: Int
    /// The memory is visited with the adapter; otherwise whoever has it does that.
    let isOwn: Bool
    /// Called before `count` bytes at an offset change.
    private let willWrite: ((Int, Int) -> Void)?

    /// Memory of the adapter's own.
    package init(count: Int) {
        bytes = .allocate(byteCount: count, alignment: 4096)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        self.count = count
        isOwn = true
        willWrite = nil
    }

    /// - Parameter willWrite: gets offset and count of bytes that are about to change.
    package init(_ bytes: UnsafeMutableRawBufferPointer, willWrite: @escaping (Int, Int) -> Void) {
        self.bytes = bytes.baseAddress!
        count = bytes.count
        isOwn = false
        self.willWrite = willWrite
    }

    deinit { if isOwn { bytes.deallocate() } }

    @inline(__always)
    func load<T>(_ offset: Int, as type: T.Type) -> T { bytes.loadUnaligned(fromByteOffset: offset & (count - 1), as: type) }

    @inline(__always)
    func store<T>(_ value: T, at offset: Int, as type: T.Type) {
        let place = offset & (count - 1)
        if let willWrite { willWrite(place, MemoryLayout<T>.size) }
        bytes.storeBytes(of: value, toByteOffset: place, as: type)
    }

    /// The contents after power-on: a cleared text page.
    func clear() {
        // Pages that are right already are left alone: most of the memory has never been touched.
        let words = bytes.assumingMemoryBound(to: UInt64.self)
        for word in stride(from: 0, to: count / 8, by: 512) {
            let wanted = word < VGADefaults.textWords ? VGADefaults.textWord : 0
            if (word..<word + 512).allSatisfy({ UInt64(littleEndian: words[$0]) == wanted }) { continue }
            willWrite?(word * 8, 4096)
            for index in word..<word + 512 { words[index] = wanted.littleEndian }
        }
    }
}
