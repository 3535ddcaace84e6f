import DeviceBus
import MachineState

/// The schedules: queue heads and their transfer descriptors (EHCI 1.0, 3.5, 3.6, 4.10).
extension EHCI {
    /// The most elements of a schedule that are looked at, and the most descriptors of a queue, at a time.
    private static let mostHeads = 128
    private static let mostDescriptors = 16
    /// The most bytes of a descriptor: five pages.
    private static let longest = 5 * 4096

    enum Token {
        static let statusMask: UInt32 = 0xFF
        static let babble: UInt32 = 1 << 4
        static let transaction: UInt32 = 1 << 3
        static let halted: UInt32 = 1 << 6
        static let active: UInt32 = 1 << 7
        static let interrupts: UInt32 = 1 << 15
    }

    /// A queue head (3.6), with the transfer overlay behind its first three words.
    private struct Head {
        var address: UInt32
        /// Link, characteristics, capabilities, current descriptor; next and alternate descriptor, token, five buffers.
        var words: [UInt32]

        var link: UInt32 { words[0] }
        var device: UInt8 { UInt8(words[1] & 0x7F) }
        var endpoint: UInt8 { UInt8(words[1] >> 8 & 15) }
        var speed: UInt32 { words[1] >> 12 & 3 }
        /// The descriptors say where the toggle begins.
        var takesToggle: Bool { words[1] & 1 << 14 != 0 }
        var packet: Int { Int(words[1] >> 16 & 0x7FF) }
        var token: UInt32 {
            get { words[6] }
            set { words[6] = newValue }
        }
    }

    func words(_ address: UInt32, _ count: Int) -> [UInt32] {
        var raw = [UInt32](repeating: 0, count: count)
        raw.withUnsafeMutableBytes { memory.read(UInt64(address), into: $0) }
        return raw.map { UInt32(littleEndian: $0) }
    }
    func put(_ address: UInt32, _ words: ArraySlice<UInt32>) {
        words.map(\.littleEndian).withUnsafeBytes { memory.write(UInt64(address), from: $0) }
    }

    /// One look at both schedules. Returns the time of the next one.
    func serveSchedules() -> VirtualTime {
        var raised: UInt32 = 0
        var hasMoved = false
        // When an endpoint can be offered something again.
        var next = VirtualTime.max
        if state.command & CommandBit.periodic != 0 { hasMoved = servePeriodic(&raised, &next) || hasMoved }
        if state.command & CommandBit.async != 0 { hasMoved = serveAsync(&raised, &next) || hasMoved }
        if raised != 0 { raise(raised) }
        let now = scheduler.now
        state.idleLooks = hasMoved ? 0 : min(state.idleLooks &+ 1, Self.mostIdleLooks)
        // The next micro-frame, or the next frame when there is little to do.
        let steps: VirtualTime = state.idleLooks < Self.mostIdleLooks ? 1 : 8
        let since = now &- state.since
        let boundary = state.since &+ (since / Self.microframe &+ steps) * Self.microframe
        return min(boundary, max(next, now &+ 1000))
    }

    /// The frames since the last look, of which each has its list; those that were missed are not made up for.
    private func servePeriodic(_ raised: inout UInt32, _ next: inout VirtualTime) -> Bool {
        let frame = frameIndex >> 3 & 0x3FF
        if frame == state.lastFrame { return false }
        if frame < state.lastFrame, state.lastFrame <= 0x3FF { raised |= StatusBit.rollover }
        state.lastFrame = frame
        var hasMoved = false
        var link = words(state.periodicBase &+ frame * 4, 1)[0]
        for _ in 0..<Self.mostHeads where link & 1 == 0 {
            let address = link & ~31
            let type = link >> 1 & 3
            guard type == 1 else {
                link = words(address, 1)[0]
                if type == 0 { serveIsochronous(address, &raised) }
                if type == 2 { failSplit(address, &raised) }
                continue
            }
            var head = Head(address: address, words: words(address, 12))
            if serve(&head, isPeriodic: true, &raised, &next) { hasMoved = true }
            link = head.link
        }
        return hasMoved
    }

    private func serveAsync(_ raised: inout UInt32, _ next: inout VirtualTime) -> Bool {
        var hasMoved = false
        let start = state.asyncAddress
        var address = start
        for _ in 0..<Self.mostHeads {
            var head = Head(address: address, words: words(address, 12))
            if serve(&head, isPeriodic: false, &raised, &next) { hasMoved = true }
            if head.link & 1 != 0 || head.link >> 1 & 3 != 1 { break }
            address = head.link & ~31
            // The next look begins where this one ends: at the same place, when it has gone round.
            if address == start { break }
        }
        return hasMoved
    }

    // MARK: A queue

    /// True: something was done.
    private func serve(_ head: inout Head, isPeriodic: Bool, _ raised: inout UInt32, _ next: inout VirtualTime) -> Bool {
        var hasMoved = false
        for _ in 0..<Self.mostDescriptors {
            if head.token & Token.halted != 0 { return hasMoved }
            if head.token & Token.active == 0 {
                guard advance(&head) else { return hasMoved }
            }
            guard state.command & CommandBit.run != 0, carryOut(&head, isPeriodic, &raised, &next) else { return hasMoved }
            hasMoved = true
            // One a frame, as the endpoint's interval says.
            if isPeriodic { return true }
        }
        next = min(next, scheduler.now &+ 2_000)
        return hasMoved
    }

    /// Loads the queue's next descriptor. False: there is none, or it is not active.
    private func advance(_ head: inout Head) -> Bool {
        // After a short packet the queue goes on elsewhere.
        let isShort = head.token >> 16 & 0x7FFF != 0
        let place = isShort && head.words[5] & 1 == 0 ? head.words[5] : head.words[4]
        if place & 1 != 0 { return false }
        let address = place & ~31
        let found = words(address, 8)
        guard found[2] & Token.active != 0 else { return false }
        head.words[3] = address
        head.words[4] = found[0]
        head.words[5] = found[1]
        let toggle = (head.takesToggle ? found[2] : head.token) & 1 << 31
        head.token = found[2] & ~(1 << 31) | toggle
        for index in 0..<5 { head.words[7 + index] = found[3 + index] }
        put(head.address &+ 12, head.words[3...11])
        return true
    }

    /// Offers the present descriptor to its device. False: it is not over, or the queue has halted.
    private func carryOut(_ head: inout Head, _ isPeriodic: Bool, _ raised: inout UInt32, _ next: inout VirtualTime) -> Bool {
        let packet = head.token >> 8 & 3
        let length = Int(head.token >> 16 & 0x7FFF)
        let isIn = packet == 1
        guard packet != 3, length <= Self.longest, head.speed == 2, let number = port(of: head.device), let device = device(at: number) else {
            return stop(&head, Token.transaction, &raised)
        }
        let place = UInt64(head.words[3])
        if packet == 2 {
            guard length == 8 else { return stop(&head, Token.transaction, &raised) }
            state.wires[number].begin(load(head, 8), device)
            finish(&head, 8, toggles: true, &raised)
            return true
        }
        let endpoint = head.endpoint | (isIn ? 0x80 : 0)
        let offer = state.wires[number].offer(endpoint)
        let now = scheduler.now
        if offer.due > now, !offer.isUnderWay || offer.place == place {
            next = min(next, offer.due)
            return false
        }
        let kind: USBTransfer.Kind = head.endpoint == 0 ? .control : isPeriodic ? .interrupt : .bulk
        let transfer = USBTransfer(kind, endpoint: endpoint, data: isIn ? [] : load(head, length), length: isIn ? length : 0)
        switch state.wires[number].carryOut(transfer, at: place, device, now: now, tap: tap, slot: number + 1) {
        case .waiting, .later:
            let due = state.wires[number].offer(endpoint).due
            if due > now { next = min(next, due) }
            return false
        case .stall: return stop(&head, 0, &raised)
        case .failed: return stop(&head, Token.transaction, &raised)
        case .done(let bytes):
            if isIn {
                guard bytes.count <= length else { return stop(&head, Token.babble, &raised) }
                store(bytes, head, head.endpoint == 0 ? nil : device.dataOrigin)
            }
            let count = isIn ? bytes.count : length
            let packets = head.packet > 0 ? (count + head.packet - 1) / head.packet : 1
            finish(&head, count, toggles: max(packets, 1) & 1 != 0, &raised)
            // What it took, in virtual time.
            state.wires[number].hold(endpoint, until: now &+ 2_000 &+ UInt64(count) * device.speed.nanosecondsPerByte)
            return true
        }
    }

    /// The descriptor is over, with `count` bytes moved.
    private func finish(_ head: inout Head, _ count: Int, toggles: Bool, _ raised: inout UInt32) {
        let left = UInt32(truncatingIfNeeded: Int(head.token >> 16 & 0x7FFF) - count) & 0x7FFF
        let isShort = left != 0 && head.token >> 8 & 3 == 1
        var token = head.token & ~(0x7FFF << 16 | Token.active) | left << 16
        if toggles { token ^= 1 << 31 }
        // The buffer's page and the place in it.
        let place = Int(head.words[7] & 0xFFF) + count
        let page = min(Int(token >> 12 & 7) + place / 4096, 4)
        token = token & ~(7 << 12) | UInt32(page) << 12
        head.words[7] = head.words[7] & ~0xFFF | UInt32(place & 0xFFF)
        head.token = token
        writeBack(head)
        if token & Token.interrupts != 0 || isShort { raised |= StatusBit.interrupt }
    }

    /// The queue waits for the driver. Returns false.
    private func stop(_ head: inout Head, _ bits: UInt32, _ raised: inout UInt32) -> Bool {
        head.token = head.token & ~Token.active | Token.halted | bits
        writeBack(head)
        raised |= StatusBit.error | (head.token & Token.interrupts != 0 ? StatusBit.interrupt : 0)
        return false
    }

    private func writeBack(_ head: Head) {
        put(head.address &+ 12, head.words[3...11])
        // The descriptor's token; its toggle is the queue's.
        put(head.words[3] &+ 8, head.words[6...6])
    }

    // MARK: Data

    /// Calls `body` with each page's part of the first `count` bytes of the present descriptor's buffer.
    private func pieces(_ head: Head, _ count: Int, _ body: (_ address: UInt64, _ range: Range<Int>) -> Void) {
        var page = Int(head.token >> 12 & 7)
        var offset = Int(head.words[7] & 0xFFF)
        var done = 0
        while done < count, page < 5 {
            let length = min(4096 - offset, count - done)
            body(UInt64(head.words[7 + page] & ~0xFFF) + UInt64(offset), done..<done + length)
            done += length
            (page, offset) = (page + 1, 0)
        }
    }
    private func load(_ head: Head, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { bytes in
            pieces(head, count) { memory.read($0, into: UnsafeMutableRawBufferPointer(rebasing: bytes[$1])) }
        }
        return bytes
    }
    private func store(_ bytes: [UInt8], _ head: Head, _ origin: ImageOrigin?) {
        bytes.withUnsafeBytes { bytes in
            pieces(head, bytes.count) {
                memory.write($0, from: UnsafeRawBufferPointer(rebasing: bytes[$1]), origin: origin?.advanced(by: $1.lowerBound))
            }
        }
    }

    /// The port of the device with an address, if it answers: only one that is enabled does.
    func port(of address: UInt8) -> Int? {
        devices.indices.first {
            state.ports[$0] & (PortBit.enabled | PortBit.suspended) == PortBit.enabled && state.wires[$0].address == address
                && device(at: $0) != nil
        }
    }
}
