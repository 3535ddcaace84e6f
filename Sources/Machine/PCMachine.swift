import Boundary
import CPUCore
import DeviceBus
import Devices
import GuestX86
import MachineState

/// The deterministic inside: CPU, RAM, video adapter, and at the inputs cut all other devices.
///
/// It cannot tell whether it is live, recorded or replayed: that is decided by which `HostBoundary` it is given.
package final class PCMachine {
    /// Why `run` came back.
    package enum Outcome: Sendable, Equatable {
        /// The position asked for is reached.
        case positionReached
        /// The run is over; `code` is what was written to isa-debug-exit, if that ended it.
        case ended(EndReason, code: UInt64?)
    }

    package let configuration: PCConfiguration
    package let memoryMap: MemoryMap
    package let ram: GuestRAM
    package private(set) var cpu: X86CPU
    package let vga: VGA
    /// All other devices; nil at the devices cut.
    package let board: PCBoard?
    package private(set) var clock: VirtualClock {
        get { cpu.clock }
        set { cpu.clock = newValue }
    }
    private(set) var door: any HostBoundary
    private let bus = Bus()
    private let scheduler = Scheduler()
    private let image: BootImage
    private let link: Link
    private let channels: ChannelTable
    private var parked: Divergence?
    private var powerOff: (requested: Bool, code: UInt64?) = (false, nil)
    private var resetRequested = false
    private var lastDigest: Position = 0
    /// The last moment of the run loop.
    private var seen = Moment(position: .max, time: .max)
    private var outcome: Outcome?
    /// What the guest has written to disks: checkpoints take it in pages, after those of RAM.
    let overlays: [DiskOverlay]
    /// All that the guest writes to disks is in memory, where checkpoints find it.
    package let canSaveDisks: Bool
    package var pauseSwitch: PauseSwitch?
    /// If set: the CPU stops at random places, many of them shortly before what is due, as the world outside makes it stop in a
    /// live run. Nothing may come of that.
    package var stutter: SplitMix?
    /// The moment at which nothing comes in any more.
    private var held = Moment(position: .max, time: .max)
    /// Accesses to devices that a debugger wants to hear of, and the first one of the present instruction.
    var deviceStops: [DeviceRange] = []
    var deviceAccess: DeviceAccess?
    /// The bus master that has met a watch, since the run went on.
    var dmaWriter: String?
    /// A second cut, between CPU and devices, that is recorded too.
    var mirror: Mirror? {
        didSet { link.mirrorPins = mirror?.plane.pins }
    }

    /// - Parameters:
    ///   - image: what RAM and CPU hold at power-on.
    ///   - media: the drives' images; none where the devices are outside.
    ///   - door: what stands at the boundary.
    ///   - engine: what executes the CPU's code; makes no difference to what happens.
    package init(
        configuration: PCConfiguration, image: BootImage, media: [DiskImage] = [], door: any HostBoundary,
        engine: EngineKind = .best
    ) throws(BootError) {
        self.configuration = configuration
        self.image = image
        self.door = door
        overlays = media.compactMap(\.slots)
        canSaveDisks = media.allSatisfy { $0.slots != nil || $0.isReadOnly }
        memoryMap = try MemoryMap(size: configuration.memory)
        ram = GuestRAM(
            size: Int(configuration.memory), lowLimit: MemoryMap.lowLimit, videoSize: VGA.memorySize,
            romSize: image.rom.count)
        ram.loadROM(image.rom)
        link = Link()
        cpu = X86CPU(ram: ram, bus: link, engine: engine)
        cpu.clock = VirtualClock(shift: configuration.clockShift)
        let video = UnsafeMutableRawBufferPointer(start: ram.base + ram.videoOffset, count: ram.videoSize)
        vga = VGA(
            scheduler: scheduler,
            memory: VideoMemory(video) { [unowned(unsafe) cpu, start = ram.videoOffset] in cpu.willWriteRAM(start + $0, $1) })
        scheduler.register(vga)
        bus.attach(vga)
        channels = ChannelTable(door)
        switch configuration.boundary {
        case .inputs:
            board = PCBoard(
                bus: bus, scheduler: scheduler, pins: link, memory: link, memoryMap: memoryMap,
                configuration: configuration, media: media, channel: channels.channel)
        case .devices: board = nil
        }
        link.machine = self
        cpu.setShadow(configuration.firmware != nil ? 0 : PCIHost.openShadow)
        channels.now = { [unowned self] in exactMoment }
        channels.park = { [unowned self] in park($0) }
        if board != nil {
            for disk in media where disk.isLogged {
                disk.ask = { [channels, number = disk.number] offset, buffer in channels.askDisk(number, offset, buffer) }
            }
        }
        board?.reset()
        try powerOn()
    }

    /// Puts another door in, between two runs: a replay goes live. The new one must let nothing in at this moment.
    package func replaceDoor(_ door: any HostBoundary) {
        self.door = door
        channels.door = door
    }

    // MARK: Time

    /// The present between two instructions.
    package var moment: Moment {
        Moment(position: cpu.position, time: clock.time(at: cpu.position), pc: cpu.state.pointee.core.pc)
    }
    /// The present within an instruction that accesses a device.
    private var exactMoment: Moment {
        let position = cpu.exactPosition
        return Moment(position: position, time: clock.time(at: position), pc: cpu.exactPC)
    }

    // MARK: Power

    private func powerOn() throws(BootError) {
        for blob in image.blobs {
            blob.bytes.withUnsafeBytes { cpu.dmaWrite(blob.address, from: $0) }
            zero(blob.address + UInt64(blob.bytes.count), blob.zeros)
        }
        cpu.enter(image.state)
    }

    private func zero(_ start: UInt64, _ count: UInt64) {
        let zeros = [UInt8](repeating: 0, count: 65536)
        var done: UInt64 = 0
        while done < count {
            let length = Int(min(count - done, 65536))
            zeros.withUnsafeBytes { cpu.dmaWrite(start + done, from: UnsafeRawBufferPointer(rebasing: $0[..<length])) }
            done += UInt64(length)
        }
    }

    /// The RESET pin: the kernel is loaded again, as the loader did at power-on.
    private func reset() throws(BootError) {
        resetRequested = false
        cpu.reset()
        vga.reset()
        board?.reset()
        try powerOn()
    }

    // MARK: Run loop

    /// Runs until `stop` at most. The only loop that lets anything into the machine.
    package func run(until stop: Position) throws -> Outcome {
        if let outcome { return outcome }
        while true {
            var now = moment
            // What the last instruction did to the pins, and the time of what comes.
            if let mirror { while try mirror.door.nextInput(at: now) != nil {} }
            scheduler.now = now.time
            scheduler.fireDue()
            let isHeld = now.position == held.position && now.time == held.time
            while !isHeld, let input = try door.nextInput(at: now) {
                try letIn(input)
                now = moment
            }
            if let mirror { while try mirror.door.nextInput(at: now) != nil {} }
            if let parked { throw parked }
            // Within one moment interrupts may have been taken: the end comes before them, or in the next moment.
            if !isHeld, now.position != seen.position || now.time != seen.time {
                seen = now
                if let reason = door.endRequested(at: now) { return try end(reason, code: nil) }
            }
            if powerOff.requested { return try end(.poweredOff, code: powerOff.code) }
            if resetRequested {
                if configuration.endsAtReset { return try end(.reset, code: nil) }
                try reset()
                continue
            }
            let digestPosition = door.nextDigest(after: lastDigest)
            if now.position >= digestPosition {
                lastDigest = digestPosition
                let digests = digests()
                try door.checkpoint(digests, at: now)
                try mirror?.door.checkpoint(crossing(digests), at: now)
                // A recording that ends here ends after its digest: ask again.
                seen = Moment(position: .max, time: .max)
                continue
            }
            if now.position >= stop || door.controlRequested { return .positionReached }
            if let pauseSwitch, pauseSwitch.isRequested {
                if isIdle { return .positionReached }
                // At the next place: interrupts that are due are taken first.
                cpu.debugger.stopPhase = 0
                cpu.debugger.stopPosition = now.position
            }
            var limit = min(
                min(stop, digestPosition),
                min(clock.position(atOrAfter: scheduler.nextDeadline), door.horizon(after: now)))
            if let step = stutter?.next(), limit > now.position {
                // Steps of all lengths, so that many are short; and what is due is come upon from close by.
                let longest = limit - now.position > 64 ? (step >> 8) % 14 : 3
                limit = min(limit > now.position + 64 ? limit - 16 : limit, now.position + 1 + (step >> 32) % (1 << longest))
            }
            switch cpu.run(until: max(limit, now.position + 1)) {
            case .horizon, .attention: break
            case .debugger: return .positionReached
            case .shutdown: return try end(.shutdown, code: nil)
            case .halted: if try idle() { return try end(.halted, code: nil) }
            }
        }
    }

    /// The CPU is halted: skips to what comes next. True: nothing ever will.
    private func idle() throws -> Bool {
        let now = moment
        if powerOff.requested || resetRequested || parked != nil { return false }
        let state = cpu.state.pointee
        if state.systemFlags & EFlags.if == 0, !state.nmiPending { return true }
        // An input that is due now comes before any skip.
        let deadline = scheduler.nextDeadline
        if deadline <= now.time { return false }
        let time = try door.idle(at: now, until: deadline)
        if time == .max { return true }
        if let mirror {
            mirror.plane.idleEnd = time
            _ = try mirror.door.idle(at: now, until: .max)
        }
        clock.skipped += time - now.time
        return false
    }

    /// Ends the run: the last event of a recording.
    package func end(_ reason: EndReason, code: UInt64? = nil) throws -> Outcome {
        // What ends in mid-slice (a triple fault) ends in the same state whenever the run loop was here last.
        settle()
        let digests = digests()
        try door.end(reason, digests, at: moment)
        try mirror?.door.end(reason, crossing(digests), at: moment)
        let result = Outcome.ended(reason, code: code)
        outcome = result
        return result
    }

    private func letIn(_ input: TimedInput) throws {
        switch input.input {
        case .host(let source, let bytes):
            if let channel = Channel(rawValue: source) { board?.receiver(channel)?.receive(bytes) }
        case .interruptLine(let level): cpu.state.pointee.interruptLine = level
        case .nmi: cpu.state.pointee.nmiPending = true
        case .a20(let enabled): cpu.setA20(enabled)
        case .shadow(let control): cpu.setShadow(control)
        case .videoBase(let base): cpu.setVideoBase(base)
        case .reset: resetRequested = true
        case .powerOff(let code): powerOff = (true, code)
        case .dmaWrite(let address, let bytes): bytes.withUnsafeBytes { dmaWrite(address, from: $0) }
        case .dmaRead: break
        case .edit(let edit): self.edit(edit)
        }
    }

    /// Of digests of all parts, those of the parts that a devices machine has.
    private func crossing(_ digests: [PartDigest]) -> [PartDigest] { Array(digests.prefix(4)) }

    func makeInsidePlane() -> InsidePlane? { board.map { InsidePlane(board: $0, bus: bus, scheduler: scheduler) } }

    /// The door that an access goes through: to devices that are outside, or to those inside if what crosses there is
    /// recorded. Nil: straight to the bus.
    private func door(to space: Region.Space, _ address: UInt64, at now: Moment) -> (any HostBoundary)? {
        let device = board == nil || mirror != nil ? bus.target(space, address)?.device : nil
        if board == nil, device == nil { return door }
        scheduler.now = now.time
        // The video adapter is inside at both cuts.
        return device === vga ? nil : mirror?.door
    }

    private func park(_ divergence: Divergence) {
        if parked == nil { parked = divergence }
        cpu.requestAttention()
    }

    // MARK: State

    /// Digests of all parts, in a fixed order.
    package func digests() -> [PartDigest] {
        var parts: [PartDigest] = []
        func add(_ name: String, _ visit: (inout StateVisitor) -> Void) {
            var visitor = StateVisitor(.digest)
            visit(&visitor)
            parts.append(PartDigest(part: name, digest: visitor.digest.value))
        }
        add("cpu") { cpu.visitState(&$0) }
        parts.append(PartDigest(part: "ram", digest: cpu.digestRAM()))
        add("clock") { clock.visit(&$0) }
        add("vga") { vga.visitState(&$0) }
        if let board {
            add("scheduler") { scheduler.visitState(&$0) }
            for device in board.devices { add(device.name) { device.visitState(&$0) } }
        }
        return parts
    }

    /// Every field of CPU and devices as text, for a divergence report.
    package func describe() -> [StateVisitor.Entry] {
        var visitor = StateVisitor(.describe)
        visitor.group("cpu") { cpu.visitState(&$0) }
        visitor.group("vga") { vga.visitState(&$0) }
        if let board { for device in board.devices { visitor.group(device.name) { device.visitState(&$0) } } }
        return visitor.entries
    }

    /// Name of device and register at an address, for traces. Needs no device: looks at a board built for the purpose.
    package static func registerNames() -> @Sendable (Region.Space, UInt64) -> (device: String, register: String?)? {
        { RegisterNames.shared.lookUp($0, $1) }
    }

    /// All of the inside but RAM and the video adapter, for a checkpoint: between two runs only. A load leaves the
    /// machine as it was saved, but for RAM.
    func visitTravel(_ visitor: inout StateVisitor) {
        visitor.group("cpu") { cpu.visitState(&$0) }
        visitor.field("deliveryPosition", &cpu.debugger.deliveryPosition)
        visitor.field("deliveries", &cpu.debugger.deliveries)
        clock.visit(&visitor)
        scheduler.visitState(&visitor)
        if let board {
            for device in board.devices { visitor.group(device.name) { device.visitState(&$0) } }
        }
        visitor.field("lastDigest", &lastDigest)
        visitor.field("seen.position", &seen.position)
        visitor.field("seen.time", &seen.time)
        visitor.field("resetRequested", &resetRequested)
        visitor.field("powerOff", &powerOff.requested)
        var code = powerOff.code.map { $0 &+ 1 } ?? 0
        visitor.field("powerOff.code", &code)
        if visitor.mode == .load {
            powerOff.code = code == 0 ? nil : code &- 1
            board?.pciHost.updateMappings()
        }
    }

    /// The devices' clock is set when they need it, which says when the run loop was interrupted. After a stop it is the
    /// present, so that the state at a place is the same whatever way led there.
    func settle() { scheduler.now = moment.time }

    package var isIdle: Bool { cpu.state.pointee.isHalted && !cpu.canInterrupt }
    package func holdInputs() { held = moment }

    /// A load has gone back to before the run's end.
    func forgetOutcome() {
        outcome = nil
        parked = nil
    }

    // MARK: The CPU's and the devices' surroundings

    /// Joins CPU and devices to the machine. Its own object, because the CPU needs it before the machine is complete.
    private final class Link: SystemBus, CPUPins, DMAPort {
        unowned(unsafe) var machine: PCMachine!
        /// The pins of a second cut.
        unowned(unsafe) var mirrorPins: QueuedPins?

        func portRead(_ port: UInt16, width: Int) -> UInt64 {
            machine.read(.port, UInt64(port), width, .portRead(port: port, width: UInt8(width)))
        }
        func portReadBlock(_ port: UInt16, width: Int, into buffer: UnsafeMutableRawBufferPointer) {
            machine.readBlock(port, width, buffer)
        }
        func portWrite(_ port: UInt16, width: Int, value: UInt64) {
            machine.write(
                .port, UInt64(port), width, value, .portWrite(port: port, width: UInt8(width), value: value))
        }
        func memoryRead(_ address: UInt64, width: Int) -> UInt64 {
            machine.read(.memory, address, width, .memoryRead(address: address, width: UInt8(width)))
        }
        func memoryWrite(_ address: UInt64, width: Int, value: UInt64) {
            machine.write(
                .memory, address, width, value, .memoryWrite(address: address, width: UInt8(width), value: value))
        }
        func acknowledgeInterrupt() -> UInt8 { machine.acknowledge() }

        func setInterruptLine(_ level: Bool) {
            mirrorPins?.setInterruptLine(level)
            machine.cpu.state.pointee.interruptLine = level
        }
        func raiseNMI() {
            mirrorPins?.raiseNMI()
            machine.cpu.state.pointee.nmiPending = true
        }
        func requestReset() {
            mirrorPins?.requestReset()
            machine.resetRequested = true
            machine.cpu.requestAttention()
        }
        func powerOff(code: UInt64?) {
            mirrorPins?.powerOff(code: code)
            machine.powerOff = (true, code)
            machine.cpu.requestAttention()
        }
        func setA20(_ enabled: Bool) {
            mirrorPins?.setA20(enabled)
            machine.cpu.setA20(enabled)
        }
        func setShadow(_ control: UInt64) {
            mirrorPins?.setShadow(control)
            machine.cpu.setShadow(control)
        }
        func setVideoBase(_ base: UInt64) {
            mirrorPins?.setVideoBase(base)
            machine.cpu.setVideoBase(base)
        }
        func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
            if let mirror = machine.mirror { return mirror.door.dmaRead(address, into: buffer) }
            machine.cpu.dmaRead(address, into: buffer)
        }
        func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) { write(address, from: buffer, origin: nil) }
        func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?) {
            if let mirror = machine.mirror { return mirror.door.dmaWrite(address, from: buffer, origin: origin) }
            machine.cpu.dmaWrite(address, from: buffer)
            machine.noteDMA()
        }
    }

    private func read(_ space: Region.Space, _ address: UInt64, _ width: Int, _ question: Question) -> UInt64 {
        let value = answer(space, address, width, question)
        if !deviceStops.isEmpty { noteAccess(space == .port, address, width, isWrite: false, value) }
        return value
    }

    private func answer(_ space: Region.Space, _ address: UInt64, _ width: Int, _ question: Question) -> UInt64 {
        let now = exactMoment
        guard let door = door(to: space, address, at: now) else { return bus.read(space, address, width: width) }
        do { return try door.ask(question, at: now) } catch {
            park(error)
            return 0
        }
    }

    private func readBlock(_ port: UInt16, _ width: Int, _ buffer: UnsafeMutableRawBufferPointer) {
        let now = exactMoment
        if let door = door(to: .port, UInt64(port), at: now) {
            do { _ = try door.askBlock(port: port, width: UInt8(width), into: buffer, at: now) } catch {
                park(error)
                buffer.initializeMemory(as: UInt8.self, repeating: 0)
            }
        } else {
            _ = bus.readBlock(UInt64(port), width: width, into: buffer)
        }
        if !deviceStops.isEmpty {
            let first = (0..<width).reduce(UInt64(0)) { $0 | UInt64(buffer[$1]) << UInt64($1 * 8) }
            noteAccess(true, UInt64(port), width, isWrite: false, first)
        }
    }

    private func write(_ space: Region.Space, _ address: UInt64, _ width: Int, _ value: UInt64, _ effect: Effect) {
        if !deviceStops.isEmpty { noteAccess(space == .port, address, width, isWrite: true, value) }
        let now = exactMoment
        guard let door = door(to: space, address, at: now) else {
            return bus.write(space, address, width: width, value: value)
        }
        do { try door.send(effect, at: now) } catch { park(error) }
    }

    private func acknowledge() -> UInt8 {
        let now = moment
        if let board {
            scheduler.now = now.time
            if mirror == nil { return board.localAPIC.acknowledge() }
        }
        do { return UInt8(truncatingIfNeeded: try (mirror?.door ?? door).ask(.interruptAcknowledge, at: now)) } catch {
            park(error)
            return 0xFF
        }
    }
}

/// A bus master's view of the inside's RAM, at the devices cut.
extension PCMachine: InsideMemory {
    package func dmaRead(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        cpu.dmaRead(address, into: buffer)
    }
    package func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        cpu.dmaWrite(address, from: buffer)
        noteDMA()
    }
}
