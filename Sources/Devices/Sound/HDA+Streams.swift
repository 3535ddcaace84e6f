import DeviceBus
import MachineState

/// The streams: samples on their way, in virtual time.
extension HDA {
    /// The longest time between two looks at a stream, ns: while positions are written to RAM, and otherwise.
    private static let positionInterval: VirtualTime = 1_000_000, longestInterval: VirtualTime = 10_000_000
    /// The most frames that move at once. Only a damaged snapshot can ask for more.
    private static let mostFrames: UInt64 = 65_536

    /// A stream moves samples: it runs, and is not held.
    private func isMoving(_ index: Int) -> Bool { state.streams[index].isRunning && state.held & 1 << UInt32(index) == 0 }
    private func format(_ index: Int) -> HDAFormat { HDAFormat(state.streams[index].format) }

    func writeStream(_ index: Int, _ offset: Int, _ bits: Bits) {
        switch offset {
        case 0x00:
            let control = bits.into(state.streams[index].control, HDAStream.Control.writable)
            state.streams[index].status &= ~(UInt8(truncatingIfNeeded: bits.ones >> 24) & HDAStream.Status.clearable)
            changeStreams {
                if control & HDAStream.Control.reset != 0 {
                    // All else is as after power-on, until this is taken back.
                    state.streams[index] = HDAStream()
                    state.streams[index].control = HDAStream.Control.reset
                } else {
                    state.streams[index].control = control
                    let isReady = control & HDAStream.Control.run != 0
                    state.streams[index].status = state.streams[index].status & HDAStream.Status.clearable | (isReady ? HDAStream.Status.ready : 0)
                }
            }
        case 0x08: state.streams[index].length = bits.into(state.streams[index].length)
        case 0x0C: state.streams[index].last = UInt8(truncatingIfNeeded: bits.into(UInt32(state.streams[index].last), 0xFF))
        case 0x10:
            let format = UInt16(truncatingIfNeeded: bits.into(UInt32(state.streams[index].format) << 16, 0x7F7F_0000) >> 16)
            if format == state.streams[index].format { return }
            changeStreams { state.streams[index].format = format }
            // From now on at another rate.
            if isMoving(index) { begin(index) }
        case 0x18: state.streams[index].list = bits.intoLow(state.streams[index].list, ~127)
        case 0x1C: state.streams[index].list = bits.intoHigh(state.streams[index].list)
        default: break
        }
    }

    /// Lets `change` start, stop, and connect streams.
    func changeStreams(_ change: () -> Void) {
        for index in 0..<Self.streamCount { advance(index) }
        let before = (0..<Self.streamCount).map(isMoving)
        let rate = recordingRate
        change()
        for index in 0..<Self.streamCount where isMoving(index) != before[index] {
            if before[index] { scheduler.cancel(self, timer: index) } else { begin(index) }
        }
        connect(rate)
    }

    // MARK: The converters

    /// The rate at which something is being recorded; 0 if nothing is.
    var recordingRate: UInt64 { state.recording == Self.noStream ? 0 : format(Int(state.recording)).rate }

    /// Finds the stream that the ADC feeds now, and says so if it is another one than at the time when `oldRate` was the
    /// `recordingRate`.
    func connect(_ oldRate: UInt64) {
        let found = (0..<Self.inputCount).first { isMoving($0) && isConnected($0, state.codec.input) }
        let wanted = found.map { UInt8($0) } ?? Self.noStream
        if wanted == state.recording, recordingRate == oldRate { return }
        if state.recording != Self.noStream {
            tell(3, oldRate)
            state.recorded = []
        }
        state.recording = wanted
        if wanted != Self.noStream { tell(2, recordingRate) }
    }

    private func isConnected(_ index: Int, _ converter: HDACodec.Converter) -> Bool {
        let stream = state.streams[index]
        return stream.tag != 0 && stream.tag == converter.stream >> 4 && stream.format == converter.format && format(index).isPlayable
    }

    private func tell(_ message: UInt8, _ rate: UInt64, _ samples: [UInt8] = []) {
        channel.send([message] + (0..<4).map { UInt8(truncatingIfNeeded: rate >> UInt64($0 * 8)) } + samples)
    }

    // MARK: Time

    private func begin(_ index: Int) {
        state.streams[index].start = scheduler.now
        state.streams[index].done = 0
        if !state.streams[index].isLoaded { load(index) }
        schedule(index)
    }

    /// The timer comes when the buffer is done, or earlier for the position.
    private func schedule(_ index: Int) {
        let stream = state.streams[index]
        let frameSize = UInt64(format(index).frameSize)
        let left = (UInt64(stream.size &- stream.offset) + frameSize - 1) / frameSize
        let rate = format(index).rate
        let interval = state.positions & 1 != 0 ? Self.positionInterval : Self.longestInterval
        // A buffer that is longer than that is not done before.
        let frames = stream.done &+ min(max(left, 1), rate)
        let (product, isTooLong) = frames.multipliedReportingOverflow(by: 1_000_000_000)
        // Rounded up: the frames are over then.
        let end = isTooLong ? scheduler.now : stream.start &+ (product / rate) &+ 1
        scheduler.schedule(self, timer: index, at: min(end, scheduler.now &+ interval))
    }

    /// Moves the samples whose time has come.
    func advance(_ index: Int) {
        guard isMoving(index) else { return }
        let format = format(index)
        let elapsed = scheduler.now &- state.streams[index].start
        let (product, isTooLong) = elapsed.multipliedReportingOverflow(by: format.rate)
        let frames = product / 1_000_000_000
        let done = state.streams[index].done
        if isTooLong || frames < done || frames - done > Self.mostFrames { return begin(index) }
        let isDone = frames > done && move(index, Int(frames - done) * format.frameSize)
        // So that the product above stays small: whole seconds are left out.
        state.streams[index].start &+= frames / format.rate &* 1_000_000_000
        state.streams[index].done = frames % format.rate
        if isMoving(index) { schedule(index) } else { scheduler.cancel(self, timer: index) }
        if isDone { update(isNew: true) }
    }

    // MARK: Samples

    /// Moves `count` bytes. True: the guest is to be told of something.
    private func move(_ index: Int, _ count: Int) -> Bool {
        guard configuration.isBusMaster else { return false }
        let isOut = index >= Self.inputCount
        var (samples, left, empty, isEvent) = ([UInt8](), count, 0, false)
        if isOut { samples.reserveCapacity(count) }
        while left > 0 {
            if !state.streams[index].isLoaded { load(index) }
            let piece = min(left, Int(state.streams[index].size - state.streams[index].offset))
            let address = state.streams[index].address &+ UInt64(state.streams[index].offset)
            if isOut {
                let place = samples.count
                samples.append(contentsOf: repeatElement(0, count: piece))
                samples.withUnsafeMutableBytes { memory.read(address, into: UnsafeMutableRawBufferPointer(rebasing: $0[place...])) }
            } else {
                record(index, address, piece)
            }
            left -= piece
            state.streams[index].offset += UInt32(piece)
            let length = state.streams[index].length
            let (position, isOver) = state.streams[index].position.addingReportingOverflow(UInt32(piece))
            state.streams[index].position = length == 0 || !isOver && position < length ? position : (position &- length) % length
            if state.streams[index].offset == state.streams[index].size {
                if finishEntry(index) { isEvent = true }
                empty = piece == 0 ? empty + 1 : 0
                if empty > 256 {
                    // A list of nothing: the stream ends.
                    state.streams[index].status = HDAStream.Status.descriptorError
                    state.streams[index].control &= ~HDAStream.Control.run
                    isEvent = true
                    connect(recordingRate)
                    break
                }
            }
        }
        if isOut, isConnected(index, state.codec.output), !samples.isEmpty { tell(1, format(index).rate, samples) }
        if state.positions & 1 != 0 {
            let position = state.streams[index].position.littleEndian
            withUnsafeBytes(of: position) { memory.write(state.positions & ~127 &+ UInt64(index) * 8, from: $0) }
        }
        return isEvent
    }

    /// Silence where nothing has come.
    private func record(_ index: Int, _ address: UInt64, _ count: Int) {
        if count == 0 { return }
        var bytes = [UInt8](repeating: 0, count: count)
        if index == Int(state.recording) {
            let known = min(count, state.recorded.count)
            bytes.replaceSubrange(0..<known, with: state.recorded[..<known])
            state.recorded.removeFirst(known)
        }
        bytes.withUnsafeBytes { memory.write(address, from: $0) }
    }

    /// Reads the descriptor of the entry that comes (3.6.3).
    private func load(_ index: Int) {
        guard configuration.isBusMaster else { return }
        var raw: (address: UInt64, rest: UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &raw) { memory.read(state.streams[index].list &+ UInt64(state.streams[index].entry) * 16, into: $0) }
        let rest = UInt64(littleEndian: raw.rest)
        state.streams[index].address = UInt64(littleEndian: raw.address)
        state.streams[index].size = UInt32(truncatingIfNeeded: rest)
        state.streams[index].interrupts = rest >> 32 & 1 != 0
        state.streams[index].offset = 0
        state.streams[index].isLoaded = true
    }

    /// True: it asks for an interrupt.
    private func finishEntry(_ index: Int) -> Bool {
        let isEvent = state.streams[index].interrupts
        if isEvent { state.streams[index].status |= HDAStream.Status.done }
        state.streams[index].entry = state.streams[index].entry == state.streams[index].last ? 0 : state.streams[index].entry &+ 1
        load(index)
        return isEvent
    }
}
