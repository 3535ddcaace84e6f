import Foundation
import TestSupport
import Testing

@testable import Boundary
@testable import GDBStub
@testable import Machine
@testable import Replay

/// Debuggers that behave badly: the server goes on for the next one.
@Suite(.serialized) struct GDBServerTests {
    private static let isGuestHere = Guest.shared != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"

    /// Serves sessions on a recording until one ends them, while `body` plays the debuggers on another thread.
    private func serve(_ body: @escaping @Sendable (UInt16) throws -> Void) throws -> [GDBServer.Ending] {
        let (timeline, machine) = try #require(RecordedRun.inputs).timeline()
        _ = try timeline.seek(to: Place(5_000_000))
        let server = try GDBServer(host: "", port: 0)
        let port = server.port
        let failure = Box()
        Thread.detachNewThread {
            do { try body(port) } catch { failure.text = "\(error)" }
        }
        var endings: [GDBServer.Ending] = []
        while endings.last != .killed, endings.count < 100 {
            endings.append(
                try server.serve {
                    GDBSession(
                        .recording(timeline), target: machine, monitor: Monitor(describeEvent: { "\($0) \($1.kind.name)" }),
                        architecture: "i386:x86-64")
                })
        }
        #expect(failure.text == nil)
        return endings
    }
    private final class Box: @unchecked Sendable { var text: String? }

    @Test(.enabled(if: isGuestHere, comment))
    func debuggersThatVanish() throws {
        let endings = try serve { port in
            // In mid-packet, in mid-checksum, after half an escape, while it runs, and without a word.
            for text in ["", "$", "$m1000", "$m1000,4#", "$m1000,4#9", "$X1000,4:}", "+$vCont;c#a8", "$bc#c5", "+++---\u{3}\u{3}"] {
                let client = try LoopbackConnection(port)
                client.send(Array(text.utf8))
                client.hangUp()
            }
            let client = try LoopbackConnection(port)
            client.send(packet: "qC")
            #expect(client.receive(until: "QC01#").contains("QC01"))
            client.send(packet: "k")
            _ = client.receive(until: "never")
        }
        #expect(endings == Array(repeating: .detached, count: 9) + [.killed])
    }

    @Test(.enabled(if: isGuestHere, comment))
    func malformedAndOversizePackets() throws {
        let endings = try serve { port in
            let client = try LoopbackConnection(port)
            client.send([UInt8(ascii: "$")] + Array(repeating: UInt8(ascii: "A"), count: 3_000_000) + Array("#00".utf8))
            #expect(client.receive(until: "-").contains("-"))
            client.send([UInt8](0...255).filter { $0 != 3 } + Array("#00".utf8))
            client.send(Array("$qC#00".utf8))
            #expect(client.receive(until: "-").contains("-"))
            var generator = TestGenerator(seed: 3)
            for _ in 0..<200 {
                // Noise in frames: k and D would end the session.
                let body = (0..<Int(generator.next() % 64)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
                if let first = body.first, "kDvcCsSbq".utf8.contains(first) { continue }
                client.send(PacketReader.frame(body))
            }
            client.send(packet: "qC")
            #expect(client.receive(until: "QC01#").contains("QC01"))
            for seek in ["seek 99999999999999999999", "seek 999999999999", "seek 5+9", "seek event 88888888", "seek time 0"] {
                client.send(packet: "qRcmd," + Hex.text(seek.utf8))
                #expect(client.receive(until: "#").contains("$"))
            }
            client.send(packet: "k")
            _ = client.receive(until: "never")
        }
        #expect(endings == [.killed])
    }

    /// The second debugger waits until the first one has gone, and loses nothing.
    @Test(.enabled(if: isGuestHere, comment))
    func twoDebuggersAtOnce() throws {
        let endings = try serve { port in
            let first = try LoopbackConnection(port)
            first.send(packet: "qRcmd," + Hex.text("seek 6000000".utf8))
            #expect(first.receive(until: "#").contains("$"))
            let second = try LoopbackConnection(port)
            second.send(packet: "qRcmd," + Hex.text("when".utf8))
            first.send(packet: "qC")
            #expect(first.receive(until: "QC01").contains("QC01"))
            first.send(packet: "D")
            first.hangUp()
            #expect(second.receive(until: "#").contains(Hex.text("position 6000000".utf8)))
            second.send(packet: "k")
            _ = second.receive(until: "never")
        }
        #expect(endings == [.detached, .killed])
    }
}

extension LoopbackConnection {
    fileprivate func send(packet: String) { send(PacketReader.frame(Array(packet.utf8))) }
}
