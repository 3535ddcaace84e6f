import Boundary
import Devices
import Foundation
import Machine
import Passthrough

/// The monitor of a live run: people's commands (`--monitor`) and programs' (`--qmp`). All of it but the reading of lines is
/// on the machine's thread, between two slices of the run. What changes the guest goes through the door as an input.
final class MachineMonitor {
    let machine: PCMachine
    /// The devices, on whichever side of the boundary they are.
    let board: PCBoard?
    let input: HostInput
    let disks: [DriveFile]
    let live: LiveBoundary
    let snapshots: Snapshots
    private let queue: MonitorQueue
    private let people: LineServer?
    private let programs: LineServer?
    /// Programs that have ended the negotiation.
    private var ready: Set<Int> = []
    private(set) var isStopped = false
    /// A debugger stops the machine and lets it go on; the monitor must not.
    var isDebugged = false
    /// Called again and again while the machine is stopped.
    var whileStopped: () -> Void = {}
    private var stoppedAt = ContinuousClock.now

    static let prompt = "(emu) "

    init(
        _ options: MonitorOptions, machine: PCMachine, board: PCBoard?, disks: [DriveFile], live: LiveBoundary,
        input: HostInput, isRecorded: Bool
    ) throws {
        snapshots = Snapshots(machine, isRecorded: isRecorded)
        self.machine = machine
        self.board = board
        self.disks = disks
        self.live = live
        self.input = input
        queue = MonitorQueue(live)
        people = try options.monitor.map { try LineServer($0.place, option: "--monitor") }
        programs = try options.qmp.map { try LineServer($0.place, option: "--qmp") }
        let queue = self.queue
        people?.start(
            joined: { $0.send("emu's monitor: help lists the commands\n\(Self.prompt)") },
            received: { queue.add(.init(peer: $0, text: $1, isQMP: false)) }, left: { _ in })
        programs?.start(
            joined: { $0.send(QMP.greeting + "\r\n") },
            received: { queue.add(.init(peer: $0, text: $1, isQMP: true)) }, left: { _ in })
    }

    /// Carries out what waits; while the machine is stopped, waits for more.
    func serve() {
        repeat {
            live.takeControl()
            while let request = queue.take() { carryOut(request) }
            if isStopped, !live.quitRequested {
                live.wait(nanoseconds: 20_000_000)
                whileStopped()
            }
        } while isStopped && !live.quitRequested
    }

    /// The run is over.
    func finish() { event("SHUTDOWN") }

    private func carryOut(_ request: MonitorQueue.Request) {
        if request.isQMP {
            if let answer = QMP.answer(request.text, self, isReady: ready.contains(request.peer.number), { ready.insert(request.peer.number) }) {
                request.peer.send(answer + "\r\n")
            }
            return
        }
        var answer = ""
        do { answer = try MonitorCommands.carryOut(request.text, self) } catch { answer = "\(error)" }
        if !answer.isEmpty, !answer.hasSuffix("\n") { answer += "\n" }
        request.peer.send(answer + Self.prompt)
    }

    // MARK: What both kinds of commands do

    func stop() throws {
        try refuseUnderDebugger()
        if isStopped { return }
        isStopped = true
        stoppedAt = .now
        event("STOP")
    }

    func go() throws {
        try refuseUnderDebugger()
        guard isStopped else { return }
        isStopped = false
        let (seconds, attoseconds) = (ContinuousClock.now - stoppedAt).components
        live.addPause(nanoseconds: UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
        event("RESUME")
    }

    private func refuseUnderDebugger() throws {
        if isDebugged { throw MonitorError("gdb (--gdb) stops the machine and lets it go on") }
    }

    /// Puts in another disc, which must be one of those that the run began with: a recording names its images before it
    /// begins. Nil takes the disc out.
    func change(disc path: String?) throws {
        let discs = disks.filter { $0.settings.kind == .cdrom }
        guard !discs.isEmpty else { throw MonitorError("there is no CD-ROM drive: it comes with --cdrom") }
        var number = IDEDrive.noDisc
        if let path {
            func standard(_ path: String) -> String { URL(fileURLWithPath: path).standardizedFileURL.path }
            guard let index = discs.firstIndex(where: { standard($0.image.path) == standard(path) }) else {
                throw MonitorError("\(path) is none of the discs that were given with --cdrom at the start")
            }
            number = UInt8(index)
        }
        live.push(source: Channel.disk.rawValue, bytes: [0x80 | 2, number])
    }

    func quit() { live.requestQuit() }

    /// The machine is as it was when the snapshot was taken; its clock goes on from there.
    func load(snapshot name: String) throws {
        try refuseUnderDebugger()
        live.addPause(nanoseconds: try snapshots.load(name))
    }

    func screendump(_ path: String) throws { try Screenshot.save(machine.vga, output: path, text: false) }

    private func event(_ name: String) { programs?.broadcast(QMP.event(name) + "\r\n") }
}

/// Why a command was not carried out: a sentence for the user.
struct MonitorError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
