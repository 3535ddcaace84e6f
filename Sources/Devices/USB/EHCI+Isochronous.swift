import DeviceBus
import MachineState

/// Isochronous transfers (EHCI 1.0, 3.3 and 4.7). A frame's eight are done at its first look.
extension EHCI {
    private enum Transaction {
        static let active: UInt32 = 1 << 31
        static let babble: UInt32 = 1 << 29
        static let error: UInt32 = 1 << 28
        static let interrupts: UInt32 = 1 << 15
        static let lengthMask: UInt32 = 0xFFF << 16
    }
    /// The most bytes in a micro-frame.
    private static let most = 3 * 1024

    /// Does what is active of an isochronous transfer descriptor: 16 words, a transaction for each micro-frame, and seven pages.
    func serveIsochronous(_ address: UInt32, _ raised: inout UInt32) {
        let descriptor = words(address, 16)
        let endpoint = UInt8(descriptor[9] >> 8 & 15)
        let isIn = descriptor[10] & 1 << 11 != 0
        let number = port(of: UInt8(descriptor[9] & 0x7F))
        for index in 1...8 where descriptor[index] & Transaction.active != 0 {
            var transaction = descriptor[index] & ~Transaction.active
            let length = Int(transaction >> 16 & 0xFFF)
            if let number, let device = device(at: number), length <= Self.most, endpoint != 0 {
                let place = pieces(descriptor, transaction, length)
                var data: [UInt8] = []
                if !isIn {
                    for piece in place {
                        var bytes = [UInt8](repeating: 0, count: piece.count)
                        bytes.withUnsafeMutableBytes { memory.read(piece.address, into: $0) }
                        data += bytes
                    }
                }
                let transfer = USBTransfer(.isochronous, endpoint: endpoint | (isIn ? 0x80 : 0), data: data, length: isIn ? length : 0)
                switch state.wires[number].carryOutNow(transfer, device, tap: tap, slot: number + 1) {
                case .done(let bytes) where isIn && bytes.count <= length:
                    var done = 0
                    for piece in place where done < bytes.count {
                        let count = min(piece.count, bytes.count - done)
                        bytes[done..<done + count].withUnsafeBytes { memory.write(piece.address, from: $0) }
                        done += count
                    }
                    transaction = transaction & ~Transaction.lengthMask | UInt32(bytes.count) << 16
                case .done where !isIn: break
                case .done: transaction |= Transaction.babble
                default: transaction |= Transaction.error
                }
            } else {
                transaction |= Transaction.error
            }
            put(address &+ UInt32(index) * 4, [transaction][...])
            if transaction & (Transaction.babble | Transaction.error) != 0 { raised |= StatusBit.error }
            if transaction & Transaction.interrupts != 0 { raised |= StatusBit.interrupt }
        }
    }

    /// Where a transaction's bytes are: from its page and place on, over the end of a page into the next one.
    private func pieces(_ descriptor: [UInt32], _ transaction: UInt32, _ length: Int) -> [(address: UInt64, count: Int)] {
        var found: [(UInt64, Int)] = []
        var page = Int(transaction >> 12 & 7)
        var offset = Int(transaction & 0xFFF)
        var left = length
        while left > 0 {
            let count = min(4096 - offset, left)
            // There are seven; what goes on beyond them goes on in the last one.
            found.append((UInt64(descriptor[9 + min(page, 6)] & ~0xFFF) + UInt64(offset), count))
            left -= count
            (page, offset) = (page + 1, 0)
        }
        return found
    }

    /// A split transfer goes by a hub, and there is none: nobody answers (3.4).
    func failSplit(_ address: UInt32, _ raised: inout UInt32) {
        let state = words(address &+ 12, 1)[0]
        guard state & Token.active != 0 else { return }
        put(address &+ 12, [state & ~Token.active | Token.transaction][...])
        raised |= StatusBit.error
        if state & 1 << 31 != 0 { raised |= StatusBit.interrupt }
    }
}
