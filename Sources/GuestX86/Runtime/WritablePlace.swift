import CPUCore

/// Where the TLBs give the plain right to write a RAM page, in 64 bits: above bit 16 the number of flushes of the TLBs at
/// that time, below the entry, if it is one.
enum WritablePlace {
    private static let several: UInt64 = 0xFFFF
    private static let user: UInt64 = 0x8000

    /// The entry at `index` of a TLB gives the right now, too.
    @inline(__always)
    static func note(_ place: inout UInt64, _ index: Int, isUser: Bool, epoch: UInt64) {
        let entry = UInt64(index) | (isUser ? user : 0)
        if self.epoch(place) == epoch, place & 0xFFFF != entry {
            place |= several
        } else {
            place = epoch << 16 | entry
        }
    }

    @inline(__always)
    static func epoch(_ place: UInt64) -> UInt64 { place >> 16 }

    /// Nil: there may be several.
    static func single(_ place: UInt64) -> (index: Int, isUser: Bool)? {
        place & 0xFFFF == several ? nil : (Int(place & 0x7FFF), place & user != 0)
    }
}
