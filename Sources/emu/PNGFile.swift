import Devices

/// A picture as a PNG file (ISO/IEC 15948): 8-bit RGB, with pieces that are stored, not compressed (RFC 1950, 1951).
enum PNGFile {
    static func bytes(_ picture: Picture) -> [UInt8] {
        var raw: [UInt8] = []
        raw.reserveCapacity(picture.height * (picture.width * 3 + 1))
        for y in 0..<picture.height {
            // The filter of each line: none.
            raw.append(0)
            for x in 0..<picture.width {
                let pixel = picture.pixels[y * picture.width + x]
                for shift in [16, 8, 0] as [UInt32] { raw.append(UInt8(truncatingIfNeeded: pixel >> shift)) }
            }
        }
        var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
        let header = big(UInt32(picture.width)) + big(UInt32(picture.height)) + [8, 2, 0, 0, 0]
        file += chunk("IHDR", header)
        file += chunk("IDAT", stored(raw))
        file += chunk("IEND", [])
        return file
    }

    private static func big(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
    }

    private static func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
        let body = Array(type.utf8) + data
        return big(UInt32(data.count)) + body + big(crc(body))
    }

    private static func stored(_ raw: [UInt8]) -> [UInt8] {
        var stream: [UInt8] = [0x78, 0x01]
        var offset = 0
        repeat {
            let count = min(raw.count - offset, 0xFFFF)
            stream.append(offset + count == raw.count ? 1 : 0)
            stream += [UInt8(count & 0xFF), UInt8(count >> 8), UInt8(~count & 0xFF), UInt8(~count >> 8 & 0xFF)]
            stream += raw[offset..<offset + count]
            offset += count
        } while offset < raw.count
        return stream + big(adler(raw))
    }

    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { crc, _ in crc & 1 != 0 ? 0xEDB8_8320 ^ crc >> 1 : crc >> 1 }
    }
    private static func crc(_ bytes: [UInt8]) -> UInt32 {
        ~bytes.reduce(UInt32.max) { table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] ^ $0 >> 8 }
    }
    private static func adler(_ bytes: [UInt8]) -> UInt32 {
        var a: UInt32 = 1
        var b: UInt32 = 0
        for byte in bytes {
            a = (a + UInt32(byte)) % 65521
            b = (b + a) % 65521
        }
        return b << 16 | a
    }
}
