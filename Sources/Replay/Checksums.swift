import CHost
import MachineState

/// CRC-32C (RFC 3720, appendix B.4).
package enum CRC32C {
    private static let portable = ReflectedCRC(polynomial: 0x82F6_3B78)

    package static func checksum(_ bytes: [UInt8]) -> UInt32 { checksum(bytes[...]) }
    package static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 { bytes.withUnsafeBytes { checksum($0) } }
    /// - Parameter isPortable: for tests: the host's own instruction is not used.
    static func checksum(_ bytes: UnsafeRawBufferPointer, isPortable: Bool = false) -> UInt32 {
        var crc = UInt32.max
        if !isPortable, chost_crc32c(&crc, bytes.baseAddress, bytes.count) == 1 { return ~crc }
        return portable.checksum(bytes)
    }
}

/// SHA-256 (FIPS 180-4): names the images a recording needs.
package struct SHA256 {
    private var state: [UInt32] = [
        0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19,
    ]

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    private static let constants: [UInt32] = {
        var primes: [UInt64] = []
        var candidate: UInt64 = 2
        while primes.count < 64 {
            if primes.allSatisfy({ candidate % $0 != 0 }) { primes.append(candidate) }
            candidate += 1
        }
        return primes.map { prime in
            // floor(cbrt(prime) * 2^32) by bisection in exact 128-bit arithmetic.
            var low: UInt64 = 0
            var high: UInt64 = 8 << 32
            while high - low > 1 {
                let middle = low + (high - low) / 2
                let square = middle.multipliedFullWidth(by: middle)
                let cubeHigh = square.high * middle + square.low.multipliedFullWidth(by: middle).high
                if cubeHigh < prime << 32 { low = middle } else { high = middle }
            }
            return UInt32(truncatingIfNeeded: low)
        }
    }()

    /// Bytes that do not fill a block yet.
    private var rest: [UInt8] = []
    private var count: UInt64 = 0

    package init() {}

    /// The digest as 64 hexadecimal digits.
    package static func hex(_ bytes: [UInt8]) -> String {
        var hash = SHA256()
        bytes.withUnsafeBytes { hash.update($0) }
        return hash.finish()
    }

    /// Adds bytes.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        count += UInt64(bytes.count)
        var offset = 0
        if !rest.isEmpty {
            offset = min(64 - rest.count, bytes.count)
            rest.append(contentsOf: bytes[..<offset])
            if rest.count < 64 { return }
            let block = rest
            rest = []
            block.withUnsafeBytes { blocks($0) }
        }
        let whole = (bytes.count - offset) / 64 * 64
        blocks(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + whole]))
        rest.append(contentsOf: bytes[(offset + whole)...])
    }

    /// The digest of all bytes so far, as 64 hexadecimal digits. Nothing may follow.
    package mutating func finish() -> String {
        var tail = rest
        tail.append(0x80)
        while tail.count % 64 != 56 { tail.append(0) }
        let bits = count * 8
        for shift in stride(from: 56, through: 0, by: -8) { tail.append(UInt8(truncatingIfNeeded: bits >> UInt64(shift))) }
        tail.withUnsafeBytes { blocks($0) }
        return state.map { word in
            let text = String(word, radix: 16)
            return String(repeating: "0", count: 8 - text.count) + text
        }.joined()
    }

    /// For tests: the host's own instructions are not used.
    package var isPortable = false

    private mutating func blocks(_ bytes: UnsafeRawBufferPointer) {
        let source = bytes.bindMemory(to: UInt8.self)
        Self.constants.withUnsafeBufferPointer { constants in
            if !isPortable, let start = source.baseAddress,
                chost_sha256(&state, start, source.count / 64, constants.baseAddress) == 1
            {
                return
            }
            var offset = 0
            while offset + 64 <= source.count {
                block(UnsafeBufferPointer(rebasing: source[offset..<offset + 64]), constants)
                offset += 64
            }
        }
    }

    private mutating func block(_ bytes: UnsafeBufferPointer<UInt8>, _ constants: UnsafeBufferPointer<UInt32>) {
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { w in
            for t in 0..<16 {
                w[t] = UInt32(bytes[t * 4]) << 24 | UInt32(bytes[t * 4 + 1]) << 16 | UInt32(bytes[t * 4 + 2]) << 8 | UInt32(bytes[t * 4 + 3])
            }
            func turn(_ x: UInt32, _ n: UInt32) -> UInt32 { x >> n | x << (32 - n) }
            for t in 16..<64 {
                let s0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ (w[t - 15] >> 3)
                let s1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ (w[t - 2] >> 10)
                w[t] = w[t - 16] &+ s0 &+ w[t - 7] &+ s1
            }
            var (a, b, c, d) = (state[0], state[1], state[2], state[3])
            var (e, f, g, h) = (state[4], state[5], state[6], state[7])
            for t in 0..<64 {
                let s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)
                let first = h &+ s1 &+ ((e & f) ^ (~e & g)) &+ constants[t] &+ w[t]
                let s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)
                let second = s0 &+ ((a & b) ^ (a & c) ^ (b & c))
                (h, g, f, e, d, c, b, a) = (g, f, e, d &+ first, c, b, a, first &+ second)
            }
            state[0] &+= a
            state[1] &+= b
            state[2] &+= c
            state[3] &+= d
            state[4] &+= e
            state[5] &+= f
            state[6] &+= g
            state[7] &+= h
        }
    }
}
