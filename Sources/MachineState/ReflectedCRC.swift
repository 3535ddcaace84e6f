/// Cyclic redundancy checks of 32 bits with the lowest bit first, by tables: eight bytes a step.
package struct ReflectedCRC: @unchecked Sendable {
    /// Eight tables of 256: element t * 256 + b is what byte b does with t bytes of zeros behind it. Never changed.
    private let tables: UnsafeMutablePointer<UInt32>

    /// - Parameter polynomial: with the lowest power in bit 31. The tables stay for ever.
    package init(polynomial: UInt32) {
        tables = .allocate(capacity: 8 * 256)
        for byte in 0..<256 {
            tables[byte] = (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 != 0 ? polynomial ^ (crc >> 1) : crc >> 1 }
        }
        for index in 256..<8 * 256 {
            let before = tables[index - 256]
            tables[index] = tables[Int(before & 0xFF)] ^ (before >> 8)
        }
    }

    /// The check of bytes that begin with all ones and end inverted.
    package func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 { ~update(.max, bytes) }

    private func update(_ start: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = start
        var place = 0
        while place &+ 8 <= bytes.count {
            let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self)) ^ UInt64(crc)
            // The first byte has seven behind it.
            crc = entry(7, word) ^ entry(6, word >> 8) ^ entry(5, word >> 16) ^ entry(4, word >> 24)
            crc ^= entry(3, word >> 32) ^ entry(2, word >> 40) ^ entry(1, word >> 48) ^ entry(0, word >> 56)
            place &+= 8
        }
        while place < bytes.count {
            crc = entry(0, UInt64(crc) ^ UInt64(bytes[place])) ^ (crc >> 8)
            place &+= 1
        }
        return crc
    }

    @inline(__always)
    private func entry(_ table: Int, _ value: UInt64) -> UInt32 { tables[table << 8 | Int(value & 0xFF)] }
}
