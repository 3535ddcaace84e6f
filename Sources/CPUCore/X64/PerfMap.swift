#if arch(x86_64)
    import Glibc

    /// The file in which `perf report` looks up names for generated code: `/tmp/perf-PID.map`, lines of address, size
    /// and name (Linux, tools/perf/Documentation/jit-interface.txt).
    final class PerfMap {
        let path: String
        private let file: UnsafeMutablePointer<FILE>

        /// Nil when the file cannot be written.
        init?() {
            path = "/tmp/perf-\(getpid()).map"
            guard let file = fopen(path, "w") else { return nil }
            self.file = file
        }

        deinit { fclose(file) }

        /// - Parameter size: bytes.
        func add(_ address: UInt, _ size: Int, _ name: String) {
            fputs("\(String(address, radix: 16)) \(String(size, radix: 16)) \(name)\n", file)
        }
    }
#endif
