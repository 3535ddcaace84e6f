#if NBD
    import Boundary
    import CNBD
    import Glibc

    /// A disk image in a format that QEMU knows (qcow2, VMDK, VDI, …), by a qemu-nbd of our own: libnbd starts it, and it ends
    /// with the connection.
    package final class NBDSource: DiskSource {
        package struct Failure: Error, CustomStringConvertible {
            package let description: String
        }

        package let size: UInt64
        private let handle: OpaquePointer

        /// - Parameter format: as qemu-nbd's `--format`.
        package init(path: String, format: String, isWritable: Bool) throws {
            guard let handle = nbd_create() else { throw Failure(description: "libnbd: \(Self.reason)") }
            // The image's name as an option of its own: nothing in it is taken for one.
            var arguments = ["qemu-nbd", "--format=\(format)"] + (isWritable ? [] : ["--read-only"]) + ["--", path]
            if let place = Self.program { arguments[0] = place } else {
                nbd_close(handle)
                throw Failure(description: "there is no qemu-nbd: Debian's package qemu-utils has it")
            }
            var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
            defer { for pointer in pointers { free(pointer) } }
            // A name that is not there is a clearer message than a server that has gone.
            guard access(path, R_OK) == 0 else {
                nbd_close(handle)
                throw Failure(description: "\(path): cannot be opened: \(String(cString: strerror(errno)))")
            }
            guard nbd_connect_systemd_socket_activation(handle, &pointers) == 0 else {
                let reason = Self.reason
                nbd_close(handle)
                throw Failure(description: "\(path): qemu-nbd cannot open it as \(format): \(reason)")
            }
            let bytes = nbd_get_size(handle)
            guard bytes > 0 else {
                nbd_close(handle)
                throw Failure(description: "\(path): is empty")
            }
            self.handle = handle
            size = UInt64(bytes)
        }

        deinit {
            _ = nbd_shutdown(handle, 0)
            nbd_close(handle)
        }

        private static var reason: String { nbd_get_error().map { String(cString: $0) } ?? "no reason is known" }
        private static var program: String? {
            ["/usr/bin/qemu-nbd", "/usr/local/bin/qemu-nbd"].first { access($0, X_OK) == 0 }
        }
        /// The most bytes of a request that every server takes.
        private static let largest = 1 << 20

        package func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> String? {
            var done = 0
            while done < buffer.count {
                let count = min(buffer.count - done, Self.largest)
                if nbd_pread(handle, buffer.baseAddress! + done, count, offset + UInt64(done), 0) != 0 {
                    UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).initializeMemory(as: UInt8.self, repeating: 0)
                    return "cannot be read at offset \(offset + UInt64(done)): \(Self.reason)"
                }
                done += count
            }
            return nil
        }

        package func write(_ offset: UInt64, from buffer: UnsafeRawBufferPointer) -> String? {
            var done = 0
            while done < buffer.count {
                let count = min(buffer.count - done, Self.largest)
                if nbd_pwrite(handle, buffer.baseAddress! + done, count, offset + UInt64(done), 0) != 0 {
                    return "cannot be written: \(Self.reason)"
                }
                done += count
            }
            return nil
        }

        package func flush() -> String? { nbd_flush(handle, 0) == 0 ? nil : "cannot be flushed: \(Self.reason)" }
    }
#endif
