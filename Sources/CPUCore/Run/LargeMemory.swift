import Glibc

/// Memory from the host, which gives it when it is touched.
package enum LargeMemory {
    /// Of x86-64 and AArch64 Linux with 4 KiB pages, bytes.
    private static let largePage = 2 << 20

    /// Zeroed memory, aligned to a large page. Nothing is taken from the host before it is touched.
    /// - Parameters:
    ///   - size: bytes, a multiple of 4096.
    ///   - isDense: all of it will be used, all over: large pages spare the host's TLB.
    /// - Returns: nil when there is no address space for it.
    package static func map(_ size: Int, isDense: Bool) -> UnsafeMutableRawPointer? {
        let whole = size + largePage
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let start = mmap(nil, whole, PROT_READ | PROT_WRITE, flags, -1, 0), start != MAP_FAILED else { return nil }
        let before = -Int(bitPattern: start) & (largePage - 1)
        let memory = start + before
        if before > 0 { munmap(start, before) }
        if before < largePage { munmap(memory + size, largePage - before) }
        // Advice: without it everything works the same.
        if isDense { _ = madvise(memory, size, MADV_HUGEPAGE) }
        return memory
    }

    package static func unmap(_ memory: UnsafeMutableRawPointer, _ size: Int) { munmap(memory, size) }
}
