/// Commands of disks that are the same whatever the cable is (ATA/ATAPI-7, chapter 6).
enum ATACommand: Equatable {
    /// Sectors are read or written.
    struct Access: Equatable {
        var writes: Bool
        /// Addresses of 48 bits.
        var isExtended: Bool
        var usesDMA: Bool
        /// Several sectors an interrupt, as SET MULTIPLE MODE has said.
        var isMultiple = false
    }

    case identify
    case access(Access)
    case verify(isExtended: Bool)
    case flush
    case nativeSize(isExtended: Bool)

    /// Nil for what is none of them.
    init?(_ code: UInt8) {
        func access(writes: Bool, isExtended: Bool, usesDMA: Bool, isMultiple: Bool = false) -> ATACommand {
            .access(Access(writes: writes, isExtended: isExtended, usesDMA: usesDMA, isMultiple: isMultiple))
        }
        switch code {
        case 0xEC: self = .identify
        case 0x20, 0x21: self = access(writes: false, isExtended: false, usesDMA: false)
        case 0xC4: self = access(writes: false, isExtended: false, usesDMA: false, isMultiple: true)
        case 0x24: self = access(writes: false, isExtended: true, usesDMA: false)
        case 0x29: self = access(writes: false, isExtended: true, usesDMA: false, isMultiple: true)
        case 0xC8, 0xC9: self = access(writes: false, isExtended: false, usesDMA: true)
        case 0x25: self = access(writes: false, isExtended: true, usesDMA: true)
        case 0x30, 0x31: self = access(writes: true, isExtended: false, usesDMA: false)
        case 0xC5: self = access(writes: true, isExtended: false, usesDMA: false, isMultiple: true)
        case 0x34: self = access(writes: true, isExtended: true, usesDMA: false)
        case 0x39, 0xCE: self = access(writes: true, isExtended: true, usesDMA: false, isMultiple: true)
        case 0xCA, 0xCB: self = access(writes: true, isExtended: false, usesDMA: true)
        case 0x35, 0x3D: self = access(writes: true, isExtended: true, usesDMA: true)
        case 0x40, 0x41: self = .verify(isExtended: false)
        case 0x42: self = .verify(isExtended: true)
        case 0xE7, 0xEA: self = .flush
        case 0xF8: self = .nativeSize(isExtended: false)
        case 0x27: self = .nativeSize(isExtended: true)
        default: return nil
        }
    }

    /// It names sectors by 48 bits.
    var isExtended: Bool {
        switch self {
        case .access(let access): access.isExtended
        case .verify(let isExtended), .nativeSize(let isExtended): isExtended
        case .identify, .flush: false
        }
    }
}
