#if arch(x86_64)
    import CHost
    import Glibc

    /// Memory for generated code, mapped twice: once to write, once to execute, never both at one address.
    package final class CodeMemory {
        package let size: Int
        /// Where code is written.
        package let writable: UnsafeMutablePointer<UInt8>
        /// Where the same bytes are executed.
        package let executable: UnsafeMutablePointer<UInt8>

        /// Nil when the host does not allow executable memory.
        /// - Parameter size: bytes, a multiple of 4096.
        package init?(size: Int) {
            guard let write = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), write != MAP_FAILED
            else { return nil }
            // An old size of 0 maps shared memory a second time.
            guard let execute = chost_map_again(write, size), mprotect(execute, size, PROT_READ | PROT_EXEC) == 0 else {
                munmap(write, size)
                return nil
            }
            self.size = size
            writable = write.assumingMemoryBound(to: UInt8.self)
            executable = execute.assumingMemoryBound(to: UInt8.self)
        }

        deinit {
            munmap(writable, size)
            munmap(executable, size)
        }
    }
#endif
